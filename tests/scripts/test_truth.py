"""bench/truth.py: the figures of a folder of labelled pictures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PORTRAIT = ROOT / "tests" / "unit" / "analyzer" / "pictures" / "astronaut.jpg"


def score(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / "truth.py"), str(folder), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six good frontal pictures to calibrate with, one more good one, and an empty one that is labelled bad."""
    (tmp_path / "images").mkdir()
    lines = ["file,label,src_label,view,note"]
    for number in range(7):
        shutil.copy(PORTRAIT, tmp_path / "images" / f"{number}.jpg")
        lines.append(f"images/{number}.jpg,good,straight,front,a portrait")
    cv2.imwrite(str(tmp_path / "images" / "wall.jpg"), np.full((240, 320, 3), 127, np.uint8))
    lines += ["images/wall.jpg,bad,slouch,front,nobody", "images/0.jpg,none,unrelated,other,once more"]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_folder_is_scored_with_what_is_withheld_and_why(folder: Path) -> None:
    done = score(folder, "--calibrate", "6")
    assert done.returncode == 0, done.stderr
    said = [line.split() for line in done.stdout.splitlines()]
    assert said[0][-4:] == ["auto,", "6", "for", "calibration"]
    assert ["labelled", "good", "or", "bad", "2"] in said
    assert ["no_person", "1"] in said
    assert ["accuracy", "of", "decided", "1", "of", "1", "=", "1.000", "[0.207,", "1.000]"] in said
    assert ["other", "labels", "1,", "of", "which", "1", "got", "a", "verdict"] in said
    assert any(line[:3] == ["balanced", "accuracy", "none:"] for line in said), "no bad one was decided"


def test_without_a_calibration_front_views_are_withheld(folder: Path) -> None:
    assert "not_calibrated      7" in score(folder).stdout


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        pytest.param(None, "labels.csv: can't be read", id="no labels"),
        pytest.param("file,label\n", "has no pictures", id="nothing in it"),
        pytest.param("name,label\na.jpg,good\n", "labels.csv:2: file or label is missing", id="another column"),
        pytest.param("file,label\nnone.jpg,good\n", "none.jpg: can't be read", id="a missing picture"),
        pytest.param("file,label\nimages/1.jpg,good\n", "recording '' has 1", id="too few to calibrate"),
    ],
)
def test_a_folder_that_cant_be_scored_is_one_clear_error(folder: Path, lines: str | None, said: str) -> None:
    if lines is None:
        (folder / "labels.csv").unlink()
    else:
        (folder / "labels.csv").write_text(lines)
    done = score(folder, "--calibrate", "6")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
