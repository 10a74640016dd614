#!/usr/bin/env python3
"""Make docs/views.jpg: one portrait as the analyzer draws it, judged from the front by different calibrations.

python3 docs/views.py
"""

import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("analyzer")

import cv2
import numpy as np

from posture.analyzer.drawing import annotate
from posture.analyzer.pose import PoseEstimator
from posture.errors import FailedError
from posture.runtime import run_script
from posture.verdict.placement import MOVED_S, Placement
from posture.verdict.rule_sets import Baseline, Judge, calibrate

PORTRAIT = ROOT / "tests" / "unit" / "analyzer" / "pictures" / "astronaut.jpg"
MODEL = ROOT / "models" / "pose_landmarker_full.task"
PICTURE = ROOT / "docs" / "views.jpg"
TALLER = 1.12
"""By this factor the person of the third frame is taken to have held the head higher when calibrated."""
WHEN = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)


def main(_argv: object = None) -> int:
    """Draw the picture; see the module's docstring."""
    portrait = np.asarray(cv2.imread(str(PORTRAIT)), np.uint8)
    with PoseEstimator(MODEL, "cpu") as pose:
        landmarks = pose.detect(pose.view(portrait), 0)
    if landmarks is None:
        raise FailedError(f"{PORTRAIT}: nobody was found")
    own = calibrate([landmarks] * 6)
    if own.head_height is None or own.placement is None:
        raise FailedError(f"{PORTRAIT}: is no front view")
    taller = replace(own, head_height=TALLER * own.head_height)
    elsewhere = replace(own, placement=Placement(own.placement.x / 3, own.placement.y, own.placement.width))
    frames = []
    for baseline in (Baseline(), own, taller, elsewhere):
        judge = Judge("auto", baseline=baseline)
        for second in range(int(MOVED_S) + 1):
            verdict = judge.judge(landmarks, float(second))
        frames.append(annotate(portrait, landmarks, verdict, pi_id="pi1", when=WHEN))
    cv2.imwrite(str(PICTURE), np.hstack(frames), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return 0


if __name__ == "__main__":
    run_script(main)
