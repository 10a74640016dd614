#!/usr/bin/env python3
"""Make docs/picture.jpg, the picture at the top of README.md, from the sample clip.

python3 docs/picture.py                        # runs the clip through run_local.py first, about 30 seconds
python3 docs/picture.py --run local-run/<time>   # draws from a run that is there already
"""

import argparse
import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("local")

import cv2
import numpy as np
from matplotlib.figure import Figure

from posture.demo.summary import Picture, StreamResult, draw_angles

PICTURE = ROOT / "docs" / "picture.jpg"
STREAM = "pi1"
CLIP_FRAMES = 194
BENT_DEG = 45.0
"""About how far the person of the bent example leans."""


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the picture; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Make docs/picture.jpg from the sample clip.")
    parser.add_argument("--run", type=Path, metavar="DIR", help="draw from this folder of run_local.py")
    arguments = parser.parse_args(argv)
    if arguments.run:
        draw(read_stream(arguments.run))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "run_local.py"), "--output", folder, "--limit", str(CLIP_FRAMES)]
        subprocess.run(command, check=True, env={**os.environ, "POSTURE_ANALYZER_KEEP": "all"})
        draw(read_stream(Path(folder)))
    return 0


def read_stream(run: Path) -> StreamResult:
    """Return the rows and the folder of pictures of stream pi1 in a folder that run_local.py has made."""
    with contextlib.closing(sqlite3.connect(run / "posture.db")) as db:
        db.row_factory = sqlite3.Row
        query = "SELECT * FROM posture_log WHERE pi_id = ? ORDER BY captured_time"
        rows = [dict(row) for row in db.execute(query, (STREAM,))]
    return StreamResult(STREAM, rows, run / "analyzed_images" / f"analyzed_images_from_{STREAM}")


def draw(stream: StreamResult) -> None:
    """Write docs/picture.jpg: an upright and a bent posture above the angles over time."""
    good = [row for row in stream.rows if row["posture_status"] == "Good"]
    bad = [row for row in stream.rows if row["posture_status"] == "Bad"]
    upright = good[len(good) // 2]  # half-way, where all of the person is in the picture
    bent = min(bad, key=lambda row: abs(row["body_angle"] - BENT_DEG))
    figure = Figure(figsize=(11, 5.1), dpi=100, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(2.35, 2.75))
    for axes, row in zip(top.subplots(1, 2), (upright, bent), strict=True):
        axes.axis("off")
        axes.imshow(read_frame(stream, row)[:, :, ::-1])
    draw_angles(bottom.subplots(), stream)
    figure.savefig(PICTURE, pil_kwargs={"quality": 88, "optimize": True})


def read_frame(stream: StreamResult, row: Mapping[str, Any]) -> Picture:
    """Return a row's annotated picture (BGR)."""
    frame = cv2.imread(str(stream.pictures / row["filename"]))
    if frame is None:
        raise FileNotFoundError(stream.pictures / row["filename"])
    return np.asarray(frame, np.uint8)


if __name__ == "__main__":
    sys.exit(main())
