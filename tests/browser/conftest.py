"""One browser for all tests of the page, and a dashboard with a broker for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser
from dashboard_process import DashboardProcess
from servers import Mosquitto
from speaking import Farm


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser."""
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker that no test stops."""
    broker = Mosquitto(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def shared_dashboard(
    shared_broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DashboardProcess]:
    """A dashboard on loopback that no test stops."""
    folder = tmp_path_factory.mktemp("dashboard")
    dashboard = DashboardProcess(folder, {"mqtt": {"url": f"mqtt://127.0.0.1:{shared_broker.port}"}})
    dashboard.start()
    dashboard.until_subscribed()
    yield dashboard
    dashboard.stop()


@pytest.fixture
def farm(shared_broker: Mosquitto) -> Iterator[Farm]:
    """Streams that speak as analyzers do; they are gone after the test."""
    with Farm(shared_broker.port) as speaking:
        yield speaking


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser, as it is first started; a test must leave nothing in its console."""
    chromium.forget()
    yield chromium
    errors = chromium.errors()
    chromium.forget()
    assert errors == []
