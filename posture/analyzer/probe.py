"""What a board can do: one stream's work on a known picture, measured in a minute or two.

    python3 -m posture.analyzer.probe                   # as analyzer.delegate says: the GPU if it works
    python3 -m posture.analyzer.probe --delegate gpu    # exit status 1 where the CPU is used instead

Needs neither broker nor database. docs/boards.md says what to do with the answer.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from posture import __version__, missing_packages

if __name__ == "__main__":
    missing_packages.explain("analyzer")

import cv2
import numpy as np

from posture.analyzer import drawing
from posture.analyzer.pose import PoseEstimator
from posture.errors import FailedError, UserError
from posture.runtime import EXIT_FAILED, EXIT_OK, ROOT, add_version_flag, run_script, setup_logging
from posture.settings.flags import add_config_flag, add_setting_flag, settings_with_flags, whole
from posture.settings.paths import path_of
from posture.settings.table import Analyzer
from posture.system import processor
from posture.verdict.rule_sets import Judge
from posture.wire import decoding, frame

PICTURE = ROOT / "samples" / "side_walk.jpg"
REFERENCE = {
    0: (0.4853, 0.1579),
    11: (0.5307, 0.2249),
    12: (0.5557, 0.2316),
    23: (0.5279, 0.4757),
    24: (0.5179, 0.4675),
}
"""Nose, shoulders and hips in it, in shares of its sides, as mediapipe 1.2.2 finds them on an x86 processor."""
WRONG = 0.05
"""Landmarks that are farther off than this share of a side are those of a model that does not work here."""
FPS = 5
"""Frames a second of the stream that is reckoned with: what publish_images.py sends."""
UNIT_PERCENT = 10
"""On a board of speed 1 such a stream takes so much: the middle of what simulate.py assumes by itself."""
FRAMES, WARM_UP = 100, 3
SLOW = 0.95


@dataclass(frozen=True)
class Measured:
    """What was seen.

    Attributes:
        frame_ms: the landmarks of a frame, median.
        slow_ms: 95 % of the frames took no longer.
        processor_ms: processor time of a frame, all cores, with decoding and drawing.
        off: how far the landmarks are from the reference, share of the picture's side.
        delegate: ``cpu`` or ``gpu``, what was used.
        without_gpu: why the GPU was not, where it was tried.
        memory_mb: of this process at most, with the model in it.
    """

    frame_ms: float
    slow_ms: float
    processor_ms: float
    off: float
    delegate: str
    without_gpu: str
    memory_mb: float

    def percent(self, cores: int) -> float:
        """Return what a stream takes of the processors, or of the GPU if that is more.

        Of the GPU it is an upper bound: as if it were busy all the time until the landmarks are there.
        """
        of_cores = self.processor_ms * FPS / cores / 10
        return max(of_cores, self.frame_ms * FPS / 10) if self.delegate == "gpu" else of_cores


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; see ``--help``.

    Raises:
        UserError: settings or flags are not as they must be, or this processor can't run mediapipe.
        FailedError: the model does not find who is in the picture.
    """
    parser = argparse.ArgumentParser(
        prog="python3 -m posture.analyzer.probe", description="Measure what this board can do for a stream."
    )
    add_version_flag(parser)
    add_config_flag(parser)
    add_setting_flag(parser, "--delegate", "analyzer.delegate", "auto, cpu or gpu")
    parser.add_argument("--frames", type=whole, default=FRAMES, metavar="N", help=f"measured (default: {FRAMES})")
    parser.add_argument("--debug", action="store_true", help="log more")
    flags = parser.parse_args(argv)
    setup_logging(flags.debug)
    options = settings_with_flags(flags).analyzer
    measured = measure(options, flags.frames)
    print("\n".join(report(measured, options.delegate)))
    return EXIT_FAILED if options.delegate == "gpu" and measured.delegate != "gpu" else EXIT_OK


def measure(options: Analyzer, frames: int) -> Measured:
    """Do a stream's work on one picture again and again: decode, landmarks, verdict, drawing, encoding.

    Args:
        options: the analyzer's settings.
        frames: how many are measured.

    Raises:
        FailedError: the landmarks are not those of who is in the picture.
    """
    try:
        jpeg = PICTURE.read_bytes()
    except OSError as error:
        raise UserError(f"{PICTURE}: can't be read, and is part of the repository: {error.strerror}") from None
    limits = frame.Limits(options.max_payload_bytes, options.max_pixels)
    judge, now = Judge("upright"), datetime.now(timezone.utc)
    took_s: list[float] = []
    with PoseEstimator(path_of(options.model), options.delegate) as pose:
        off = _distance(pose, decoding.decode(jpeg, limits, options.picture_max_width))
        began_s = 0.0
        for number in range(-WARM_UP, frames):
            if number == 0:
                took_s.clear()
                began_s = time.process_time()
            picture = decoding.decode(jpeg, limits, options.picture_max_width)
            view = pose.view(picture)
            start_s = time.perf_counter()
            landmarks = pose.detect(view, (number + WARM_UP + 1) * 1000 // FPS)
            took_s.append(time.perf_counter() - start_s)
            verdict = judge.judge(landmarks, number / FPS)
            drawn = drawing.annotate(picture, landmarks, verdict, pi_id="probe", when=now)
            cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, options.jpeg_quality])
        processor_s = time.process_time() - began_s
        return Measured(
            frame_ms=statistics.median(took_s) * 1000,
            slow_ms=sorted(took_s)[int(SLOW * (len(took_s) - 1))] * 1000,
            processor_ms=processor_s / frames * 1000,
            off=off,
            delegate=pose.delegate,
            without_gpu=pose.without_gpu,
            memory_mb=_peak_mb(),
        )


def _peak_mb() -> float:
    """Return the most memory that this process has had; getrusage's figure may be that of who started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(peak) / 1024


def _distance(pose: PoseEstimator, picture: drawing.Picture) -> float:
    """Return how far the landmarks are from the reference."""
    view = pose.view(picture)
    landmarks = pose.detect(view, 0)
    if landmarks is None:
        raise FailedError(f"on the {pose.delegate.upper()} the model finds nobody in {PICTURE.name}, where one is")
    found = landmarks.points[list(REFERENCE), :2] / (view.width, view.height)
    off = float(np.abs(found - list(REFERENCE.values())).max())
    if off > WRONG:
        raise FailedError(
            f"on the {pose.delegate.upper()} the landmarks of {PICTURE.name} are {off:.3f} of its side off; "
            f"accepted: {WRONG}"
        )
    return off


def report(measured: Measured, asked: str) -> list[str]:
    """Return lines for a person, and last the one for an issue.

    Args:
        measured: what was seen.
        asked: the delegate that was asked for.
    """
    cores, machine = os.cpu_count() or 1, platform.machine()
    model = processor.name() or machine
    board = processor.board() or "no device tree"
    percent = measured.percent(cores)
    speed = _two_digits(UNIT_PERCENT / percent)
    mediapipe = importlib.metadata.version("mediapipe")
    used = measured.delegate.upper()
    why = f"; the GPU is not usable: {measured.without_gpu}" if measured.without_gpu else ""
    kind = re.sub(r"[^a-z0-9]+", "-", (processor.board() or model).lower()).strip("-")[:40].strip("-") or "board"
    of = "processors, or at most of its GPU," if measured.delegate == "gpu" else "processors"
    return [
        f"board      {board}",
        f"processor  {model}, {cores} cores, {machine}",
        f"mediapipe  {mediapipe}, on the {used} (asked for: {asked}{why})",
        f"landmarks  {measured.off:.4f} of the picture's side off the reference",
        f"a frame    {measured.frame_ms:.1f} ms, 95 % within {measured.slow_ms:.1f} ms; "
        f"{measured.processor_ms:.1f} ms of processor time with decoding and drawing",
        f"memory     {measured.memory_mb:.0f} MB",
        f"a stream   of {FPS} frames a second takes {percent:.1f} % of this node's {of}",
        f"speed      {speed}: python3 simulate.py --classes {kind}:1:{speed}",
        "",
        "Please paste this line into an issue, so that docs/boards.md can name your board:",
        " | ".join(
            (
                f"posture-probe {__version__} {datetime.now(timezone.utc):%Y-%m-%d}",
                board,
                f"{model} x{cores} {machine}",
                f"mediapipe {mediapipe} {measured.delegate} (asked {asked})",
                f"a frame {measured.frame_ms:.1f} ms, 95 % {measured.slow_ms:.1f} ms",
                f"processor {measured.processor_ms:.1f} ms",
                f"{measured.memory_mb:.0f} MB",
                f"{measured.off:.4f} off",
                f"speed {speed}",
            )
        ),
    ]


def _two_digits(number: float) -> str:
    return f"{float(f'{number:.2g}'):g}"


if __name__ == "__main__":
    run_script(main)
