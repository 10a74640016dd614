"""gpu_exporter.py as it is run on a node: a real process, made boards, a real Prometheus."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from boards import DEVFREQ, devfreq, proc
from processes import resident_kib
from servers import PrometheusServer, free_port, wait_until_accepting
from watching import wait_for

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "gpu_exporter.py"


@contextlib.contextmanager
def running(folder: Path, *arguments: object) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The exporter on a free port of loopback."""
    port, log = free_port(), folder / "exporter.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--listen", f"127.0.0.1:{port}", *map(str, arguments)], stderr=output
        )
    try:
        wait_until_accepting(port, process, log)
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()


def figures(port: int) -> dict[str, float]:
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    return {name: float(value) for name, value in re.findall(r"^(posture_\w+) (\S+)$", text, re.MULTILINE)}


def until(port: int, *names: str) -> dict[str, float]:
    """Wait until these series are there."""
    deadline = time.monotonic() + 60
    while not (found := figures(port)).keys() >= set(names):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def test_a_board_is_shown_as_it_is_and_what_it_does_not_have_has_no_series(tmp_path: Path) -> None:
    load = devfreq(tmp_path / "sys", *DEVFREQ["Orin, JetPack 6"])
    load.write_text("250")
    proc(tmp_path / "proc", 100, 900)
    with running(tmp_path, "--sys", tmp_path / "sys", "--proc", tmp_path / "proc") as (port, _):
        found = until(port, "posture_gpu_usage_percent")
        assert found["posture_gpu_usage_percent"] == 25
        assert "posture_cpu_usage_percent" not in found, "its counters stand still"
        assert not [name for name in found if "memory" in name]
        assert time.time() - found["posture_exporter_read_timestamp_seconds"] < 60


def test_this_machine_reaches_a_real_prometheus_and_is_ready(tmp_path: Path) -> None:
    with running(tmp_path) as (port, _):
        found = until(port, "posture_cpu_usage_percent", "posture_memory_available_bytes")
        assert 0 <= found["posture_cpu_usage_percent"] <= 100
        assert "posture_gpu_usage_percent" not in found
        # not ready is one that has stood still for 5 s
        wait_for(lambda: requests.get(f"http://127.0.0.1:{port}/readyz", timeout=60).status_code == 200)
        targets = [{"targets": [f"127.0.0.1:{port}"], "labels": {"instance": "nano:9101"}}]
        server = PrometheusServer(tmp_path / "prometheus", targets, scrape_interval_s=0.5)
        server.start()
        try:
            query, url = {"query": 'posture_cpu_usage_percent{instance="nano:9101"}'}, f"{server.url}/api/v1/query"
            wait_for(lambda: bool(requests.get(url, query, timeout=60).json()["data"]["result"]))
        finally:
            server.stop()


def test_once_prints_what_can_be_read_and_what_was_tried(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--once"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert re.search(r"^CPU +\d+\.\d %$", done.stdout, re.MULTILINE)
    assert re.search(r"^GPU +can't be read; tried: .*devices/gpu.0/load.*NVML", done.stdout, re.MULTILINE)
    nothing = subprocess.run(
        [sys.executable, str(SCRIPT), "--once", "--proc", str(tmp_path), "--sys", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert nothing.returncode == 1
    assert "CPU" in nothing.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listen", "9101"], "'9101' is not accepted; accepted: [HOST]:PORT"),
        (["--listen", ":99999"], "':99999' is not accepted"),
        (["--sys", "/nowhere"], "/nowhere is no folder; accepted: where the node's /proc and /sys are mounted"),
        (["--listen", "192.0.2.1:9101"], "metrics port 9101: can't be had"),
    ],
)
def test_a_wrong_flag_is_one_line_and_status_2(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_it_is_small(tmp_path: Path) -> None:
    with running(tmp_path) as (port, process):
        until(port, "posture_cpu_usage_percent")
        resident = resident_kib(process.pid)
        assert resident < 30 * 1024, f"{resident} kB: something is imported that is not needed"
