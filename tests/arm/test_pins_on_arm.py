"""What is pinned can be installed on 64-bit ARM, without a compiler."""

from __future__ import annotations

import subprocess
from pathlib import Path

import machines
import pytest

PINNED = sorted(path.stem for path in machines.REQUIREMENTS.glob("*.txt"))


@pytest.mark.parametrize(
    "role", [pytest.param(role, marks=() if role == "dev" else pytest.mark.long) for role in PINNED]
)
def test_every_package_of_a_role_has_a_wheel_for_arm(role: str, tmp_path: Path) -> None:
    """Of dev.txt, which has most of the others', in every gate."""
    pins = machines.REQUIREMENTS / f"{role}.txt"
    command = [*machines.pip_install("arm64"), "--dry-run", "--target", tmp_path, "-r", pins]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
