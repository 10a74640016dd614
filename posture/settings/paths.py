"""Paths in settings, relative to the scripts' folder."""

from __future__ import annotations

from pathlib import Path

from posture.runtime import ROOT
from posture.settings.table import Analyzer, Database


def path_of(text: str) -> Path:
    """Return a path from a setting; a relative one is relative to the scripts' folder."""
    path = Path(text).expanduser()
    return path if path.is_absolute() else ROOT / path


def database_url(database: Database) -> str:
    """Return where rows go; the path of an SQLite file is complete."""
    path = database.url.removeprefix("sqlite:///")
    return database.url if path == database.url else f"sqlite:///{path_of(path)}"


def pictures_of(options: Analyzer, pi_id: str) -> Path:
    """Return the folder of a stream's annotated pictures."""
    return path_of(options.pictures_dir) / f"analyzed_images_from_{pi_id}"


def quarantine_of(options: Analyzer, pi_id: str) -> Path:
    """Return the folder of a stream's payloads that could not be analyzed."""
    return path_of(options.quarantine_dir) / f"quarantine_from_{pi_id}"
