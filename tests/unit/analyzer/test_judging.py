"""The third stage: what stands in a row, which frames leave a picture, and what the stream says of its state."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import datetime, timedelta, timezone

import cv2
import numpy as np
import pytest

from posture.analyzer.calibration import settings_of
from posture.analyzer.delivery import Delivery
from posture.analyzer.item import Item, unknown
from posture.analyzer.judging import Judging, baseline_of
from posture.analyzer.recording import Recording
from posture.errors import UserError
from posture.settings.limits import Limits
from posture.settings.table import Analyzer
from posture.verdict.rule_sets import Landmarks, calibrate
from posture.wire.frame import Identity
from posture.wire.topics import Topics
from tests.support.skeletons import seated

CAPTURED = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
RECEIVED = CAPTURED + timedelta(seconds=1)
WIDTH, HEIGHT = 320, 240
TOPICS = Topics("pi1", "farm")
OPTIONS = Analyzer(keep="all")


def person(body_deg: float) -> Landmarks:
    """Somebody who faces left, the neck upright, the back leaning forward by so many degrees."""
    points = np.zeros((33, 3))
    hip = np.array([160.0, 180.0])
    shoulder = hip + 80 * np.array([-math.sin(math.radians(body_deg)), -math.cos(math.radians(body_deg))])
    ear = shoulder + np.array([0.0, -40.0])
    points[:, :2] = hip
    points[0] = (ear[0] - 25, ear[1], 0.9)
    for left, place in ((7, ear), (11, shoulder), (23, hip)):
        points[left] = (*place, 0.9)
        points[left + 1] = (*place, 0.6)
    return Landmarks(points, WIDTH, HEIGHT)


UPRIGHT, BENT = person(5), person(45)


def an_item(seq: int, landmarks: Landmarks | None = UPRIGHT, name: str = "") -> Item:
    """The frame of a camera that takes one a second."""
    later = timedelta(seconds=seq)
    return Item(
        Delivery(b"payload", {}, RECEIVED + later, 0.0, packet_id=1, connection=1),
        Identity(name or f"frame-{seq}", CAPTURED + later, seq, "boot", "comment"),
        picture=np.full((HEIGHT, WIDTH, 3), 127, np.uint8),
        landmarks=landmarks,
    )


def judged(options: Analyzer, *poses: Landmarks | None) -> list[Item]:
    stage = Judging(options, TOPICS)
    items = [an_item(seq, pose) for seq, pose in enumerate(poses)]
    for item in items:
        stage.judge(item)
    return items


def test_a_row_says_which_frame_it_is_where_it_was_judged_and_what_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NODE_NAME", "node-a")
    (item,) = judged(OPTIONS, BENT)
    row = item.row
    assert row is not None
    assert (row.pi_id, row.frame_id, row.seq, row.boot_id) == ("pi1", "frame-0", 0, "boot")
    assert (row.captured_time, row.received_time) == (CAPTURED, RECEIVED)
    assert row.analyzed_time.tzinfo is timezone.utc
    assert (row.posture_status, row.reason, row.side, row.rule_set) == ("Bad", "body", "left", "upright")
    assert (row.neck_angle, row.body_angle) == (pytest.approx(0, abs=1e-6), pytest.approx(45))
    assert row.landmarks_detected
    assert (row.processed_by, row.schema_version) == ("node-a", 2)
    points = json.loads(row.landmarks or "")
    assert len(points) == 33
    assert points[23] == [160.0, 180.0, 0.9]


def test_a_row_with_another_frame_s_landmarks_says_whose_they_are_and_is_judged_as_any_other() -> None:
    stage = Judging(OPTIONS, TOPICS)
    measured, again = an_item(0, BENT), an_item(1, BENT)
    again.measured = measured
    for item in (measured, again):
        stage.judge(item)
    assert measured.row is not None
    assert again.row is not None
    assert (measured.row.measured_frame_id, again.row.measured_frame_id) == (None, "frame-0")
    assert again.verdict == measured.verdict
    assert again.row.landmarks == measured.row.landmarks
    assert again.jpeg is not None


def test_landmarks_count_again_only_where_the_state_stays_and_no_calibration_wants_to_see_new_ones() -> None:
    stage = Judging(OPTIONS, TOPICS)
    for seq in range(10):
        assert stage.settled is (seq > 2)
        stage.judge(an_item(seq))
    recording = Recording(6.0, 10.0, 0.0, lambda: None)
    stage.record(recording)
    assert not stage.settled
    of_another = an_item(10)
    of_another.measured = an_item(9)
    stage.judge(of_another)
    assert recording.frames == 0, "a frame that was on its way when the calibration began"
    stage.record(None)
    assert stage.settled
    stage.use(OPTIONS)
    assert not stage.settled, "rules that have judged nothing yet"


def test_angles_are_stored_as_magnitudes() -> None:
    (item,) = judged(OPTIONS, person(-30))
    assert item.verdict.body_angle == pytest.approx(-30)
    assert item.row is not None
    assert item.row.body_angle == pytest.approx(30)


def test_landmarks_are_stored_only_where_the_setting_says_so_and_somebody_was_found() -> None:
    (without,) = judged(dataclasses.replace(OPTIONS, landmarks=False), UPRIGHT)
    (nobody,) = judged(OPTIONS, None)
    assert without.row is not None
    assert nobody.row is not None
    assert (without.row.landmarks, without.row.landmarks_detected) == (None, True)
    assert (nobody.row.landmarks, nobody.row.landmarks_detected) == (None, False)
    assert (nobody.row.posture_status, nobody.row.reason) == ("Unknown", "no_person")


def test_a_frame_that_was_not_decoded_gets_a_row_with_its_reason_and_no_picture() -> None:
    item = an_item(0, None)
    item.picture, item.verdict = None, unknown("truncated", "upright")
    Judging(OPTIONS, TOPICS).judge(item)
    assert item.row is not None
    assert (item.row.posture_status, item.row.reason, item.row.filename) == ("Unknown", "truncated", "")
    assert item.jpeg is None


def test_a_frame_that_was_seen_before_gets_no_row_no_picture_and_no_message() -> None:
    item = an_item(0)
    item.again = True
    Judging(OPTIONS, TOPICS).judge(item)
    assert (item.row, item.jpeg, item.messages, item.picture) == (None, None, [], None)


def test_keep_all_draws_every_frame_and_releases_the_cameras_picture() -> None:
    items = judged(OPTIONS, UPRIGHT, None)
    for item in items:
        assert item.row is not None
        assert item.row.filename == f"{item.identity.frame_id}.jpg"
        assert item.jpeg is not None
        drawn = cv2.imdecode(np.frombuffer(item.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert drawn is not None
        assert drawn.shape[1] == WIDTH
        assert item.picture is None


def test_keep_changes_draws_only_the_frames_with_which_another_state_begins() -> None:
    items = judged(dataclasses.replace(OPTIONS, keep="changes"), *[UPRIGHT] * 6, *[BENT] * 14)
    told, begins = [""], []
    for item in items:
        if state := state_of(item):
            if state != told[-1]:
                begins.append(item.identity.frame_id)
            told.append(state)
    assert [state for state, before in zip(told[1:], told, strict=False) if state != before] == [
        "Unknown", "Good", "Bad",
    ]  # fmt: skip
    assert len(told) > 4, "an unchanged state is told again, and leaves no picture"
    assert [item.identity.frame_id for item in items if item.jpeg is not None] == begins
    assert [item.identity.frame_id for item in items if item.row is not None and item.row.filename] == begins


def test_keep_changes_draws_one_a_minute_of_what_does_not_change_and_the_rows_say_why_the_others_have_none() -> (
    None
):
    items = judged(dataclasses.replace(OPTIONS, keep="changes"), *[UPRIGHT] * 200)
    rows = [item.row for item in items if item.row is not None]
    kept = [row.seq for row in rows if row.filename]
    assert [row.seq for row in rows if not row.no_picture] == kept
    assert {row.no_picture for row in rows} == {"", "unchanged"}
    first, good, *later = kept
    assert (first, later) == (0, [good + 60, good + 120, good + 180])


def test_a_clock_that_is_set_back_or_a_camera_that_starts_anew_makes_no_picture_of_each_frame() -> None:
    stage = Judging(dataclasses.replace(OPTIONS, keep="changes"), TOPICS)
    items = []
    for number in range(40):
        item = an_item(number)
        item.identity = Identity(
            f"odd-{number}", CAPTURED - timedelta(seconds=number), 0, f"boot-{number}", "comment"
        )
        stage.judge(item)
        items.append(item)
    assert sum(item.jpeg is not None for item in items) <= 3


def state_of(item: Item) -> str:
    """The state that this frame's message tells, if it has one."""
    return next((payload["state"] for topic, payload, _ in item.messages if topic == TOPICS.state), "")


@pytest.mark.parametrize("setting", [{"keep": "none"}, {"pictures": "none"}], ids=["keep-none", "pictures-none"])
def test_keep_none_and_pictures_none_leave_no_picture_but_every_row(setting: dict[str, str]) -> None:
    items = judged(dataclasses.replace(OPTIONS, **setting), *[UPRIGHT] * 4, *[BENT] * 6)
    assert all(item.jpeg is None and item.row is not None and not item.row.filename for item in items)


def test_an_id_that_is_no_file_name_leaves_a_picture_under_a_harmless_one() -> None:
    item = an_item(0, name="../../etc/passwd")
    Judging(OPTIONS, TOPICS).judge(item)
    assert item.row is not None
    assert item.row.frame_id == "../../etc/passwd"
    assert item.row.filename.endswith(".jpg")
    assert "/" not in item.row.filename


def test_states_are_retained_and_alerts_are_not_each_on_its_topic() -> None:
    items = judged(dataclasses.replace(OPTIONS, bad_for_s=4), *[UPRIGHT] * 4, *[BENT] * 15)
    messages = [message for item in items for message in item.messages]
    assert {(topic, retain) for topic, _, retain in messages} == {
        ("farm/posture/pi1/state", True), ("farm/posture/pi1/alert", False),
    }  # fmt: skip
    (alert,) = [payload for topic, payload, _ in messages if topic == TOPICS.alert]
    assert alert["event_type"] == "bad_posture"
    assert (alert["state"], alert["reason"]) == ("Bad", "body")
    assert alert["bad_for"] >= 4
    assert messages[-1][1]["state"] == "Bad"


def test_frames_of_a_backlog_change_the_state_and_raise_no_alert() -> None:
    stage = Judging(dataclasses.replace(OPTIONS, bad_for_s=4), TOPICS)
    items = [an_item(seq, BENT) for seq in range(15)]
    for item in items:  # all of them arrive at once, so their ages fall
        item.delivery = dataclasses.replace(item.delivery, received_at=CAPTURED + timedelta(seconds=100))
        stage.judge(item)
    assert {topic for item in items for topic, _, _ in item.messages} == {TOPICS.state}
    assert [state_of(item) for item in items if state_of(item)][-1] == "Bad"


FROM_FRONT = dataclasses.replace(
    OPTIONS,
    baseline_head_height=0.534,
    baseline_shoulder_x=0.5,
    baseline_shoulder_y=0.42,
    baseline_shoulder_width=0.1375,
)


def test_a_stream_calibrated_from_the_front_says_the_rule_its_reason_and_how_far_the_head_has_sunk() -> None:
    items = judged(FROM_FRONT, *[seated(sunk=0.2)] * 12)
    row = items[-1].row
    assert row is not None
    assert (row.posture_status, row.reason, row.rule_set) == ("Bad", "head_height", "head-height")
    assert (row.neck_angle, row.body_angle, row.side) == (None, None, "")
    states = [payload for item in items for topic, payload, _ in item.messages if topic == TOPICS.state]
    assert (states[-1]["state"], states[-1]["reason"]) == ("Bad", "head_height")
    assert 0.1 < states[-1]["head_drop"] < 0.3


def test_a_moved_camera_is_told_in_the_row_and_on_the_state_topic() -> None:
    aside = seated()
    aside.points[:, 0] += 300
    items = judged(FROM_FRONT, *[aside] * 90)
    row = items[-1].row
    assert row is not None
    assert (row.posture_status, row.reason, row.rule_set) == ("Unknown", "calibrate_again", "auto")
    states = [payload for item in items for topic, payload, _ in item.messages if topic == TOPICS.state]
    assert (states[-1]["state"], states[-1]["reason"]) == ("Unknown", "calibrate_again")
    assert "calibrate again" in states[-1]["advice"]


def test_limits_of_the_settings_decide() -> None:
    (usual,) = judged(OPTIONS, person(19))
    (strict,) = judged(dataclasses.replace(OPTIONS, limits=Limits((("body", 18.0),))), person(19))
    assert usual.row is not None
    assert strict.row is not None
    assert (usual.row.posture_status, strict.row.posture_status) == ("Good", "Bad")


def test_sitting_height_without_its_calibration_is_refused() -> None:
    with pytest.raises(UserError, match="baseline_sitting_height"):
        Judging(dataclasses.replace(OPTIONS, sitting_height=True), TOPICS)


@pytest.mark.parametrize("yaw", [0, 90])
def test_what_a_calibration_gives_is_the_pose_that_a_stream_is_judged_by(yaw: int) -> None:
    calibrated = calibrate([seated(yaw=yaw)] * 6)
    rule_set, values = settings_of(calibrated)
    options = dataclasses.replace(OPTIONS, **values, rule_set=rule_set, sitting_height=yaw == 90)
    found, expected = dataclasses.asdict(baseline_of(options)), dataclasses.asdict(calibrated)
    for name, value in expected.items():
        assert found[name] == (value if value is None else pytest.approx(value, abs=0.001)), name
    (item,) = judged(options, seated(yaw=yaw))
    assert item.row is not None
    assert item.row.posture_status == "Good"
