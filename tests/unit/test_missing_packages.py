"""Each script says which package is missing, and how to get it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {
    "Images_From_Pi.py": "analyzer",
    "Images_From_Pi1.py": "analyzer",
    "Images_From_Pi2.py": "analyzer",
    "broker_identities.py": "scheduler",
    "build_and_push.py": "scheduler",
    "cpu_monitor_and_offload.py": "scheduler",
    "dashboard.py": "dashboard",
    "gpu_balancer.py": "scheduler",
    "patch_scaledjob.py": "scheduler",
    "publish_images.py": "camera",
    "report.py": "local",
    "run_local.py": "local",
    "setup_farm.py": "scheduler",
    "simulate.py": "scheduler",
    "stop.py": "scheduler",
}
OTHERS = {
    "bench/truth.py": "analyzer",
    "docs/people.py": "analyzer",
    "docs/picture.py": "local",
    "docs/views.py": "analyzer",
}
"""Beside the farm's scripts, and without their flags."""


@pytest.mark.parametrize("script", sorted({*SCRIPTS, *OTHERS} - {"simulate.py"}))
def test_a_missing_package_is_one_line_and_status_2(script: str, tmp_path: Path) -> None:
    # without site-packages, there is nothing but the standard library
    command = [sys.executable, "-S", "-E", str(ROOT / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the Python package ")
    assert f"-r requirements/{(SCRIPTS | OTHERS)[script]}.txt" in line


def test_a_missing_package_of_the_probe_is_one_line_too() -> None:
    command = [sys.executable, "-S", "-E", "-m", "posture.analyzer.probe"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "-r requirements/analyzer.txt" in done.stderr


def line_of(script: str, packages: Path) -> str:
    """What a script says that finds no packages but those of a folder."""
    command = [sys.executable, "-S", str(ROOT / script), "--help"]
    environ = os.environ | {"PYTHONPATH": str(packages)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("lacks", ["ReasonCode", "enums"])
def test_a_package_that_is_too_old_is_told_from_one_that_is_missing(tmp_path: Path, lacks: str) -> None:
    """As Debian 12's paho-mqtt, beside a PyYAML."""
    (tmp_path / "paho" / "mqtt").mkdir(parents=True)
    (tmp_path / "paho" / "mqtt" / "client.py").touch()
    (tmp_path / "paho" / "mqtt" / "reasoncodes.py").write_text("class ReasonCode: ..." if lacks == "enums" else "")
    (tmp_path / "yaml").symlink_to(Path(yaml.__file__).parent)
    line = line_of("publish_images.py", tmp_path)
    assert line.startswith("error: the Python package paho can't be used as it is: ")
    assert lacks in line
    assert "; get it: python3 -m pip install -r requirements/camera.txt" in line


def test_a_library_that_the_system_lacks_is_named_with_the_packages_that_have_it(tmp_path: Path) -> None:
    missing = "libGL.so.1: cannot open shared object file: No such file or directory"
    for name in ("cv2", "paho"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError({missing!r}, name={name!r})")
    (tmp_path / "yaml").symlink_to(Path(yaml.__file__).parent)
    line = line_of("Images_From_Pi1.py", tmp_path)
    assert missing in line
    (libraries,) = re.findall(r"^LIBRARIES := (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert line.endswith(f"; get it: sudo apt-get install {libraries}")


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_tells_its_version(script: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / script), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Posture Farm ")
