"""The end-to-end tests: `make e2e`. They need root, Linux and minutes: a plain run of the tests leaves them out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import binaries
import long_tests
import pytest
from docker_engine import Engine
from real_farm import QUICK, README, RealFarm
from real_nodes import Machine

HERE = Path(__file__).resolve().parent

MINUTES = os.environ.get("E2E_MINUTES", "")
LONG_MINUTES = 60
"""From so many on a run is a long one; it takes up to 90."""
SOAKS = "SOAK_MINUTES" in os.environ
collect_ignore_glob = ["test_soak.py"] if MINUTES else ["test_farm.py", "test_stack.py"] if SOAKS else ["test_*.py"]
REPORT = HERE.parent.parent / "e2e-report"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: only in a long run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """All of it goes to one worker; what is marked ``long`` is only in a long run."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("e2e"))
    if int(MINUTES or 0) < LONG_MINUTES:
        long_tests.leave_out(config, items, HERE)


@pytest.fixture(scope="session")
def farm(docker: Engine) -> Iterator[RealFarm]:
    """The farm's surroundings; tests bring the farm itself up and take it down. A report in any case."""
    Machine.check()
    try:
        programs = binaries.ensure()
    except binaries.BinariesMissingError as error:
        pytest.fail(str(error)) if os.environ.get("CI") == "true" else pytest.skip(str(error))
    farm = RealFarm(README if int(MINUTES or 0) >= LONG_MINUTES else QUICK, programs, docker, REPORT)
    try:
        farm.start()
        yield farm
    finally:
        try:
            farm.timeline.write()
        finally:
            farm.close()


@pytest.fixture(autouse=True)
def named_span(request: pytest.FixtureRequest, farm: RealFarm) -> Iterator[None]:
    """Each test is a span of the report."""
    name = request.node.name.removeprefix("test_").replace("_", " ")
    with farm.timeline.span("test", name) as span:
        yield
        report = getattr(request.node, "call_report", None)
        if report is not None and report.failed:
            span.outcome = f"FAILED: {report.longreprtext.strip().splitlines()[-1][:200]}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Let fixtures know how the test went."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        item.call_report = report  # type: ignore[attr-defined]
