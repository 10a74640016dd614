"""python3 -m posture.analyzer.probe as a person types it: figures, a line to paste, and what is not accepted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def probe(*flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "posture.analyzer.probe", *flags]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=180, check=False, cwd=ROOT, env={**kept, **environ}
    )


def test_a_board_gets_its_figures_a_line_to_paste_and_a_speed_that_the_simulator_takes() -> None:
    done = probe("--delegate", "cpu", "--frames", "5")
    assert done.returncode == 0, done.stderr
    found = dict(line.split(maxsplit=1) for line in done.stdout.split("\n\n")[0].splitlines())
    assert "on the CPU (asked for: cpu)" in found["mediapipe"]
    assert float(found["landmarks"].split()[0]) < 0.001
    assert 100 < float(found["memory"].split()[0]) < 1000
    pasted = done.stdout.splitlines()[-1]
    (speed,) = re.findall(r"speed ([\d.]+)$", pasted)
    command = found["speed"].split("python3 ")[1].split()
    assert command[-1].endswith(f":1:{speed}")
    simulated = subprocess.run(
        [sys.executable, *command, "--jobs", "1", "--loops", "2"],
        capture_output=True, text=True, timeout=180, check=False, cwd=ROOT,
    )  # fmt: skip
    assert simulated.returncode == 0, simulated.stderr


def test_the_cpu_instead_of_the_gpu_is_status_1_with_the_reason() -> None:
    done = probe("--delegate", "gpu", "--frames", "1")
    if "on the GPU" in done.stdout:
        pytest.skip("this machine has a usable GPU")
    assert done.returncode == 1
    assert re.search(r"on the CPU \(asked for: gpu; the GPU is not usable: \w+", done.stdout)
    assert re.search(r"\| mediapipe \S+ cpu \(asked gpu\) \|", done.stdout)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--delegate", "tpu"), "accepted: auto, cpu or gpu"),
        (("--frames", "0"), "accepted: a whole number above 0"),
        (("--frames", "some"), "accepted: a whole number above 0"),
    ],
)
def test_what_is_not_accepted_is_one_line_and_status_2(flags: tuple[str, str], said: str) -> None:
    done = probe(*flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_is_not_there_is_named() -> None:
    done = probe(POSTURE_ANALYZER_MODEL="absent.task")
    assert done.returncode == 2
    assert re.search(r"^error: model: .*absent\.task is not there", done.stderr, re.MULTILINE)
