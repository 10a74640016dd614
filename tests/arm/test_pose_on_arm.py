"""The pose model on ARM's processors: the same landmarks and verdicts as here, or a clear line."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machines
import numpy as np
import pytest
from farm import clip_jpegs
from machines import PYTHON, PYTHON_VERSION, ROOT, VENV, Machine

from posture.analyzer.fitting import NEEDS

MakeMachine = Callable[..., Machine]
LOOK = Path(__file__).resolve().parent / "look.py"
MODEL = ROOT / "models" / "pose_landmarker_full.task"
PICTURES = ROOT / "tests" / "unit" / "analyzer" / "pictures"
NAMES = {
    "cmpxchg16b": "cx16",
    "crc": "crc32",
    "dotprod": "asimddp",
    "fp16": "fphp",
    "lse": "atomics",
    "pclmul": "pclmulqdq",
    "rcpc": "lrcpc",
    "rdm": "asimdrdm",
    "sse3": "pni",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
}
"""The compiler's names of what the kernel calls otherwise."""
EVERY_X86_64_HAS = {"mmx", "sse", "sse2"}
OLDER, NEWER = "0.10.18", "1.2.2"

everything = pytest.mark.long
OLD_PROCESSORS = [
    pytest.param("cortex-a72", id="cortex-a72, Raspberry Pi 4"),
    pytest.param("cortex-a53", id="cortex-a53, Raspberry Pi 3 and Zero 2", marks=everything),
    pytest.param("cortex-a57", id="cortex-a57, Jetson Nano and TX2", marks=everything),
    pytest.param("cortex-a35", id="cortex-a35", marks=everything),
    pytest.param("a64fx", id="a64fx, which lacks what Xavier lacks", marks=everything),
]
NEW_PROCESSORS = [
    pytest.param("cortex-a76", id="cortex-a76, Raspberry Pi 5"),
    pytest.param("cortex-a55", id="cortex-a55", marks=everything),
    pytest.param("cortex-a710", id="cortex-a710", marks=everything),
    pytest.param("neoverse-n1", id="neoverse-n1, Ampere", marks=everything),
    pytest.param("neoverse-n2", id="neoverse-n2", marks=everything),
    pytest.param("neoverse-v1", id="neoverse-v1", marks=everything),
]


def seen_on(machine: Machine, *pictures: Path) -> dict[str, Any]:
    done = machine.run(PYTHON, LOOK, MODEL, *pictures, timeout_s=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


def check_astronaut(machine: Machine, mediapipe: str) -> None:
    recorded = np.array(json.loads((PICTURES / "astronaut_landmarks.json").read_text())["landmarks"])
    seen = seen_on(machine, PICTURES / "astronaut.jpg")
    assert seen["mediapipe"] == mediapipe
    assert np.array(seen["found"][0]["landmarks"]) == pytest.approx(recorded, abs=1e-3)
    print(f"{machine.processor}: {np.abs(seen['found'][0]['landmarks'] - recorded).max():.5f} off")


@pytest.mark.parametrize("processor", OLD_PROCESSORS)
def test_an_old_processor_finds_the_recorded_landmarks_with_the_older_mediapipe(
    analyzer_machine: MakeMachine, processor: str
) -> None:
    check_astronaut(analyzer_machine(processor), OLDER)


@pytest.mark.parametrize("processor", NEW_PROCESSORS)
def test_a_newer_processor_finds_the_recorded_landmarks_with_the_newer_one(
    analyzer_machine: MakeMachine, processor: str
) -> None:
    check_astronaut(analyzer_machine(processor), NEWER)


@pytest.mark.parametrize("processor", OLD_PROCESSORS)
def test_an_old_processor_without_the_older_mediapipe_is_told_in_one_line(
    analyzer_machine: MakeMachine, processor: str
) -> None:
    machine = analyzer_machine(processor, older_mediapipe=False)
    done = machine.run(PYTHON, LOOK, MODEL, PICTURES / "astronaut.jpg")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert re.match(r"error: mediapipe 1\.\S+ can't run on this processor, which lacks asimddp,.* lrcpc\. ", line)
    assert "Raspberry Pi 5" in line


def ten_pictures(folder: Path) -> list[Path]:
    pictures = [folder / f"{number}.jpg" for number in range(10)]
    for path, jpeg in zip(pictures, clip_jpegs(191)[::19], strict=False):
        path.write_bytes(jpeg)
    return pictures


def seen_here(*pictures: Path, **environment: str) -> dict[str, Any]:
    command = [sys.executable, LOOK, MODEL, *pictures]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


def check_verdicts(seen: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert {one["status"] for one in expected} >= {"Good", "Bad"}
    for one, other in zip(seen, expected, strict=True):
        assert (one["status"], one["reason"]) == (other["status"], other["reason"])
        assert one["angles"] == pytest.approx(other["angles"], abs=0.2)


@pytest.mark.skipif(
    (platform.machine(), platform.python_version_tuple()[:2]) != ("x86_64", tuple(PYTHON_VERSION.split("."))),
    reason=f"its packages are installed for Python {PYTHON_VERSION} on x86",
)
def test_both_versions_give_the_same_verdicts_on_this_processor(tmp_path: Path) -> None:
    folder = f"{VENV}/armv8.0"
    older = machines.packages("amd64", "analyzer-armv8.0", folder) / folder.lstrip("/")
    pictures = [*ten_pictures(tmp_path), PICTURES / "astronaut.jpg"]
    expected, seen = seen_here(*pictures), seen_here(*pictures, PYTHONPATH=str(older))
    assert (expected["mediapipe"], seen["mediapipe"]) == (NEWER, OLDER)
    check_verdicts(seen["found"], expected["found"])
    ours, theirs = (np.array(one["found"][-1]["landmarks"]) for one in (seen, expected))
    assert ours == pytest.approx(theirs, abs=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("processor", ["cortex-a72", "cortex-a76"])
def test_ten_pictures_get_the_verdicts_that_they_get_here(
    analyzer_machine: MakeMachine, processor: str, tmp_path: Path
) -> None:
    pictures = ten_pictures(tmp_path)
    check_verdicts(seen_on(analyzer_machine(processor), *pictures)["found"], seen_here(*pictures)["found"])


@pytest.mark.parametrize("machine", ["aarch64", "x86_64"])
def test_what_is_asked_of_a_processor_is_what_mediapipe_was_compiled_for(machine: str) -> None:
    if machine == "aarch64":
        site = machines.packages("arm64", "analyzer") / f"{VENV}/lib".lstrip("/")
    else:
        site = Path(sys.prefix) / "lib"
    (library,) = site.glob("python3*/site-packages/mediapipe/tasks/c/libmediapipe.so")
    compiled_for = {
        name.decode() for name in re.findall(rb"was compiled with ([\w.]+) enabled", library.read_bytes())
    }
    assert compiled_for, "mediapipe says no more what it was compiled for"
    assert {NAMES.get(name, name) for name in compiled_for - EVERY_X86_64_HAS} == set(NEEDS[machine])
