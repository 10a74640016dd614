"""An operator calibrates and snoozes a running analyzer over a real broker; what is no command harms nobody."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from farm import Analyzer, Camera, Watcher, clip_jpegs, ended, noise_jpeg
from identities import Client
from servers import Mosquitto

CLIP = clip_jpegs(190)
STILL, WALKING, BENT = CLIP[36:40], CLIP[24:140:3], CLIP[156:157]
STATE = ("state", "reason", "rule_set", "snoozed_until")
NOBODY = [noise_jpeg(seed, 160, 120) for seed in range(3)]


class Filming:
    """A camera of ten frames a second, in a thread, until it is told to stop."""

    def __init__(self, port: int, pictures: Sequence[bytes]) -> None:
        self.camera, self._stop = Camera(port), threading.Event()
        self._pictures = pictures
        self._thread = threading.Thread(target=self._film)

    def _film(self) -> None:
        number = 0
        while not self._stop.wait(0.1):
            self.camera.publish(self._pictures[number % len(self._pictures)])
            number += 1

    def __enter__(self) -> Camera:
        self._thread.start()
        return self.camera

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.camera.close()


class Farm:
    """An analyzer, who watches it, and an operator."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.folder, self.port = folder, broker.port
        self.watcher, self.operator = Watcher(broker.port), Client(broker.port)

    def command(self, **fields: Any) -> None:
        self.operator.publish("command/pi1", json.dumps(fields).encode())

    def answered(self, command_id: str | None, *outcomes: str) -> dict[str, Any]:
        """The last answer to a command that has one of these outcomes."""

        def answers() -> list[dict[str, Any]]:
            return [one for one in self.watcher.answers if one["id"] == command_id and one["outcome"] in outcomes]

        self.watcher.wait_for(lambda _: bool(answers()))
        return answers()[-1]

    def wait_for_state(self, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        self.watcher.wait_for(lambda w: what(w.retained.get("posture/pi1/state") or dict.fromkeys(STATE)))
        return dict(self.watcher.retained["posture/pi1/state"])


@pytest.fixture
def farm(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Farm]:
    made = Farm(tmp_path, mosquitto)
    yield made
    made.watcher.close()
    made.operator.close()


def test_a_calibration_from_the_page_judges_at_once_and_survives_a_move_and_can_be_forgotten(farm: Farm) -> None:
    first = Analyzer(farm.folder, farm.port)
    moved = Analyzer(farm.folder, farm.port)
    with ended(first, moved):
        first.start().wait_online(farm.watcher)
        with Filming(farm.port, STILL) as camera:
            for attempt in range(10):  # again while a busy machine sees too few frames in so short a time
                farm.command(id=f"a{attempt}", calibrate=3)
                assert farm.answered(f"a{attempt}", "started")["seconds"] == 3
                answer = farm.answered(f"a{attempt}", "done", "refused")
                if answer["outcome"] == "done" and answer["calibration"]["frames"] >= 10:
                    break
            said = answer["calibration"]
            farm.wait_for_state(lambda state: state["rule_set"] == "baseline")
            assert farm.watcher.retained["calibration/pi1"] == said
            assert said["frames"] >= 10, "of thirty, if the machine is not busy"
            assert first.stop() == 0
            before = len(moved.rows())
            for number in range(100):  # more than the broker sends before it is asked for what it retains
                camera.publish_now(STILL[number % 4])
            last = camera.published[-1]
            moved.start().wait_online(farm.watcher)
            farm.watcher.wait_for(lambda w: last in w.receipts, 180)
            assert {row["rule_set"] for row in moved.rows()[before:]} == {"baseline"}, "from its first frame on"
            farm.command(id="b", forget_calibration=True)
            farm.answered("b", "done")
            farm.wait_for_state(lambda state: state["rule_set"] == "upright")
            farm.watcher.wait_for(lambda w: w.retained["calibration/pi1"] is None)
            farm.watcher.wait_for(lambda w: w.retained["account/pi1"]["commands"] == {"forget_calibration": 1})
        assert moved.stop() == 0


@pytest.mark.parametrize(
    ("pictures", "why"),
    [(WALKING, "moved"), (BENT, "leans"), (NOBODY, "no_person"), ([], "no live frame")],
    ids=["walks", "sits bent", "is not there", "silent camera"],
)
def test_a_poor_calibration_is_refused_with_the_reason_and_changes_nothing(
    farm: Farm, pictures: list[bytes], why: str
) -> None:
    analyzer = Analyzer(farm.folder, farm.port)
    with ended(analyzer):
        analyzer.start().wait_online(farm.watcher)
        filming = Filming(farm.port, pictures or NOBODY)
        filming.camera.pi_id = "pi1" if pictures else "pi2"
        with filming:
            if pictures:
                farm.watcher.wait_for(lambda w: len(w.receipts) > 1)
            for attempt in range(10):  # again while a busy machine sees too few frames in so short a time
                farm.command(id=f"a{attempt}", calibrate=3)
                reason = farm.answered(f"a{attempt}", "refused")["reason"]
                if why in reason:
                    break
            assert why in reason
        assert analyzer.stop() == 0
    assert "calibration/pi1" not in farm.watcher.retained
    assert "refused: calibration: " in analyzer.log.read_text()


def test_what_is_no_command_is_counted_named_and_answered_and_frames_go_on(farm: Farm) -> None:
    analyzer = Analyzer(farm.folder, farm.port, POSTURE_ANALYZER_RULE_SET="tutorial")
    with ended(analyzer):
        analyzer.start().wait_online(farm.watcher)
        with Filming(farm.port, STILL) as camera:
            for payload in (b"", b"\xff\xd8", b"[" * 1000, b"{}", b'{"id":"b","reboot":1}', b"9" * 100_000):
                farm.operator.publish("command/pi1", payload)
            farm.command(id="c", calibrate="six")
            farm.command(id="d", calibrate=6)
            assert "rule_set tutorial uses no calibrated pose" in farm.answered("d", "refused")["reason"]
            assert "reboot: accepted is one of calibrate" in farm.answered("b", "refused")["reason"]
            farm.watcher.wait_for(lambda w: (w.retained.get("account/pi1") or {}).get("commands") == {"refused": 8})
            sent = camera.published[-1]
            farm.watcher.wait_for(lambda w: sent in w.receipts)
        assert analyzer.stop() == 0
    assert len(farm.watcher.answers) == 8
    assert (
        "is refused: the command: 100000 bytes; accepted: a JSON object of at most 1024" in analyzer.log.read_text()
    )


def test_a_second_calibration_waits_for_its_turn_and_one_command_is_obeyed_once(farm: Farm) -> None:
    analyzer = Analyzer(farm.folder, farm.port)
    with ended(analyzer):
        analyzer.start().wait_online(farm.watcher)
        for command_id in ("a", "a", "b"):
            farm.command(id=command_id, calibrate=8)  # so long that a halt in it leaves enough frames
        assert "under way" in farm.answered("b", "refused")["reason"]
        with Filming(farm.port, STILL):  # only now: without a frame the first one is not soon over
            farm.answered("a", "done")
        assert analyzer.stop() == 0
    assert [one["outcome"] for one in farm.watcher.answers if one["id"] == "a"] == ["started", "done"]


def test_alerts_are_held_while_snoozed_also_after_a_restart_and_one_comes_at_the_end(farm: Farm) -> None:
    settings = {"POSTURE_ANALYZER_BAD_FOR_S": "0.5", "POSTURE_ANALYZER_BAD_AFTER_S": "0.5"}
    first, second = (Analyzer(farm.folder, farm.port, **settings) for _ in range(2))
    with ended(first, second):
        first.start().wait_online(farm.watcher)
        farm.command(id="a", snooze_s=3600)
        until = datetime.fromisoformat(farm.answered("a", "done")["snoozed_until"])
        assert abs(until - datetime.now(timezone.utc) - timedelta(hours=1)) < timedelta(minutes=1)
        farm.wait_for_state(lambda state: state["snoozed_until"] == until.isoformat(timespec="milliseconds"))
        assert first.stop() == 0
        second.start().wait_online(farm.watcher)
        with Filming(farm.port, BENT):
            state = farm.wait_for_state(lambda state: state["state"] == "Bad")
            assert state["snoozed_until"] == until.isoformat(timespec="milliseconds")
            farm.watcher.wait_for(lambda w: (w.retained.get("account/pi1") or {"bad": 0})["bad"] > 40)
            assert farm.watcher.alerts == []
            farm.command(id="b", snooze_s=0)
            assert farm.answered("b", "done")["snoozed_until"] is None
            farm.watcher.wait_for(lambda w: bool(w.alerts))
        assert second.stop() == 0
    (alert,) = farm.watcher.alerts
    assert alert["event_type"] == "bad_posture"
    assert alert["snoozed_until"] is None


SIDE = b'{"at":"2026-03-02T09:15:38+00:00","frames":30,"rule_set":"baseline","baseline_neck_deg":9}'
BROKEN = {
    "no JSON": (b"\xff", b"\xff", "auto"),
    "a value out of bounds": (
        SIDE.replace(b":9}", b":999}"),
        b'{"snoozed_until":"9999-01-01T00:00:00+00:00"}',
        "auto",
    ),
    "of another view than the rule set's": (SIDE, b'{"snoozed_until":7}', "head-height"),
    "a rule set that uses no pose": (SIDE, b'{"snoozed_until":"' + b"9" * 100_000 + b'"}', "tutorial"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_at_the_broker_is_named_and_the_settings_decide(farm: Farm, name: str) -> None:
    calibration, state, rule_set = BROKEN[name]
    farm.watcher.close()
    farm.watcher = Watcher(farm.port, skip=("calibration/pi1", "posture/pi1/state"))
    for topic, payload in (("calibration/pi1", calibration), ("posture/pi1/state", state)):
        farm.operator.retain(topic, payload)
    analyzer = Analyzer(
        farm.folder, farm.port,
        POSTURE_ANALYZER_RULE_SET=rule_set, POSTURE_ANALYZER_BASELINE_HEAD_HEIGHT="0.7",
    )  # fmt: skip
    with ended(analyzer):
        analyzer.start().wait_for_log("is not used, but that of the settings: ")
        with Filming(farm.port, STILL) as camera:
            farm.watcher.wait_for(lambda w: set(camera.published[:1]) <= w.receipts != set())
        assert analyzer.stop() == 0
    assert "alerts are held" not in analyzer.log.read_text()


def test_while_the_camera_is_silent_the_state_says_so_and_not_what_was_seen_last(farm: Farm) -> None:
    analyzer = Analyzer(farm.folder, farm.port, POSTURE_ANALYZER_SILENT_AFTER_S="1.5")
    with ended(analyzer):
        analyzer.start().wait_online(farm.watcher)
        with Filming(farm.port, STILL):
            farm.wait_for_state(lambda state: state["state"] == "Good")

        def is_silent_since_the_last_frame(state: dict[str, Any]) -> bool:
            if state["reason"] != "camera_silent":  # or said while a busy machine did not film
                return False
            came = datetime.fromisoformat(analyzer.rows()[-1]["received_time"])
            return abs(datetime.fromisoformat(state["since"]) - came) < timedelta(milliseconds=2)

        silent, last = farm.wait_for_state(is_silent_since_the_last_frame), analyzer.rows()[-1]
        assert (silent["state"], silent["neck"], silent["away"]) == ("Unknown", None, False)
        # from the last verdict on, for a busy machine is behind; without the setting it would be after ten seconds
        said_at = datetime.fromisoformat(silent["updated"])
        assert said_at - datetime.fromisoformat(last["analyzed_time"]) < timedelta(seconds=9)
        with Filming(farm.port, STILL):
            farm.wait_for_state(lambda state: state["state"] == "Good")
        assert analyzer.stop() == 0
