"""A bare Debian: `make bare`. A plain run of the tests leaves it out: it needs root, and package indexes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
WHICH = os.environ.get("BARE", "")
collect_ignore_glob = [] if WHICH else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: only in a run of everything, BARE=all")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if WHICH != "all":
        left_out = [item for item in items if HERE in item.path.parents and item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
