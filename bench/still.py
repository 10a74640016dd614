#!/usr/bin/env python3
"""What `analyzer.reuse_still` saves and what it costs, against measuring every frame of the same clips.

    .venv/bin/python bench/still.py
    .venv/bin/python bench/still.py --picture a.jpg --picture b.jpg --quality 60

The sample clip at its own 30 frames/s and at 5; and clips of 5 frames/s that are made of one picture of one person
seen from the side: who sits still before a sensor with little and with much noise, or in the light of a lamp that
flickers in bands; who breathes; who leans forward and back by a degree a second until that is Bad; who nods now
and then.
All are JPEGs, and go through the analyzer's own decoding, measuring and judging, in one thread; broker, database
and pictures are left out.

angles: difference of neck and body, of frames to which both give a verdict; verdicts: of all frames, those with
the same status and reason; states: how far apart the stream's state changed. Lines in brackets measure every frame
both times, once with other noise: so much the model's answers differ anyway.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np
import numpy.typing as npt

from posture.analyzer.delivery import Delivery
from posture.analyzer.item import Item
from posture.analyzer.judging import Judging
from posture.analyzer.measuring import Measuring
from posture.analyzer.pose import PoseEstimator
from posture.errors import UserError
from posture.runtime import EXIT_OK, run_script
from posture.settings.flags import whole
from posture.settings.table import Analyzer
from posture.verdict.rule_sets import Landmarks, Verdict
from posture.wire import decoding, frame
from posture.wire.topics import Topics

Picture = npt.NDArray[np.uint8]
Clip = tuple[float, Sequence[bytes]]
"""Frames a second, and the frames."""

MODEL = ROOT / "models" / "pose_landmarker_full.task"
SAMPLE = ROOT / "samples" / "side_walk.mp4"
SITTING = ROOT / "samples" / "side_walk.jpg"
OPTIONS = Analyzer(keep="none", preview=False)
LIMITS = frame.Limits(OPTIONS.max_payload_bytes, OPTIONS.max_pixels)
START = datetime(2026, 11, 27, tzinfo=timezone.utc)
FPS = 5.0
LITTLE, MUCH = 2.0, 4.0
"""Standard deviation of a sensor's noise, in brightness of 255."""
FLICKER = 0.06
LEAN_DEG, LEAN_DEG_PER_S = 25.0, 1.0
SWAY_DEG, BREATH_S = 0.25, 4.0
NOD_DEG, NOD_EVERY_S, NOD_S = 30.0, 9.0, 2.0
HEADER = (
    "| clip | frames | measured | angles p50, p99, max | verdicts | states "
    "| CPU ms a frame, every one, with reuse |\n"
    "|---|---|---|---|---|---|---|"
)


@dataclass
class Run:
    """What one way made of a clip.

    Attributes:
        verdicts: of each frame.
        states: when the stream's state changed, in seconds, and to what.
        measured: number of frames.
        cpu_s: processor time of all of them.
    """

    verdicts: list[Verdict]
    states: list[tuple[float, str]]
    measured: int
    cpu_s: float


def run(clip: Clip, *, reuse: bool) -> Run:
    """Let the analyzer's stages have a clip."""
    fps, jpegs = clip
    judging = Judging(OPTIONS, Topics("bench"))
    done = Run([], [], 0, 0.0)
    with PoseEstimator(MODEL, "cpu") as pose:
        measuring = Measuring(pose, reuse=reuse, settled=lambda: judging.settled)
        for number, jpeg in enumerate(jpegs):
            taken = START + timedelta(seconds=number / fps)
            item = Item(
                Delivery(jpeg, {}, taken, number / fps, packet_id=1, connection=1),
                frame.Identity(f"f{number}", taken, number, "boot", "comment"),
            )
            began = time.process_time()
            item.picture = decoding.decode(jpeg, LIMITS, OPTIONS.picture_max_width)
            measuring.measure(item, pose.view(item.picture))
            judging.judge(item)
            done.cpu_s += time.process_time() - began
            done.measured += item.measured is None
            done.verdicts.append(item.verdict)
            state = judging.said["state"] if judging.said else ""
            if not done.states or done.states[-1][1] != state:
                done.states.append((number / fps, state))
    return done


def line(name: str, every: Run, other: Run) -> str:
    """Return a row of the table: one way against measuring every frame."""
    pairs = list(zip(every.verdicts, other.verdicts, strict=True))
    off = [
        abs(one.measures[angle] - two.measures[angle])
        for one, two in pairs
        for angle in ("neck", "body")
        if angle in one.measures and angle in two.measures
    ]
    equal = sum((one.status, one.reason) == (two.status, two.reason) for one, two in pairs) / len(pairs)
    count = len(pairs)
    states = "differ"
    if [state for _, state in every.states] == [state for _, state in other.states]:
        apart = [abs(one - two) for (one, _), (two, _) in zip(every.states, other.states, strict=True)]
        states = f"{len(apart) - 1} changes, {max(apart):.1f} s"
    return (
        f"| {name} | {count} | {other.measured} ({other.measured / count:.0%}) "
        f"| {', '.join(f'{np.quantile(off or [math.nan], share):.2f}' for share in (0.5, 0.99, 1.0))} "
        f"| {equal:.1%} | {states} | {1000 * every.cpu_s / count:.1f}, {1000 * other.cpu_s / count:.1f} |"
    )


class Maker:
    """Makes clips of one picture.

    Args:
        path: of a picture of one person, seen from the side.
        quality: of the JPEGs.
        seconds: how long clips are.

    Raises:
        UserError: the picture can't be read, or nobody is found in it.
    """

    def __init__(self, path: Path, quality: int, seconds: float) -> None:
        picture = cv2.imread(str(path)) if path.is_file() else None
        if picture is None:
            raise UserError(f"--picture: {path} can't be read; accepted: a JPEG or PNG")
        self.name = path.stem
        self._picture, self._quality = np.asarray(picture, np.uint8), quality
        self._frames = round(seconds * FPS)
        with PoseEstimator(MODEL, "cpu") as pose:
            found = pose.detect(pose.view(self._picture), 1)
        if found is None:
            raise UserError(f"--picture: {path} shows nobody; accepted: one person, seen from the side")
        self._landmarks: Landmarks = found
        points = found.points
        self._hip, self._shoulder, ear = (points[[one, one + 1], :2].mean(axis=0) for one in (23, 11, 7))
        self._forward = math.copysign(1.0, points[0, 0] - ear[0])

    def still(self, noise: float, seed: int = 0) -> Clip:
        """Return somebody who does not move."""
        return self._clip((self._picture for _ in range(self._frames)), noise, seed)

    def flicker(self, noise: float) -> Clip:
        """Return likewise, in light that differs from frame to frame and from row to row."""
        rows = np.arange(len(self._picture))[:, None, None] / len(self._picture)
        lights = (1 + FLICKER * np.sin(2 * np.pi * (0.37 * n + 1.5 * rows)) for n in range(self._frames))
        return self._clip((self._picture * light for light in lights), noise)

    def breathe(self, noise: float) -> Clip:
        """Return somebody who sits still and breathes, by which the trunk sways."""
        sways = (SWAY_DEG * math.sin(2 * math.pi * n / FPS / BREATH_S) for n in range(self._frames))
        return self._clip((self._leant(degrees) for degrees in sways), noise)

    def lean(self, noise: float) -> Clip:
        """Return somebody who leans forward and back, slowly."""
        return self._clip((self._leant(self._degrees_at(n / FPS)) for n in range(self._frames)), noise)

    def nod(self, noise: float) -> Clip:
        """Return somebody whose head goes down and up again, now and then."""
        down = (n / FPS % NOD_EVERY_S > NOD_EVERY_S - NOD_S for n in range(self._frames))
        return self._clip((self._bent(self._shoulder, NOD_DEG * is_down) for is_down in down), noise)

    def _degrees_at(self, seconds: float) -> float:
        period = 2 * LEAN_DEG / LEAN_DEG_PER_S
        return LEAN_DEG_PER_S * min(seconds % period, period - seconds % period)

    def _leant(self, degrees: float) -> npt.NDArray[np.float64]:
        return self._bent(self._hip, degrees)

    def _bent(self, pivot: npt.NDArray[np.float64], degrees: float) -> npt.NDArray[np.float64]:
        """Turn what is above a joint forward about it; what is far from the person stays."""
        height, width = self._picture.shape[:2]
        trunk = float(np.hypot(*(self._shoulder - self._hip)))
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        above = np.clip((pivot[1] - y) / (0.25 * trunk), 0, 1)
        near = np.clip(3 - np.hypot(x - pivot[0], y - pivot[1]) / trunk, 0, 1)
        angle = -np.radians(self._forward * degrees) * above * near
        cos, sin = np.cos(angle), np.sin(angle)
        from_x = pivot[0] + cos * (x - pivot[0]) - sin * (y - pivot[1])
        from_y = pivot[1] + sin * (x - pivot[0]) + cos * (y - pivot[1])
        return cv2.remap(
            self._picture, from_x.astype(np.float32), from_y.astype(np.float32), cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        ).astype(float)  # fmt: skip

    def _clip(self, pictures: Iterator[npt.NDArray[np.generic]], noise: float, seed: int = 0) -> Clip:
        rng = np.random.default_rng(seed)
        return FPS, [
            encoded(np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8), self._quality)
            for picture in pictures
        ]


def encoded(picture: Picture, quality: int) -> bytes:
    """Return a JPEG."""
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def sample(quality: int, every: int) -> Clip:
    """Return the sample clip, of which each so many-th frame is taken."""
    video = cv2.VideoCapture(str(SAMPLE))
    pictures = []
    while (read := video.read())[0]:
        pictures.append(read[1])
    return video.get(cv2.CAP_PROP_FPS) / every, [encoded(picture, quality) for picture in pictures[::every]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table.

    Raises:
        UserError: a picture can't be read, or shows nobody.
    """
    parser = argparse.ArgumentParser(description="What still scenes save, and what they cost.")
    parser.add_argument("--picture", type=Path, action="append", help=f"of one person (default: {SITTING.name})")
    parser.add_argument("--quality", type=whole, default=85, metavar="1..100", help="of the JPEGs (default: 85)")
    parser.add_argument("--seconds", type=whole, default=60, metavar="S", help="of each made clip (default: 60)")
    flags = parser.parse_args(argv)
    if flags.quality > 100:
        parser.error(f"argument --quality: '{flags.quality}' is not accepted; accepted: 1 to 100")
    makers = [Maker(path, flags.quality, flags.seconds) for path in flags.picture or [SITTING]]
    print(HEADER)
    for name, every in (("sample clip, 30 frames/s", 1), ("sample clip, 5 frames/s", 6)):
        compare(name, sample(flags.quality, every))
    for maker in makers:
        for noise in (LITTLE, MUCH):
            every_frame = compare(f"{maker.name}, still, noise {noise:g}", maker.still(noise))
            print(line("(other noise)", every_frame, run(maker.still(noise, seed=1), reuse=False)), flush=True)
        compare(f"{maker.name}, flicker", maker.flicker(LITTLE))
        compare(f"{maker.name}, breathing", maker.breathe(LITTLE))
        compare(f"{maker.name}, slow lean", maker.lean(LITTLE))
        compare(f"{maker.name}, nods", maker.nod(LITTLE))
    return EXIT_OK


def compare(name: str, clip: Clip) -> Run:
    """Print a row; return what measuring every frame gave."""
    every = run(clip, reuse=False)
    print(line(name, every, run(clip, reuse=True)), flush=True)
    return every


if __name__ == "__main__":
    run_script(main)
