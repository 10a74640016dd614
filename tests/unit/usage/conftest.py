"""Fixtures: one Prometheus for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from measured_farm import MeasuredFarm


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeasuredFarm]:
    """It starts once: a Prometheus takes up its targets only after 5 s."""
    farm = MeasuredFarm(tmp_path_factory.mktemp("prometheus"))
    try:
        farm.server.start()
        yield farm
    finally:
        farm.server.stop()
        farm.exporter.close()
