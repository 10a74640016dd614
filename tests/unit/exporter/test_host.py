"""Processors and memory from /proc, of made trees and of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from boards import proc

from posture.exporter import host
from posture.exporter.source import UnreadableError


def test_a_processor_that_waits_for_a_disk_is_free_and_a_guests_time_counts_once(tmp_path: Path) -> None:
    proc(tmp_path, busy=100, idle=1000, iowait=50)
    before = host.cpu_times(tmp_path)
    proc(tmp_path, busy=130, idle=1060, iowait=60, guest=30)
    assert host.cpu_times(tmp_path).busy_since(before) == pytest.approx(30.0)


def test_counters_that_go_back_or_stand_still_make_no_nonsense(tmp_path: Path) -> None:
    proc(tmp_path, busy=100, idle=1000)
    before = host.cpu_times(tmp_path)
    assert before.busy_since(before) is None
    proc(tmp_path, busy=110, idle=990)
    assert host.cpu_times(tmp_path).busy_since(before) is None
    proc(tmp_path, busy=200, idle=990)
    assert host.cpu_times(tmp_path).busy_since(before) == 100.0


def test_this_machine_is_read() -> None:
    times = host.cpu_times(Path("/proc"))
    assert 0 < times.busy < times.total
    assert 1 << 20 < host.memory_available(Path("/proc")) < 1 << 50


def test_pressure_is_the_last_ten_seconds(tmp_path: Path) -> None:
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "memory").write_text(
        "some avg10=2.50 avg60=9.00 avg300=0.10 total=12345\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=1\n"
    )
    assert host.memory_pressure(tmp_path) == 2.5


@pytest.mark.parametrize("text", ["", "cpu  1 2\n", "cpu  a b c d e\n", "cpu0 1 2 3 4 5 6 7 8\n", "\xff"])
def test_what_is_no_file_of_the_kernel_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "stat").write_text(text, encoding="latin-1")
    with pytest.raises(UnreadableError, match=str(tmp_path / "stat")):
        host.cpu_times(tmp_path)
    for read in (host.memory_available, host.memory_pressure):
        with pytest.raises(UnreadableError, match="No such file"):
            read(tmp_path)
