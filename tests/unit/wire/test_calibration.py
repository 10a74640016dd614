"""A retained calibration is settings from a stranger: each value has the bounds of its setting."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from posture.settings.table import Analyzer
from posture.wire.calibration import BrokenCalibrationError, Calibration

AT = datetime(2026, 3, 2, 9, 15, tzinfo=timezone.utc)
SIDE = Calibration(AT, 30, "baseline", {"baseline_neck_deg": 8.4, "baseline_body_deg": 2.1})
FRONT = Calibration(AT, 30, "auto", {"baseline_head_height": 0.7, "baseline_shoulder_width": 0.3})


@pytest.mark.parametrize("calibration", [SIDE, FRONT], ids=["side", "front"])
def test_a_calibration_is_read_as_it_is_written(calibration: Calibration) -> None:
    assert Calibration.parse(json.dumps(calibration.as_dict()).encode()) == calibration


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"baseline_neck_deg": 181}, "baseline_neck_deg: '181'; accepted: -180 to 180"),
        ({"baseline_neck_deg": "8"}, "baseline_neck_deg: '8'"),
        ({"baseline_neck_deg": True}, "baseline_neck_deg: 'True'"),
        ({"baseline_neck_deg": float("nan")}, "baseline_neck_deg: 'nan'"),
        ({"baseline_neck_deg": 10**400}, "baseline_neck_deg: "),
        ({"baseline_neck_deg": None}, "baseline_neck_deg: 'None'"),
        ({"rule_set": "tutorial"}, "rule_set: 'tutorial'; accepted: auto, baseline"),
        ({"rule_set": None}, "rule_set: 'None'"),
        ({"frames": -1}, "frames: '-1'"),
        ({"frames": "many"}, "frames: 'many'"),
        ({"at": "yesterday"}, "at: 'yesterday'"),
        ({"at": 7}, "at: '7'"),
    ],
    ids=str,
)
def test_a_value_out_of_its_bounds_is_refused_with_its_name(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(BrokenCalibrationError, match=why):
        Calibration.parse(json.dumps({**SIDE.as_dict(), **changed}).encode())


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff\xfe", b"[]", b"[" * 4000, b'{"at": "2026-03-02", "frames": 1, "rule_set": "auto"}', b" " * 5000],
    ids=["empty", "no text", "a list", "nested", "no pose", "oversized"],
)
def test_what_is_no_calibration_is_refused(payload: bytes) -> None:
    with pytest.raises(BrokenCalibrationError):
        Calibration.parse(payload)


def test_it_replaces_the_whole_pose_of_the_settings_and_chooses_the_rule_set_only_where_that_is_auto() -> None:
    options = replace(Analyzer(), baseline_head_height=0.9, baseline_shoulder_x=0.5)
    judged = SIDE.over(options)
    assert (judged.baseline_neck_deg, judged.baseline_head_height, judged.baseline_shoulder_x) == (8.4, 0.0, 0.0)
    assert judged.rule_set == "baseline"
    assert SIDE.over(replace(options, rule_set="tutorial")).rule_set == "tutorial"
    assert FRONT.over(options).rule_set == "auto"
