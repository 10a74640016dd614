"""Paths in settings, relative to the scripts' folder."""

from __future__ import annotations

from pathlib import Path

from posture.runtime import ROOT


def path_of(text: str) -> Path:
    """Return a path from a setting; a relative one is relative to the scripts' folder."""
    path = Path(text).expanduser()
    return path if path.is_absolute() else ROOT / path
