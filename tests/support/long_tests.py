"""Tests that only a run of everything has: they are marked ``long``."""

from __future__ import annotations

from pathlib import Path

import pytest


def leave_out(config: pytest.Config, items: list[pytest.Item], folder: Path) -> None:
    """Take those below a folder out of a run, and say how many there are."""
    left_out = [item for item in items if folder in item.path.parents and item.get_closest_marker("long")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
