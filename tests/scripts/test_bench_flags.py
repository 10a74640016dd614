"""Numbers with which a bench could measure nothing are refused before it starts anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


def refusal(bench: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCH / f"{bench}.py"), *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("bench", "flag", "number"),
    [
        ("scheduling", "--seeds", "0"),
        ("scheduling", "--large-seeds", "0"),
        ("scheduling", "--workers", "-1"),
        ("history", "--repeat", "0"),
        ("exporter", "--seconds", "0"),
        ("farm", "--nodes", "0"),
        ("many_streams", "--start", "-1"),
        ("dashboard", "--fps", "nan"),
        ("memory", "--frames", "0"),
        ("scaler", "--seconds", "inf"),
        ("still", "--seconds", "0.5"),
        ("truth", "--calibrate", "-1"),
        ("truth", "--roll", "nan"),
        ("still", "--quality", "101"),
    ],
)
def test_a_number_with_which_nothing_could_be_measured_is_refused(bench: str, flag: str, number: str) -> None:
    assert f"argument {flag}: '{number}' is not accepted; accepted: " in refusal(bench, flag, number)


def test_two_people_are_needed_to_see_who_is_measured(tmp_path: Path) -> None:
    assert f"{tmp_path}: 0 of its .jpg show one whole person; accepted: at least 2" in refusal(
        "people", str(tmp_path)
    )
