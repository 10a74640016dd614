"""Frames that wait at the camera: bounded, in order, and whole after a power cut."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from farm import noise_jpeg

from posture.camera.spool import Memory, Spool, Waiting
from posture.errors import UserError
from posture.wire import frame


def kept_in(waiting: Waiting, numbers: range, size: int = 100) -> None:
    for number in numbers:
        waiting.add(f"f{number}", bytes(size))


@pytest.mark.parametrize("kind", ["spool", "memory"])
def test_what_waits_is_bounded_in_bytes_and_age_and_the_oldest_go(tmp_path: Path, kind: str) -> None:
    def make(max_age_s: float) -> Waiting:
        return Memory(1000, max_age_s) if kind == "memory" else Spool(tmp_path / f"{max_age_s}", 1000, max_age_s)

    full = make(1000.0)
    kept_in(full, range(25))
    assert full.ids() == [f"f{number}" for number in range(15, 25)]
    assert full.dropped == 15
    assert not full.add("large", bytes(1001))
    assert (len(full), full.dropped) == (10, 16), "one that can't fit pushes nobody out"
    assert full.remove("f20")
    assert not full.remove("f20")
    assert (full.read("f21"), full.read("f20")) == (bytes(100), None)
    old = make(0.05)
    kept_in(old, range(3))
    threading.Event().wait(0.1)
    old.drop_old()
    assert (len(old), old.dropped) == (0, 3)


def stamped(seq: int) -> bytes:
    return frame.stamp(noise_jpeg(seq, 16, 16), frame.Identity(f"cam-{seq}", None, seq, "boot"))


def test_a_spool_is_taken_up_in_order_of_capture_also_where_the_clock_was_set_back(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool", 10**6, 10**6)
    for seq in (3, 1, 2):
        first.add(f"cam-{seq}", stamped(seq))
    first.close()
    for path in sorted((tmp_path / "spool").iterdir()):  # as if the clock had been a year ahead
        number, name = path.name.split("-", 1)
        path.rename(path.with_name(f"{int(number) + 31_536_000 * 10**9:020d}-{name}"))
    second = Spool(tmp_path / "spool", 10**6, 10**6)
    second.add("cam-9", stamped(9))
    second.close()
    third = Spool(tmp_path / "spool", 10**6, 10**6)
    assert third.ids() == ["cam-3", "cam-1", "cam-2", "cam-9"]
    assert third.read("cam-2") == stamped(2)


def test_what_a_power_cut_left_half_done_is_cleared_away(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 10**6, 10**6)
    spool.add("cam-1", stamped(1))
    spool.close()
    (tmp_path / "spool" / "00000000000000000007-cam-2.jpg").touch()
    (tmp_path / "spool" / "00000000000000000008-cam-3.jpg.writing").write_bytes(b"half")
    again = Spool(tmp_path / "spool", 10**6, 10**6)
    assert (again.ids(), again.dropped) == (["cam-1"], 1)
    assert len(list((tmp_path / "spool").iterdir())) == 1


def test_a_disk_that_takes_no_frame_costs_that_frame_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 10**6, 10**6)
    spool.add("cam-1", stamped(1))
    (tmp_path / "spool").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        spool.add("cam-2", stamped(2))
    (tmp_path / "away").rename(tmp_path / "spool")
    assert spool.add("cam-3", stamped(3))
    assert (spool.ids(), spool.dropped) == (["cam-1", "cam-3"], 1)


def test_a_spool_that_cannot_be_made_names_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        Spool(tmp_path / "file" / "spool", 10**6, 10**6)


def test_frames_in_a_spool_are_for_their_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        spool = Spool(tmp_path / "spool", 1_000_000, 60)
        spool.add("frame", bytes(100))
        spool.close()
        (frame,) = (tmp_path / "spool").iterdir()
        assert stat.S_IMODE(frame.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(frame.stat().st_mode) == 0o600
        frame.chmod(0o644)  # as an earlier version left it
        Spool(tmp_path / "spool", 1_000_000, 60).close()
        assert stat.S_IMODE(frame.stat().st_mode) == 0o600
    finally:
        os.umask(before)
