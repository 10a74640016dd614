#!/usr/bin/env python3
"""Who is measured of two people side by side, by how large the bystander is.

    .venv/bin/python bench/people.py ../shared/frames/side_labelled/images

Composes pictures of two people from pictures of one, both at one size by the model's own idea of a body's length
and the bystander then reduced. Prints for each size how often the larger one, the bystander, or nobody
(``several_people``) is measured, after a fresh look and after five more frames at ten a second.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np

from posture.analyzer.people import span
from posture.analyzer.pose import PoseEstimator
from posture.settings.flags import whole
from posture.verdict.persons import Person
from posture.verdict.rule_sets import Landmarks

MODEL = ROOT / "models" / "pose_landmarker_full.task"
SIZES = (0.3, 0.45, 0.6, 0.7, 0.8, 0.9)
PX_PER_M = 200.0


def size_of(landmarks: Landmarks) -> float:
    """Pixels a metre."""
    assert landmarks.world is not None
    extents = [np.linalg.norm(x[:25, :2] - x[:25, :2].mean(axis=0)) for x in (landmarks.points, landmarks.world)]
    return float(extents[0] / extents[1])


def one_person(path: Path, estimator: PoseEstimator, number: int) -> np.ndarray | None:
    """The part of a picture with its only person, at PX_PER_M."""
    picture = cv2.imread(str(path))
    found = estimator.detect(estimator.view(picture), number * 60_000)
    if found is None or found.others or found.points[[11, 12, 23, 24], 2].min() < 0.5:
        return None
    left, top, right, bottom = (max(0, int(side)) for side in span(Person(found, 1.0)))
    scale = PX_PER_M / size_of(found)
    return cv2.resize(picture[top:bottom, left:right], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def beside(person: np.ndarray, bystander: np.ndarray, left: bool) -> tuple[np.ndarray, float]:
    """Both on one floor, the person to the left or right, and where the border between them is."""
    first, second = (person, bystander) if left else (bystander, person)
    height = max(len(person), len(bystander)) + 20
    scene = np.full((height, first.shape[1] + second.shape[1] + 20, 3), person.mean(axis=(0, 1)), np.uint8)
    scene[height - len(first) :, : first.shape[1]] = first
    scene[height - len(second) :, -second.shape[1] :] = second
    return scene, first.shape[1] + 10


def who(landmarks: Landmarks | None, border: float, left: bool) -> str:
    """Who is measured."""
    if landmarks is None or landmarks.contested:
        return "nobody"
    on_the_left = landmarks.points[[11, 12, 23, 24], 0].mean() < border
    return "larger" if on_the_left == left else "bystander"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Who is measured of two people.")
    parser.add_argument("folder", type=Path, help="pictures of one person each")
    parser.add_argument("--pairs", type=whole, default=50)
    flags = parser.parse_args()
    with PoseEstimator(MODEL, "cpu") as estimator:
        cut = [one_person(path, estimator, n) for n, path in enumerate(sorted(flags.folder.glob("*.jpg")))]
    people = [picture for picture in cut if picture is not None]
    if len(people) < 2:
        parser.error(f"{flags.folder}: {len(people)} of its .jpg show one whole person; accepted: at least 2")
    draw = random.Random(1)
    pairs = [(*draw.sample(people, 2), draw.random() < 0.5) for _ in range(flags.pairs)]
    print(f"{len(people)} people, {len(pairs)} pairs\n| bystander | fresh look | tracked |\n|---|---|---|")
    with PoseEstimator(MODEL, "cpu") as estimator:
        now_ms = 0
        for size in SIZES:
            fresh: Counter[str] = Counter()
            tracked: Counter[str] = Counter()
            for person, bystander, left in pairs:
                small = cv2.resize(bystander, None, fx=size, fy=size, interpolation=cv2.INTER_AREA)
                scene, border = beside(person, small, left)
                view = estimator.view(scene)
                now_ms += 60_000  # so that nothing of the last pair counts
                times = [now_ms + 100 * frame for frame in range(6)]
                seen = [who(estimator.detect(view, at_ms), border, left) for at_ms in times]
                fresh[seen[0]] += 1
                tracked[seen[-1]] += 1
            print(f"| {size} | {dict(fresh)} | {dict(tracked)} |", flush=True)


if __name__ == "__main__":
    main()
