"""What has been: days, frames, CSV and deletion, in a real browser over a real database."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from browser import Browser
from dashboard_process import DashboardProcess
from servers import Mosquitto, Postgres
from speaking import Farm

from posture.store.base import Row
from posture.store.opening import open_store

JPEG = (Path(__file__).parents[2] / "docs" / "picture.jpg").read_bytes()
NOON = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
DAY = "day=2026-03-02&zone=UTC"


def row(second: int, *, neck: float | None = 20.0, status: str = "Good", **fields: object) -> Row:
    at = NOON + timedelta(seconds=second)
    values = {
        "pi_id": "pi1", "frame_id": f"f{second}", "filename": "", "received_time": at, "analyzed_time": at,
        "captured_time": at, "neck_angle": neck, "body_angle": 5.0, "posture_status": status,
        "landmarks_detected": True, "processed_by": "jetson-1", "side": "left",
        "reason": "neck" if status == "Bad" else "", "rule_set": "upright", "landmarks": None, "schema_version": 2,
        "seq": second, "boot_id": "b", **fields,
    }  # fmt: skip
    return Row(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def dashboard(shared_broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardProcess]:
    """A dashboard over ten minutes: six of Good, then four of one slouch."""
    folder = tmp_path_factory.mktemp("history")
    store = open_store(f"sqlite:///{folder / 'posture.db'}", timeout_s=10)
    store.write([row(second) for second in range(0, 360, 2)])
    store.write([row(second, neck=41.0, status="Bad") for second in range(360, 600, 2)])
    store.write([row(700, filename="f700.jpg", processed_by="=cmd()")])
    store.close()
    pictures = folder / "pictures" / "analyzed_images_from_pi1"
    pictures.mkdir(parents=True)
    (pictures / "f700.jpg").write_bytes(JPEG)
    settings = {
        "mqtt": {"url": f"mqtt://127.0.0.1:{shared_broker.port}"},
        "database": {"url": f"sqlite:///{folder / 'posture.db'}"},
        "analyzer": {"pictures_dir": str(folder / "pictures")},
    }
    process = DashboardProcess(folder, settings)
    process.start()
    process.until_answers("/streams/pi1")  # it has seen whose rows there are
    yield process
    process.stop()


def test_a_day_has_its_score_its_sitting_time_and_one_slouch(dashboard: DashboardProcess) -> None:
    day = dashboard.json(f"/api/streams/pi1/day?{DAY}")
    assert (day["spent"]["good"], day["spent"]["bad"]) == (pytest.approx(370, abs=11), pytest.approx(250, abs=11))
    assert day["spent"]["score"] == pytest.approx(0.6, abs=0.02)
    assert [(one["end"] - one["start"]) for one in day["bad"]] == [pytest.approx(250, abs=11)]
    # after noon: six minutes of Good, four of Bad
    assert day["line"][1:3] == [["g", 6], ["b", 4]]
    assert day["neck"][720:730] == [20.0] * 6 + [41.0] * 4


def test_the_same_day_elsewhere_is_another_part_of_the_clock(dashboard: DashboardProcess) -> None:
    day = dashboard.json("/api/streams/pi1/day?day=2026-03-02&zone=Asia/Tokyo")
    assert day["line"][0] == ["n", 21 * 60]


def test_a_click_on_the_time_line_shows_the_frame_and_the_address_leads_back_to_it(
    browser: Browser, dashboard: DashboardProcess
) -> None:
    browser.zone("UTC")
    browser.open(f"{dashboard.url}/streams/pi1?day=2026-03-02")
    browser.until_text(".figures", "60 %")
    line = browser.find(".timeline")
    browser.click_at(line, (12 * 3600 + 480) / 86_400)
    browser.until_text("#frame", "Bad")
    assert "Neck 41°, trunk 5°, rule set upright, on jetson-1" in browser.text("#frame")
    address = browser.driver.current_url
    assert "at=" in address
    browser.open(address)
    browser.until_text("#frame", "Neck 41°")


def test_a_kept_picture_is_shown_where_this_machine_has_it(browser: Browser, dashboard: DashboardProcess) -> None:
    browser.zone("UTC")
    browser.open(f"{dashboard.url}/streams/pi1?day=2026-03-02&at={int(NOON.timestamp()) + 700}")
    browser.until(lambda: browser.find("#frame img").get_property("naturalWidth"))


def test_days_of_all_streams_are_on_one_page(browser: Browser, dashboard: DashboardProcess) -> None:
    browser.zone("UTC")
    browser.open(f"{dashboard.url}/history?day=2026-03-02")
    browser.until_text(".days", "pi1")
    assert "60 % good" in browser.text(".summary")
    browser.open(f"{dashboard.url}/events?day=2026-03-02")
    browser.until_text(".events", "Slouch of 4 min")


def test_rows_come_as_csv_without_formulas(dashboard: DashboardProcess) -> None:
    status, headers, body = dashboard.ask(f"/api/streams/pi1/rows.csv?{DAY}")
    assert (status, headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert headers["content-disposition"] == 'attachment; filename="pi1-2026-03-02.csv"'
    rows = list(csv.DictReader(io.StringIO(body.decode())))
    assert len(rows) == 301
    assert (rows[200]["posture_status"], rows[200]["neck_angle"]) == ("Bad", "41.0")
    assert rows[-1]["processed_by"] == "'=cmd()"


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/streams/pi9/day", 404, "has no rows"),
        ("/api/streams/PI/day", 404, "no stream's name"),
        ("/api/streams/pi1/day?day=yesterday", 400, "accepted: a day such as"),
        ("/api/streams/pi1/day?day=2026-02-30", 400, "accepted: a day such as"),
        ("/api/streams/pi1/day?zone=Nowhere/City", 400, "time zone"),
        ("/api/streams/pi1/day?zone=../../etc/passwd", 400, "time zone"),
        ("/api/streams/pi1/frame?at=now", 400, "accepted: seconds since 1970"),
        ("/api/streams/pi1/frame?at=999999999999999", 400, "accepted: seconds since 1970"),
        ("/api/streams/pi1/frame?at=1", 404, "no frame was captured"),
        ("/api/streams/pi1/frames/..%2F..%2Fposture.db", 404, "no picture"),
        ("/api/streams/pi1/rows.csv?day=2026-03-02&last=x", 400, "accepted: a day such as"),
    ],
)
def test_what_is_not_there_or_none_is_said(dashboard: DashboardProcess, path: str, status: int, says: str) -> None:
    answered, _, body = dashboard.ask(path)
    assert answered == status
    assert says in json.loads(body)["error"]


def test_deletion_asks_for_the_name_and_takes_rows_and_pictures(
    browser: Browser, dashboard: DashboardProcess
) -> None:
    browser.zone("UTC")
    browser.open(f"{dashboard.url}/streams/pi1?day=2026-03-02")
    browser.until_text(".figures", "60 %")
    browser.find("#delete").click()
    assert not browser.find("dialog .danger").is_enabled()
    browser.find("dialog input").send_keys("pi1")
    browser.find("dialog .danger").click()
    browser.until_text("#toasts", "Deleted: 301 rows, 1 pictures.")
    assert dashboard.ask(f"/api/streams/pi1/day?{DAY}")[0] == 404
    # the page asks for the day again, and is told that there are no rows
    browser.until_text("main", "There are no rows yet.")
    browser.open("about:blank")  # it has asked for the week, too: that answer may be yet to come
    browser.expect_errors("404 (Not Found)")


def test_a_database_that_is_away_is_named_and_the_page_goes_on_by_itself(
    browser: Browser, postgres: Postgres, shared_broker: Mosquitto, tmp_path: Path
) -> None:
    store = open_store(postgres.url, timeout_s=10)
    store.write([row(second) for second in range(0, 120, 2)])
    store.close()
    settings = {
        "mqtt": {"url": f"mqtt://127.0.0.1:{shared_broker.port}"},
        "database": {"url": postgres.url.replace("farm@", "farm@"), "timeout_s": 20},
    }
    process = DashboardProcess(tmp_path, settings)
    process.start()
    try:
        browser.zone("UTC")
        browser.open(f"{process.url}/history?day=2026-03-02")
        browser.until_text(".days", "100 %")
        postgres.stop()
        browser.until_text("#banners", "The database is away")
        postgres.start()
        browser.until(lambda: browser.text("#banners") == "", "no banner")
        browser.until_text(".days", "100 %")
        browser.expect_errors("503 (Service Unavailable)")
    finally:
        browser.open("about:blank")
        process.stop()


def test_one_camera_that_was_never_stored_has_a_page_all_the_same(
    browser: Browser, dashboard: DashboardProcess, farm: Farm
) -> None:
    farm.stream("pi7", "Bad")
    dashboard.until_known("pi7")
    browser.open(f"{dashboard.url}/streams/pi7")
    browser.until_text(".title", "Bad")
    browser.until_text("main", "There are no rows yet.")
