"""gpu_balancer.py as a program: its flags, its settings and its mistakes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from driven_exporter import gpu_queries

import cpu_monitor_and_offload
import gpu_balancer
import patch_scaledjob

ROOT = Path(__file__).resolve().parents[2]


def mistakes(*flags: str, file: Path | None = None, **environment: str) -> list[str]:
    done = subprocess.run(  # noqa: PLW1510
        [sys.executable, str(ROOT / "gpu_balancer.py"), *(["--config", str(file)] if file else []), *flags],
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
        env={"PATH": os.environ["PATH"], **environment},
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


def write_settings(path: Path) -> Path:
    queries = {name: dataclasses.asdict(query) for name, query in gpu_queries("agx").items()}
    path.write_text(json.dumps({"GPU_QUERIES": queries}))
    return path


def test_all_flags_that_are_not_accepted_are_reported_at_once(tmp_path: Path) -> None:
    file = write_settings(tmp_path / "cluster.yaml")
    said = mistakes("--policy", "best", "--threshold", "101", "--interval", "-1", file=file)
    assert said == [
        "error: --policy: 'best' is not accepted; accepted: guarded or readme",
        "--threshold: '101' is not accepted; accepted: 0 to 100",
        "--interval: '-1' is not accepted; accepted: a number of at least 0",
    ]


def test_a_window_of_less_than_two_samples_is_refused(tmp_path: Path) -> None:
    (said,) = mistakes("--window", "9", file=write_settings(tmp_path / "cluster.yaml"))
    assert "balancer.window_s: 9 is not accepted; accepted: at least two samples" in said


def test_without_gpu_queries_there_is_nothing_to_balance(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("balancer: {threshold: 60}\n")
    (said,) = mistakes("--once", file=file)
    assert "GPU_QUERIES is empty" in said


def test_without_credentials_the_error_says_where_they_are_looked_for(tmp_path: Path) -> None:
    file = write_settings(tmp_path / "cluster.yaml")
    said = mistakes("--once", file=file, KUBECONFIG=str(tmp_path / "none"))
    assert said[-1].startswith("error: no Kubernetes credentials:")
    assert str(tmp_path / "none") in said[-1]


def test_flags_win_over_environment_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_settings(tmp_path / "cluster.yaml")
    monkeypatch.setenv("GPU_THRESHOLD", "40")
    assert gpu_balancer.load_settings(gpu_balancer.parse(["--config", str(file)])).balancer.threshold == 40
    flags = gpu_balancer.parse(["--config", str(file), "--threshold", "60", "--window", "10"])
    loaded = gpu_balancer.load_settings(flags).balancer
    assert (loaded.threshold, loaded.window_s) == (60, 10)


def test_importing_the_script_reads_nothing(tmp_path: Path) -> None:
    code = "import gpu_balancer; print(type(gpu_balancer.GPU_QUERIES).__name__)"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout == "GpuQueries\n"


def test_the_three_scheduling_scripts_meet_the_reader_with_the_same_map() -> None:
    scripts = [gpu_balancer, cpu_monitor_and_offload, patch_scaledjob]
    assert len({id(script.GPU_QUERIES) for script in scripts}) == 1
    for script in scripts:
        first_lines = Path(script.__file__).read_text().splitlines()[:45]
        assert "GPU_QUERIES = loading.GPU_QUERIES" in first_lines, script.__name__
