"""Files that are replaced as a whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from posture.errors import UserError
from posture.system import files


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced, in order: names of files and folders."""
    names: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in (b"one", b"two"):
        files.replace(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_synced_before_the_name(tmp_path: Path, synced: list[str]) -> None:
    files.replace(tmp_path / "a", b"one")
    assert synced == [f".a.{os.getpid()}", tmp_path.name]


def test_the_temporary_file_can_be_named(tmp_path: Path, synced: list[str]) -> None:
    files.replace(tmp_path / "a", b"one", temporary=tmp_path / "a.writing")
    assert synced[0] == "a.writing"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_disk_can_be_spared(tmp_path: Path, synced: list[str]) -> None:
    files.replace(tmp_path / "a", b"one", sync=False)
    assert not synced
    assert (tmp_path / "a").read_bytes() == b"one"


def test_a_file_that_cannot_be_replaced_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.replace(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_of_several_files_none_is_replaced_if_one_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    with pytest.raises(FileNotFoundError):
        files.replace_all({path: b"two", tmp_path / "no folder" / "b": b"two"})
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_several_files_are_replaced(tmp_path: Path) -> None:
    files.replace_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize(
    ("number", "raises"), [pytest.param(22, False, id="not supported"), pytest.param(5, True, id="a broken disk")]
)
def test_a_file_system_that_syncs_names_by_itself_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raises: bool
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    if raises:
        with pytest.raises(OSError, match=os.strerror(number)):
            files.sync_folder(tmp_path)
    else:
        files.sync_folder(tmp_path)


@pytest.mark.parametrize("place", ["/proc/nowhere", "file/below"])
def test_a_folder_that_cannot_be_written_is_an_error_that_names_its_setting(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^analyzer\.pictures_dir: .* can't be written: .*accepted: a folder"):
        files.check_writable(tmp_path / place, "analyzer.pictures_dir")
    files.check_writable(tmp_path / "new" / "folder", "analyzer.pictures_dir")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
