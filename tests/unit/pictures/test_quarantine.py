"""Frames that can't be decoded: kept as they came, in bounds. test_folder.py has what they share with pictures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from posture.pictures.quarantine import Quarantine


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_quarantine_keeps_the_bytes_as_they_came(tmp_path: Path) -> None:
    Quarantine(tmp_path / "quarantine", 9, 999, enabled=True).keep("frame-1", b"\x00no picture")
    assert (tmp_path / "quarantine" / "frame-1.bin").read_bytes() == b"\x00no picture"


@pytest.mark.parametrize(("max_count", "max_bytes"), [(3, 1_000), (1_000, 30)], ids=["count", "bytes"])
def test_quarantine_is_bounded_and_the_oldest_goes_first(tmp_path: Path, max_count: int, max_bytes: int) -> None:
    quarantine = Quarantine(tmp_path, max_count, max_bytes, enabled=True)
    for number in range(6):
        quarantine.keep(f"{number}", bytes(10))
        os.utime(tmp_path / f"{number}.bin", (number, number))
        assert len(names(tmp_path)) <= 3
    assert names(tmp_path) == ["3.bin", "4.bin", "5.bin"]


def test_quarantine_keeps_no_payload_that_is_larger_than_all_of_it_may_be(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, 10, 30, enabled=True)
    quarantine.keep("small", bytes(10))
    quarantine.keep("large", bytes(31))
    assert names(tmp_path) == ["small.bin"]


@pytest.mark.parametrize(("max_count", "enabled"), [(10, False), (0, True)], ids=["off", "no room"])
def test_quarantine_that_is_off_writes_nothing(tmp_path: Path, max_count: int, enabled: bool) -> None:
    Quarantine(tmp_path / "quarantine", max_count, 1_000, enabled).keep("frame-1", b"a face")
    assert names(tmp_path) == []
