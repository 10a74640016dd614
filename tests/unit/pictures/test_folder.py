"""Pictures on disk before anything is acknowledged; bounds of what is kept."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posture.pictures.base import PicturesUnavailableError
from posture.pictures.folder import PictureFolder
from posture.pictures.quarantine import Quarantine

ROOT = Path(__file__).resolve().parents[3]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def aged(folder: Path, name: str, size: int, age_s: float) -> None:
    (folder / name).write_bytes(bytes(size))
    changed = time.time() - age_s  # now, not when the tests were collected
    os.utime(folder / name, (changed, changed))


def test_pictures_are_there_under_their_names_and_nothing_else_is(tmp_path: Path) -> None:
    root = tmp_path / "analyzed_images" / "analyzed_images_from_pi1"
    PictureFolder(root).write_many([("a.jpg", b"first"), ("b.jpg", b"second")])
    assert names(root) == ["a.jpg", "b.jpg"]
    assert (root / "a.jpg").read_bytes() == b"first"
    assert (root / "b.jpg").read_bytes() == b"second"


def test_a_picture_that_is_written_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path)
    folder.write_many([("a.jpg", b"first")])
    folder.write_many([("a.jpg", b"again")])
    assert names(tmp_path) == ["a.jpg"]
    assert (tmp_path / "a.jpg").read_bytes() == b"again"


def test_no_folder_is_made_for_no_picture(tmp_path: Path) -> None:
    PictureFolder(tmp_path / "none").write_many([])
    PictureFolder(tmp_path / "none", max_bytes=1, max_age_s=1).prune()
    assert names(tmp_path) == []


def test_pictures_of_people_are_not_for_everybody_on_the_host(tmp_path: Path) -> None:
    PictureFolder(tmp_path / "pictures").write_many([("a.jpg", b"x")])
    Quarantine(tmp_path / "quarantine", 9, 999, enabled=True).keep("b", b"x")
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o007 == 0, path


def test_file_and_folder_are_synced_before_the_write_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        assert calls[-1] == ("sync", source.name)
        calls[-1] = ("written, synced, renamed", target.name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    PictureFolder(tmp_path / "new" / "folder").write_many([("a.jpg", b"x"), ("b.jpg", b"y")])
    assert calls == [
        ("sync", tmp_path.name),  # the folders that had to be made
        ("sync", "new"),
        ("written, synced, renamed", "a.jpg"),
        ("written, synced, renamed", "b.jpg"),
        ("sync", "folder"),
    ]


def test_a_full_disk_is_said_leaves_no_part_of_a_file_and_is_over_when_there_is_room(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(900_000))
    folder = PictureFolder(small_disk / "pictures")
    with pytest.raises(PicturesUnavailableError, match=f"{small_disk}/pictures: No space left"):
        folder.write_many([("a.jpg", bytes(30_000)), ("b.jpg", bytes(500_000))])
    assert names(small_disk / "pictures") == ["a.jpg"]
    with pytest.raises(PicturesUnavailableError, match=r"quarantine .*: No space left"):
        Quarantine(small_disk / "quarantine", 10, 1_000_000, enabled=True).keep("c", bytes(500_000))
    assert names(small_disk / "quarantine") == []
    filler.unlink()
    folder.write_many([("a.jpg", bytes(30_000)), ("b.jpg", bytes(500_000))])
    assert names(small_disk / "pictures") == ["a.jpg", "b.jpg"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PicturesUnavailableError, match=f"{tmp_path}/file/pictures: Not a directory"):
        PictureFolder(tmp_path / "file" / "pictures").write_many([("a.jpg", b"x")])
    with pytest.raises(PicturesUnavailableError, match=f"{tmp_path}/file"):
        PictureFolder(tmp_path / "file").write_many([("a.jpg", b"x")])


@pytest.mark.parametrize("name", ["../a.jpg", "/tmp/a.jpg", "sub/a.jpg", "..", "", ".hidden.jpg"])  # noqa: S108
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name for a file"):
        PictureFolder(tmp_path / "pictures").write_many([(name, b"x")])
    assert names(tmp_path / "pictures") == []


def test_what_a_killed_process_left_half_written_goes_at_the_next_start(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path; from posture.pictures.folder import PictureFolder\n"
        "from posture.pictures.quarantine import Quarantine\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "root = Path(sys.argv[1])\n"
        "if sys.argv[3] == 'pictures': PictureFolder(root / 'pictures').write_many([('a.jpg', b'x')])\n"
        "else: Quarantine(root / 'quarantine', 9, 99, True).keep('a', b'x')\n"
    )
    for kind in ("pictures", "quarantine"):
        (tmp_path / kind).mkdir()
        command = [sys.executable, "-c", script, str(tmp_path), str(ROOT), kind]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert len(names(tmp_path / kind)) == 1
    PictureFolder(tmp_path / "pictures")
    Quarantine(tmp_path / "quarantine", 9, 99, enabled=True)
    assert names(tmp_path / "pictures") == names(tmp_path / "quarantine") == []


def test_a_picture_is_written_also_if_another_starts_before_its_file_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, begun = fcntl.flock, []

    def start_another_first(descriptor: int, how: int) -> None:
        if not begun:
            begun.append(names(tmp_path))
            PictureFolder(tmp_path)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", start_another_first)
    PictureFolder(tmp_path).write_many([("a.jpg", b"x")])
    assert len(begun[0]) == 1, "there was no file to take"
    assert names(tmp_path) == ["a.jpg"]


def test_a_folder_where_nothing_can_be_locked_is_told_and_nothing_is_left_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(PicturesUnavailableError, match="No locks available"):
        PictureFolder(tmp_path).write_many([("a.jpg", b"x")])
    assert names(tmp_path) == []


def test_two_processes_that_write_the_same_picture_leave_a_whole_one(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path; from posture.pictures.folder import PictureFolder\n"
        "folder = PictureFolder(Path(sys.argv[1])); input()\n"
        "for _ in range(50): folder.write_many([('a.jpg', sys.argv[3].encode() * 100_000)])\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(ROOT), letter], stdin=subprocess.PIPE)
        for letter in "xy"
    ]
    for writer in writers:
        assert writer.stdin is not None
        with contextlib.closing(writer.stdin) as start:
            start.write(b"\n")
    assert [writer.wait(300) for writer in writers] == [0, 0]
    assert names(tmp_path) == ["a.jpg"]
    assert (tmp_path / "a.jpg").read_bytes() in (b"x" * 100_000, b"y" * 100_000)


def test_pictures_older_than_the_limit_go(tmp_path: Path) -> None:
    for name, age_s in (("old.jpg", 100), ("young.jpg", 50)):
        aged(tmp_path, name, 10, age_s)
    PictureFolder(tmp_path, max_age_s=80).prune()
    assert names(tmp_path) == ["young.jpg"]


def test_the_oldest_pictures_go_beyond_the_limit_of_bytes(tmp_path: Path) -> None:
    for number in range(10):
        aged(tmp_path, f"{number}.jpg", 100, 100 * number)
    PictureFolder(tmp_path, max_bytes=350).prune()
    assert names(tmp_path) == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_bound_that_nobody_has_chosen_spares_the_pictures_that_were_there_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for age_s in (100, 200):
        aged(tmp_path, f"before-{age_s}.jpg", 1000, age_s)
    aged(tmp_path, "of-a-clock-that-was-ahead.jpg", 1000, -1e6)

    def folder() -> PictureFolder:
        return PictureFolder(tmp_path, max_bytes=350, spares_earlier=True)

    folder().prune()
    assert "3 pictures (0.0 GB) of before stay" in caplog.text
    for number in range(5):
        folder().write_many([(f"{number}.jpg", bytes(100))])
        os.utime(tmp_path / f"{number}.jpg", (number + time.time() + 2e6,) * 2)
        folder().prune()
    assert [name for name in names(tmp_path) if name.endswith(".jpg")] == [
        "2.jpg", "3.jpg", "4.jpg", "before-100.jpg", "before-200.jpg", "of-a-clock-that-was-ahead.jpg",
    ]  # fmt: skip
    PictureFolder(tmp_path, max_bytes=350).prune()
    assert [name for name in names(tmp_path) if name.endswith(".jpg")] == ["2.jpg", "3.jpg", "4.jpg"]


def test_without_limits_everything_is_kept(tmp_path: Path) -> None:
    aged(tmp_path, "old.jpg", 10, 1e9)
    PictureFolder(tmp_path).prune()
    assert names(tmp_path) == ["old.jpg"]


def test_pruning_leaves_alone_what_is_no_picture_of_ours(tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(b"x")
    root = tmp_path / "pictures"
    (root / "folder.jpg").mkdir(parents=True)
    (root / "link.jpg").symlink_to(outside)
    aged(root, "notes.txt", 10, 1e6)
    aged(root, "old.jpg", 10, 1e6)
    PictureFolder(root, max_bytes=0, max_age_s=1).prune()
    assert names(root) == ["folder.jpg", "link.jpg", "notes.txt"]


def test_ten_thousand_pictures_are_looked_through_within_seconds(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number}.jpg").touch()
    began = time.process_time()
    PictureFolder(tmp_path, max_bytes=10, max_age_s=3600).prune()
    assert time.process_time() - began < 5
    assert len(names(tmp_path)) == 10_000
