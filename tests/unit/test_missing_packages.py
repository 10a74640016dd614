"""Each script says which package is missing, and how to get it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {
    "Images_From_Pi1.py": "analyzer",
    "build_and_push.py": "scheduler",
    "cpu_monitor_and_offload.py": "scheduler",
    "gpu_balancer.py": "scheduler",
    "patch_scaledjob.py": "scheduler",
    "publish_images.py": "camera",
    "run_local.py": "local",
    "simulate.py": "scheduler",
    "stop.py": "scheduler",
}


@pytest.mark.parametrize("script", sorted(set(SCRIPTS) - {"simulate.py"}))
def test_a_missing_package_is_one_line_and_status_2(script: str, tmp_path: Path) -> None:
    # without site-packages, there is nothing but the standard library
    command = [sys.executable, "-S", "-E", str(ROOT / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the Python package ")
    assert f"-r requirements/{SCRIPTS[script]}.txt" in line


def test_a_package_that_is_too_old_is_told_from_one_that_is_missing(tmp_path: Path) -> None:
    """As Debian 12's paho-mqtt, beside a PyYAML."""
    (tmp_path / "paho" / "mqtt").mkdir(parents=True)
    (tmp_path / "paho" / "mqtt" / "client.py").touch()
    (tmp_path / "paho" / "mqtt" / "reasoncodes.py").write_text("class ReasonCode: ...")
    (tmp_path / "yaml").symlink_to(Path(yaml.__file__).parent)
    command = [sys.executable, "-S", str(ROOT / "publish_images.py"), "--help"]
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "error: the Python package paho is of another version: it has no paho.mqtt.enums; get it:"
    )
    assert "-r requirements/camera.txt" in line


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_tells_its_version(script: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / script), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Posture Farm ")
