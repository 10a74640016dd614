"""A bare Debian: `make bare`. A plain run of the tests leaves it out: it needs root, and package indexes."""

from __future__ import annotations

import os
from pathlib import Path

import long_tests
import pytest

HERE = Path(__file__).resolve().parent
WHICH = os.environ.get("BARE", "")
collect_ignore_glob = [] if WHICH else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: only in a run of everything, BARE=all")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if WHICH != "all":
        long_tests.leave_out(config, items, HERE)
