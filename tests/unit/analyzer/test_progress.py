"""The progress file: fresh while the analyzer gets on, and a setting that names a wrong place is explained."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from posture.analyzer.progress import TOUCH_EVERY_S, Progress
from posture.errors import UserError


def age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def make_old(path: Path) -> None:
    os.utime(path, (0, 0))


def test_the_file_is_there_from_the_start_and_fresh_again_once_the_analyzer_gets_on(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    progress = Progress(path)
    assert path.exists()
    make_old(path)
    progress.getting_on()
    assert age_s(path) < 60


def test_the_file_is_touched_at_most_once_in_an_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress"
    progress = Progress(path)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress.getting_on()
    make_old(path)
    progress.getting_on()
    assert path.stat().st_mtime == 0
    monkeypatch.setattr(time, "monotonic", lambda: now + TOUCH_EVERY_S)
    progress.getting_on()
    assert age_s(path) < 60


def test_a_file_that_cannot_be_written_is_a_users_error_that_names_setting_and_path(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "progress"
    with pytest.raises(UserError, match=r"analyzer\.progress_file: .*missing/progress can't be written"):
        Progress(path)


def test_a_folder_that_goes_away_later_does_not_stop_the_analyzer(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    progress = Progress(folder / "progress")
    (folder / "progress").unlink()
    folder.rmdir()
    progress.getting_on()
    assert not folder.exists()


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Progress(None).getting_on()
    assert list(tmp_path.iterdir()) == []
