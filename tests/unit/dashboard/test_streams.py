"""Topics become the state of every stream, whatever a broker has kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture.dashboard.streams import MOST_STREAMS, Streams
from posture.wire.preview import MOST_BYTES, Preview

NOW = 1_800_000_000.0
STATUS = {
    "state": "online",
    "instance": "a",
    "started": "2027-01-15T08:00:00+00:00",
    "host": "h",
    "delegate": "cpu",
}
CAMERA = {"state": "live", "since": "2027-01-15T07:59:00+00:00"}
POSTURE = {
    "state": "Bad", "since": "2027-01-15T07:58:00+00:00", "neck": 41.2, "body": 11.0, "head_drop": None,
    "sitting_drop": None, "away": False, "reason": "neck", "advice": "", "rule_set": "upright",
    "updated": "2027-01-15T07:59:59+00:00",
}  # fmt: skip
ACCOUNT = {
    "received": 7, "malformed": 0, "duplicate": 1, "rows": 6, "analyzed": 5, "rejected": {"truncated": 1},
    "expired": 0, "missing": 2, "good": 3, "bad": 2, "unknown": 1,
    "status": "Bad", "neck": 41.0, "body": None, "fps": 2.0,
}  # fmt: skip
FRAME = Preview("f1", "2027-01-15T07:59:59+00:00", "Bad", "neck", 41.2, 11.0, "upright")
JPEG = FRAME.into(b"\xff\xd8\xff\xe0rest")
CALIBRATION = {"at": "2027-01-15T07:00:00+00:00", "frames": 30, "rule_set": "baseline", "baseline_neck_deg": 9.0}
ANSWER = {"id": "c1", "command": "calibrate", "outcome": "refused", "reason": "the person walks", "at": "..."}


def taking(*messages: tuple[str, Any], retained: bool = True, prefix: str = "") -> Streams:
    streams = Streams(prefix)
    for topic, message in messages:
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        streams.take(topic, payload, at=NOW, retained=retained)
    return streams


ALL = (("status/pi1", STATUS), ("camera/pi1", CAMERA), ("posture/pi1/state", POSTURE), ("account/pi1", ACCOUNT))


def test_a_stream_that_is_expected_is_there_before_its_topics_and_after_they_are_cleared() -> None:
    streams = Streams()
    assert streams.expect(["hall-2", "hall-10"])
    assert [stream.condition for stream in streams.values()] == ["offline", "offline"]
    version = streams.version
    for payload in (json.dumps(STATUS).encode(), b""):
        streams.take("status/hall-2", payload, at=NOW, retained=True)
        assert "hall-2" in streams
    assert streams.changed_since(version) == ["hall-2"]
    assert not streams.expect(["hall-10", "hall-2"])
    version = streams.version
    assert streams.expect(["hall-10"])
    assert list(streams) == ["hall-10"]
    assert streams.changed_since(version) == ["hall-2"], "so that the page takes it away"


def test_a_stream_that_is_no_longer_expected_stays_as_long_as_it_speaks() -> None:
    streams = taking(("status/pi1", STATUS))
    streams.expect(["pi1"])
    streams.expect([])
    assert list(streams) == ["pi1"]


def test_a_stream_is_what_its_topics_say() -> None:
    [stream] = taking(*ALL).values()
    assert (stream.pi_id, stream.condition) == ("pi1", "bad")
    assert stream.posture is not None
    assert (stream.posture.neck, stream.posture.reason) == (41.2, "neck")
    assert stream.account is not None
    assert (stream.account.missing, stream.account.rejected) == (2, {"truncated": 1})
    # the page has not seen this frame: it is as old as its own time says
    assert stream.last_frame_at == NOW - 1


@pytest.mark.parametrize(
    ("messages", "condition"),
    [
        pytest.param(
            [("status/pi1", {**STATUS, "state": "offline", "why": "stopped"})], "offline", id="analyzer gone"
        ),
        pytest.param([("camera/pi1", {**CAMERA, "state": "silent"})], "silent", id="camera silent"),
        pytest.param([("camera/pi1", {**CAMERA, "state": "frozen"})], "frozen", id="camera frozen"),
        pytest.param(
            [("posture/pi1/state", {**POSTURE, "state": "Unknown", "away": True})], "away", id="nobody there"
        ),
        pytest.param([("posture/pi1/state", {**POSTURE, "state": "Good", "reason": ""})], "good", id="good"),
        pytest.param([("status/pi1", b"")], "offline", id="status taken back"),
    ],
)
def test_the_worst_trouble_is_the_condition(messages: list[tuple[str, Any]], condition: str) -> None:
    assert taking(*ALL, *messages)["pi1"].condition == condition


def test_a_new_account_dates_the_last_frame_and_an_unchanged_one_does_not() -> None:
    streams = taking(*ALL)
    for received, at in ((7, NOW + 5), (8, NOW + 6), (8, NOW + 9)):
        streams.take("account/pi1", json.dumps({**ACCOUNT, "received": received}).encode(), at=at, retained=False)
    assert streams["pi1"].last_frame_at == NOW + 6


def test_a_stream_whose_topics_are_cleared_is_gone_and_named_as_changed() -> None:
    streams = taking(*ALL)
    before = streams.version
    for topic, _ in ALL:
        streams.take(topic, b"", at=NOW, retained=False)
    assert list(streams) == []
    assert "pi1" in streams.changed_since(before)


def test_only_what_has_changed_is_told_again() -> None:
    streams = taking(("status/pi1", STATUS), ("status/pi2", STATUS))
    before = streams.version
    streams.take("camera/pi2", json.dumps(CAMERA).encode(), at=NOW, retained=False)
    assert streams.changed_since(before) == ["pi2"]


def test_the_farms_prefix_is_part_of_each_topic() -> None:
    assert list(taking(("lab/a/status/pi1", STATUS), ("status/pi2", STATUS), prefix="lab/a")) == ["pi1"]


@pytest.mark.parametrize(
    ("topic", "message", "why"),
    [
        pytest.param("status/pi1", b"online", "online is no JSON", id="no JSON"),
        pytest.param("status/pi1", b"[" * 100_000, "100000 bytes", id="too large"),
        pytest.param("status/pi1", b"[" * 60_000, "is no JSON", id="too deep"),
        pytest.param("status/pi1", ["online"], "is no JSON object", id="no object"),
        pytest.param("status/pi1", {**STATUS, "state": "dead"}, 'state: "dead"', id="unknown state"),
        pytest.param("status/pi1", {"state": "online"}, "instance lacks", id="field lacks"),
        pytest.param("status/Pi_1", STATUS, "Pi_1 is no stream's name", id="no stream's name"),
        pytest.param("status/" + "x" * 100, STATUS, "is no stream's name", id="long name"),
        pytest.param("camera/pi1", {**CAMERA, "since": "yesterday"}, 'since: "yesterday"', id="no time"),
        pytest.param("camera/pi1", {**CAMERA, "since": "9999-12-31T23:59:59-10:00"}, "since", id="after all time"),
        pytest.param("account/pi1", {**ACCOUNT, "rows": -1}, "rows: -1", id="negative count"),
        pytest.param("account/pi1", {**ACCOUNT, "rows": 10**400}, "rows", id="endless number"),
        pytest.param("account/pi1", {**ACCOUNT, "rejected": [1]}, "rejected", id="no map"),
        pytest.param("account/pi1", b'{"rows": NaN}', "NaN is no number", id="no number"),
        pytest.param("posture/pi1/state", {**POSTURE, "neck": "41"}, 'neck: "41"', id="text for number"),
        pytest.param("posture/pi1/state", {**POSTURE, "neck": True}, "neck: true", id="boolean for number"),
        pytest.param("posture/pi1/alert", {**POSTURE, "bad_for": 60}, "it is retained", id="retained alert"),
        pytest.param("posture/pi1/picture", JPEG, "it is retained", id="retained picture"),
        pytest.param("posture/pi1/answer", ANSWER, "it is retained", id="retained answer"),
        pytest.param("calibration/pi1", {**CALIBRATION, "frames": "x"}, "frames", id="broken calibration"),
        pytest.param("elsewhere/pi1", STATUS, "nobody here subscribes", id="foreign topic"),
    ],
)
def test_a_message_that_can_not_be_read_is_counted_named_and_changes_nothing(
    topic: str, message: Any, why: str
) -> None:
    streams = taking(*ALL, (topic, message))
    assert sum(streams.malformed.values()) == 1
    [malformed] = streams.malformed_last
    assert malformed.topic[:20] == topic[:20]
    assert why in malformed.why
    assert streams["pi1"] == taking(*ALL)["pi1"]


@pytest.mark.parametrize("payload", [b"GIF89a", b"\xff\xd8\xff\xe0rest", JPEG + b"\0" * MOST_BYTES])
def test_what_is_no_small_jpeg_is_no_picture(payload: bytes) -> None:
    streams = taking(*ALL, ("posture/pi1/picture", JPEG), ("posture/pi1/picture", payload), retained=False)
    picture = streams["pi1"].picture
    assert picture is not None
    assert (picture.jpeg, picture.frame) == (JPEG, FRAME)


def test_calibration_and_answer_are_kept_with_the_stream() -> None:
    streams = taking(*ALL, ("calibration/pi1", CALIBRATION))
    streams.take("posture/pi1/answer", json.dumps(ANSWER).encode(), at=NOW, retained=False)
    stream = streams["pi1"]
    assert stream.calibration is not None
    assert stream.calibration.frames == 30
    assert stream.reply is not None
    assert (stream.reply.answer.outcome, stream.reply.answer.reason) == ("refused", "the person walks")


def test_names_of_strangers_do_not_fill_the_memory() -> None:
    streams = taking(*((f"status/x{number}", STATUS) for number in range(MOST_STREAMS + 100)))
    assert len(streams) == MOST_STREAMS
    assert streams.malformed["status/+"] == 100
    assert len(streams.malformed_last) < 100


@given(
    st.sampled_from([*(topic for topic, _ in ALL), "posture/pi1/alert", "posture/pi1/answer", "calibration/pi1"]),
    st.one_of(
        st.binary(max_size=60),
        st.dictionaries(
            st.sampled_from([*STATUS, *ACCOUNT, *POSTURE, "bad_for"]),
            st.one_of(
                st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.lists(st.none())
            ),
        ).map(lambda fields: json.dumps(fields).encode()),
    ),
    st.booleans(),
)
def test_no_message_breaks_it(topic: str, payload: bytes, retained: bool) -> None:
    streams = taking(*ALL)
    streams.take(topic, payload, at=NOW, retained=retained)
    assert all(stream.condition for stream in streams.values())
