"""Each page at phone and desktop width, light and dark: nothing is cut off or unreadable, all is reached by key."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from browser import DESKTOP, PHONE, WAIT_S, Browser
from dashboard_process import DashboardProcess
from selenium.webdriver.common.keys import Keys
from servers import Mosquitto
from speaking import Farm
from test_history_pages import row

from posture.dashboard import passwords
from posture.store.opening import open_store

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text()
PAGES = ["/", "/streams/pi1", "/history", "/farm", "/events", "/nowhere"]
LOOKS = [(DESKTOP, False), (DESKTOP, True), (PHONE, False), (PHONE, True)]
SETTLED = {"/": ".card", "/streams/pi1": ".heat-map", "/history": ".days", "/farm": ".lead", "/events": ".event"}


@pytest.fixture(scope="module")
def dashboard(shared_broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardProcess]:
    """A dashboard with rows of today."""
    folder = tmp_path_factory.mktemp("every")
    store = open_store(f"sqlite:///{folder / 'posture.db'}", timeout_s=10)
    now = datetime.now(timezone.utc) - timedelta(minutes=20)
    for second in range(0, 600, 5):
        at = now + timedelta(seconds=second)
        status = "Bad" if second > 300 else "Good"
        store.write([row(second, status=status, received_time=at, captured_time=at, analyzed_time=at)])
    store.close()
    process = DashboardProcess(
        folder,
        {
            "mqtt": {"url": f"mqtt://127.0.0.1:{shared_broker.port}"},
            "database": {"url": f"sqlite:///{folder / 'posture.db'}"},
        },
    )
    process.start()
    yield process
    process.stop()


def speak(farm: Farm) -> None:
    farm.stream("pi1", "Bad", neck=41.0)
    farm.stream("pi2", camera="silent")
    farm.stream("pi3", "Unknown", away=True, reason="no_person")
    farm.stream("pi4", "Unknown", reason="not_side_view", advice="look from the side, or use rule set auto")
    farm.account("pi1")
    farm.publish("status/broken", b"?", retain=True)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_no_serious_fault_at_any_width_in_light_and_dark(
    browser: Browser, dashboard: DashboardProcess, farm: Farm, path: str
) -> None:
    speak(farm)
    dashboard.until_known("pi4")
    for size, dark in LOOKS:
        browser.shape(size, dark=dark)
        browser.open(dashboard.url + path)
        browser.find(SETTLED.get(path, "h1"))
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), (
            f"{path} is too wide at {size}"
        )
        assert faults(browser) == [], f"{path} {size} dark={dark}"
    if path == "/nowhere":
        browser.expect_errors("404 (Not Found)")


def faults(browser: Browser) -> list[str]:
    """What axe-core finds that is serious or worse."""
    browser.run(f"if (!window.axe) {{ {AXE} }}")
    script = "const done = arguments[0]; axe.run(document).then((found) => done(found.violations))"
    violations = browser.driver.execute_async_script(script)
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary'][:300]}"
        for one in violations
        if one["impact"] in ("serious", "critical")
    ]


def test_the_login_has_no_serious_fault(browser: Browser, shared_broker: Mosquitto, tmp_path: Path) -> None:
    passwords.add(tmp_path / "users", "ada", "viewer", "correct horse battery")
    settings = {
        "mqtt": {"url": f"mqtt://127.0.0.1:{shared_broker.port}"},
        "dashboard": {"users_file": str(tmp_path / "users")},
    }
    process = DashboardProcess(tmp_path, settings)
    process.start()
    try:
        for size, dark in LOOKS:
            browser.shape(size, dark=dark)
            browser.open(process.url)
            browser.find("[name=password]")
            assert faults(browser) == []
    finally:
        browser.open("about:blank")
        process.stop()


def test_the_keyboard_alone_leads_from_the_streams_to_a_command(
    browser: Browser, dashboard: DashboardProcess, farm: Farm
) -> None:
    speak(farm)
    commands = farm.listen("command/pi1")
    browser.open(dashboard.url)
    browser.until_text("[data-stream=pi1]", "Bad")
    browser.until(lambda: len(browser.all("[data-filter]")) == 5)  # all streams are told of: none is drawn anew
    browser.press(Keys.TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    browser.tab_to("[data-filter=bad]")
    browser.press(Keys.SPACE)
    browser.until(lambda: [card.is_displayed() for card in browser.all(".card")] == [True, False, False, False])
    browser.tab_to("[data-stream=pi1] a")
    browser.press(Keys.ENTER)
    browser.find("#snooze")
    browser.tab_to("#snooze")
    browser.press(Keys.ENTER)
    assert b"snooze_s" in commands.get(timeout=WAIT_S)


def test_the_theme_is_chosen_by_its_button_and_kept(browser: Browser, dashboard: DashboardProcess) -> None:
    def ground() -> str:
        return str(browser.run("return getComputedStyle(document.body).backgroundColor"))

    browser.open(f"{dashboard.url}/farm")
    browser.find("#theme").click()
    light = ground()
    browser.find("#theme").click()
    dark = ground()
    assert light != dark
    browser.open(f"{dashboard.url}/events")
    browser.find(".event, .muted")
    assert ground() == dark
    browser.run("localStorage.clear()")
