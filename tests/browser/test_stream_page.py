"""One stream's page in a real browser: what it shows, and the commands of an operator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import WAIT_S, Browser
from dashboard_process import DashboardProcess
from servers import Mosquitto
from speaking import Farm, moment

from posture.dashboard import passwords
from posture.wire.preview import Preview

JPEG = (Path(__file__).parents[2] / "docs" / "picture.jpg").read_bytes()
PASSWORD = "correct horse battery"  # noqa: S105


def test_it_says_what_the_row_says(browser: Browser, shared_dashboard: DashboardProcess, farm: Farm) -> None:
    farm.stream("pi1", "Bad", neck=41.2, body=11.4, reason="neck")
    farm.account("pi1", missing=3)
    row = Preview("boot-7", "2026-11-26T10:00:00+00:00", "Bad", "neck", 40.6, 11.2, "upright")
    shared_dashboard.until_known("pi1")
    browser.open(f"{shared_dashboard.url}/streams/pi1")
    browser.until_text(".title", "Bad")
    farm.publish("posture/pi1/picture", row.into(JPEG))
    browser.until_text("figcaption", "Bad, neck 41°, trunk 11°")
    assert "The neck leans too far." in browser.text(".panel")
    assert "3 missing" in browser.text(".facts")
    assert "Last picture of pi1: Bad." in str(browser.find(".shot img").get_attribute("alt"))


def test_the_cpu_instead_of_a_gpu_that_was_asked_for_is_told(
    browser: Browser, shared_dashboard: DashboardProcess, farm: Farm
) -> None:
    farm.stream("pi1")
    shared_dashboard.until_known("pi1")
    browser.open(f"{shared_dashboard.url}/streams/pi1")
    browser.until_text(".facts", "on edge-1, CPU")
    assert "although" not in browser.text(".facts")
    status = {"state": "online", "instance": "next", "started": moment(), "host": "edge-2"}
    farm.publish("status/pi1", {**status, "delegate": "cpu", "delegate_asked": "gpu"}, retain=True)
    browser.until_text(".facts", "on edge-2, CPU although the GPU was asked for")


def test_calibrate_and_snooze_reach_the_analyzer_and_its_answer_is_shown(
    browser: Browser, shared_dashboard: DashboardProcess, farm: Farm
) -> None:
    farm.stream("pi1")
    commands = farm.listen("command/pi1")
    shared_dashboard.until_known("pi1")
    browser.open(f"{shared_dashboard.url}/streams/pi1")
    browser.find("#calibrate").click()
    said = json.loads(commands.get(timeout=WAIT_S))
    assert said["calibrate"] == 6
    farm.publish(
        "posture/pi1/answer", {"id": said["id"], "command": "calibrate", "outcome": "started", "reason": ""}
    )
    browser.until_text(".panel", "Sit upright and still")
    refusal = {"id": said["id"], "command": "calibrate", "outcome": "refused", "reason": "the person walks"}
    farm.publish("posture/pi1/answer", refusal)
    browser.until_text("#toasts", "Refused: the person walks")
    browser.find("#snooze").click()
    said = json.loads(commands.get(timeout=WAIT_S))
    assert said["snooze_s"] == 900
    farm.posture("pi1", "Good", snoozed_until="2099-01-01T00:00:00+00:00")
    browser.until_text(".facts", "snoozed until")
    browser.find("#wake").click()
    assert json.loads(commands.get(timeout=WAIT_S))["snooze_s"] == 0


@pytest.fixture(scope="module")
def with_login(shared_broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardProcess]:
    folder = tmp_path_factory.mktemp("login")
    passwords.add(folder / "users", "vic", "viewer", PASSWORD)
    passwords.add(folder / "users", "ada", "operator", PASSWORD)
    settings = {
        "mqtt": {"url": f"mqtt://127.0.0.1:{shared_broker.port}"},
        "dashboard": {"users_file": str(folder / "users")},
        "streams": ["pi1"],  # which has its page before it is heard of
    }
    process = DashboardProcess(folder, settings)
    process.start()
    yield process
    process.stop()


@pytest.mark.parametrize(("name", "may_command"), [("vic", False), ("ada", True)])
def test_a_viewer_looks_and_an_operator_commands(
    browser: Browser, with_login: DashboardProcess, farm: Farm, name: str, may_command: bool
) -> None:
    farm.stream("pi1")
    browser.open(f"{with_login.url}/streams/pi1")
    browser.find("[name=name]").send_keys(name)
    browser.find("[name=password]").send_keys(PASSWORD + "\n")
    browser.until_text(".title", "Good")
    assert browser.driver.current_url.endswith("/streams/pi1")
    browser.find("#leave")
    browser.until(lambda: browser.all("#calibrate")[0].is_displayed() is may_command)
    browser.find("#leave").click()
    browser.find("[name=password]")
