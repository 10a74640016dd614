#!/usr/bin/env python3
"""Make docs/people.jpg from people of the sample clip: who is measured, and what blurred_face leaves.

python3 docs/people.py
"""

import sys
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("analyzer")

import cv2
import numpy as np

from posture.analyzer.drawing import Picture, annotate
from posture.analyzer.pose import PoseEstimator
from posture.verdict.rule_sets import Judge

PICTURE = ROOT / "docs" / "people.jpg"
WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)
WALKER = 60, slice(480, 760)
"""A frame of the clip, and the columns in which the person is."""
BYSTANDERS = ((0.5, "photo"), (0.9, "photo"), (0.5, "blurred_face"))
"""How large the person on the right is, beside the one on the left, and the mode of each picture."""


def main() -> int:
    """Draw the pictures side by side."""
    person = walker()
    with PoseEstimator(ROOT / "models" / "pose_landmarker_full.task", "cpu") as estimator:
        shown = []
        for number, (size, pictures) in enumerate(BYSTANDERS):
            scene = beside(person, size)
            landmarks = estimator.detect(estimator.view(scene), number * 60_000)
            verdict = Judge().judge(landmarks, 0.0)
            shown.append(annotate(scene, landmarks, verdict, pi_id="pi1", when=WHEN, pictures=pictures))
    cv2.imwrite(str(PICTURE), np.hstack(shown), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return 0


def walker() -> Picture:
    """Return the person."""
    index, columns = WALKER
    video = cv2.VideoCapture(str(ROOT / "samples" / "side_walk.mp4"))
    video.set(cv2.CAP_PROP_POS_FRAMES, index)
    read, frame = video.read()
    video.release()
    if not read:
        raise FileNotFoundError("samples/side_walk.mp4")
    return np.asarray(frame[:, columns], np.uint8)


def beside(person: Picture, size: float) -> Picture:
    """Return the person, and to the right the same one at another size, on one floor."""
    small = cv2.resize(person, None, fx=size, fy=size, interpolation=cv2.INTER_AREA)
    height, width = person.shape[:2]
    scene = np.full((height, 2 * width, 3), person.mean(axis=(0, 1)), np.uint8)
    scene[:, :width] = person
    scene[height - small.shape[0] :, width : width + small.shape[1]] = small
    return scene


if __name__ == "__main__":
    sys.exit(main())
