"""report.py as its user runs it, on a database that a store has written."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from s3_server import BUCKET, S3Server

import report
from posture.errors import FailedError, UserError
from posture.store.base import Row
from posture.store.opening import open_store

ROOT = Path(__file__).resolve().parents[2]
NINE = datetime(2026, 11, 24, 9, tzinfo=timezone.utc)
MAGENTA = (255, 0, 255)
"""What the camera's pictures are made of: nothing that we draw has it."""
LANDMARKS = json.dumps([[100 + 7 * number, 80 + 9 * number, 0.9] for number in range(33)])


def a_row(number: int, status: str = "Good", **changes: object) -> Row:
    at = NINE + timedelta(seconds=number)
    row = Row(
        pi_id="pi1", frame_id=f"frame-{number}", filename=f"{number}.jpg" if status == "Bad" else "",
        received_time=at, analyzed_time=at, captured_time=at, neck_angle=41.0 if status == "Bad" else 12.0,
        body_angle=3.5, posture_status=status, landmarks_detected=True, processed_by="host-a", side="left",
        reason="neck" if status == "Bad" else "", rule_set="upright", landmarks=LANDMARKS, schema_version=2,
        seq=number, boot_id="boot-1",
    )  # fmt: skip
    return replace(row, **changes)


def an_hour() -> list[Row]:
    """Somebody sits well for half an hour, badly for ten minutes, well again."""
    return [a_row(number, "Bad" if 1800 <= number < 2400 else "Good") for number in range(0, 3600, 2)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a database of pi1's hour, its pictures, and settings."""
    pictures = tmp_path / "pictures" / "analyzed_images_from_pi1"
    pictures.mkdir(parents=True)
    rows = an_hour()
    write(tmp_path, rows)
    picture = io.BytesIO()
    Image.new("RGB", (960, 540), MAGENTA).save(picture, "JPEG")
    for row in rows:
        if row.filename:
            (pictures / row.filename).write_bytes(picture.getvalue())
    settings(tmp_path, "photo")
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("POSTURE_"):
            monkeypatch.delenv(name)
    return tmp_path


def write(folder: Path, rows: list[Row]) -> None:
    with contextlib.closing(open_store(f"sqlite:///{folder / 'posture.db'}")) as store:
        store.write(rows)


def settings(folder: Path, pictures: str) -> None:
    (folder / "cluster.yaml").write_text(
        f"database:\n  url: sqlite:///{folder / 'posture.db'}\n"
        f"analyzer:\n  pictures: {pictures}\n  pictures_dir: {folder / 'pictures'}\n"
    )


def run(*flags: str, day: str = "2026-11-24") -> int:
    return report.main(["--config", "cluster.yaml", "--zone", "UTC", "--day", day, "--output", "day", *flags])


class Page(HTMLParser):
    """What of a page its reader gets: text, elements, addresses."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.tags, self.addresses = "", [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(re.sub(r"<style>.*?</style>", "", self.source, flags=re.S))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.text += " ".join(data.split()) + " "

    def pictures(self) -> list[Image.Image]:
        from base64 import b64decode  # noqa: PLC0415

        start = "data:image/jpeg;base64,"
        found = [address.removeprefix(start) for address in self.addresses if address.startswith(start)]
        return [Image.open(io.BytesIO(b64decode(each))) for each in found]


def has_magenta(picture: Image.Image) -> bool:
    small = picture.convert("RGB").resize((160, max(1, 160 * picture.height // picture.width)))
    return any(red > 180 and green < 90 and blue > 180 for red, green, blue in small.get_flattened_data())


def test_pictures_come_from_the_bucket_that_the_settings_name(
    folder: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pictures").rename(folder / "elsewhere")
    for name, value in s3.settings().items():
        monkeypatch.setenv(name, value)
    assert run() == 0
    assert Page(folder / "day.html").pictures() == []
    there = s3.data / BUCKET / "analyzed_images_from_pi1"
    shutil.copytree(folder / "elsewhere" / "analyzed_images_from_pi1", there)
    assert run() == 0
    assert has_magenta(Page(folder / "day.html").pictures()[0])
    s3.stop()
    with pytest.raises(FailedError, match="can't be reached: Connection refused"):
        run()
    monkeypatch.delenv("POSTURE_PICTURES_KEY_ID")
    with pytest.raises(UserError, match=r"^POSTURE_PICTURES_KEY_ID is not set"):
        run()


def test_a_day_is_one_page_and_one_picture_with_the_figures_of_the_rows(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    assert capsys.readouterr().out.split() == ["day.html", "day.png"]
    page = Page(folder / "day.html")
    assert "Posture on Tuesday, 24 November 2026" in page.text
    for figure in ("83 % ", "1 h 00 min ", "Bad stretch ", "09:30, Bad for 10 min", "neck 41°"):
        assert figure in page.text, page.text
    assert len(page.pictures()) == 1
    assert has_magenta(page.pictures()[0])
    with Image.open(folder / "day.png") as poster:
        assert poster.width > 1000
        assert has_magenta(poster)
    assert (folder / "day.html").stat().st_mode & 0o007 == 0


def test_the_page_loads_nothing_from_anywhere(folder: Path) -> None:
    run()
    page = Page(folder / "day.html")
    assert page.addresses
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "default-src 'none'" in page.source
    assert not re.search(r"url\(|@import", page.source)


@pytest.mark.parametrize("mode", ["skeleton", "none"])
def test_with_skeleton_or_none_no_pixel_of_the_camera_is_in_the_report_whatever_lies_on_the_disk(
    folder: Path, mode: str
) -> None:
    settings(folder, mode)
    run()
    page = Page(folder / "day.html")
    assert len(page.pictures()) == (1 if mode == "skeleton" else 0)
    assert not any(has_magenta(picture) for picture in page.pictures())
    with Image.open(folder / "day.png") as poster:
        assert not has_magenta(poster)
    assert f"analyzer.pictures is {mode}" in page.text


def test_a_week_has_seven_days_from_monday_and_all_streams_with_what_each_did(folder: Path) -> None:
    write(folder, [replace(row, pi_id="pi10") for row in an_hour()[:300]])
    write(folder, [a_row(0, pi_id="pi2", captured_time=None, received_time=NINE - timedelta(days=40))])
    assert (
        report.main(["--config", "cluster.yaml", "--zone", "UTC", "--week", "2026-11-26", "--output", "w.html"])
        == 0
    )
    page = Page(folder / "w.html")
    assert "Posture from 23 to 29 November 2026" in page.text
    assert page.text.index("pi1 ") < page.text.index("pi2 no frames") < page.text.index("pi10 ")
    assert not (folder / "w.png").exists()


NASTY = '<script>alert(1)</script><img src=x onerror="alert(1)">'


def test_a_name_from_the_database_is_text_and_no_html_and_no_formula(folder: Path) -> None:
    names = [NASTY, "$\\frac{1}{0}$", "=1+1", "\x1b[31m\u202egnp.", "名前 🧍", "x" * 3000]
    for number, name in enumerate(names):
        write(folder, [a_row(second, pi_id=name, frame_id=f"{number}-{second}") for second in range(60)])
    assert run("--csv") == 0
    page = Page(folder / "day.html")
    assert {"script", "iframe"} & set(page.tags) == set()
    assert all(address.startswith("data:") for address in page.addresses)
    assert "<script>alert(1)</script>" in page.text
    assert "\u202e" not in page.text
    with (folder / "day.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 1800 + 60 * len(names)
    assert not any(cell.startswith(("=", "@")) for row in found for cell in row.values())


def test_pictures_that_are_none_or_lie_elsewhere_are_left_out(folder: Path) -> None:
    pictures = folder / "pictures" / "analyzed_images_from_pi1"
    outside = io.BytesIO()
    Image.new("RGB", (100, 100), MAGENTA).save(outside, "JPEG")
    (folder / "secret.jpg").write_bytes(outside.getvalue())
    for file in pictures.iterdir():
        file.write_bytes(b"not a picture")
    rows = [
        a_row(5000 + second, "Bad", filename="../../secret.jpg", frame_id=f"late-{second}") for second in range(60)
    ]
    write(folder, rows)
    assert run() == 0
    page = Page(folder / "day.html")
    assert page.pictures() == []
    assert "No picture of them was kept" in page.text


def files_of(folder: Path) -> list[str]:
    """Its files without SQLite's own."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("posture.db-"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--stream", "pi7"], r"--stream pi7: has no rows; accepted: pi1$"),
        (
            ["--day", "2026-11-23"],
            r"pi1: no frames on 2026-11-23 \(UTC\); there are some from 2026-11-24 to 2026-11-24",
        ),
        (["--day", "24.11."], r"day '24\.11\.': accepted: a day such as 2026-11-24"),
        (["--zone", "Mars/Olympus"], r"time zone 'Mars/Olympus' is not known; accepted: an IANA name"),
        (["--output", "nowhere/day"], r"--output nowhere/day: there is no folder nowhere"),
        (["--output", "pictures"], r"--output pictures: is a folder; accepted: a file's name"),
        (
            ["--database", "sqlite:///notes.txt"],
            r"POSTURE_DATABASE_URL: .*notes\.txt is no database that we can use",
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_accepted_and_nothing_is_written(
    folder: Path, flags: list[str], said: str
) -> None:
    (folder / "notes.txt").write_text("these are notes, " * 100)
    flags = [flag.replace("sqlite:///", f"sqlite:///{folder}/") for flag in flags]
    before = files_of(folder)
    with pytest.raises(UserError, match=said) as caught:
        run(*flags)
    assert "\n" not in str(caught.value)
    assert files_of(folder) == before


def test_a_database_that_is_not_there_fails_with_its_path(folder: Path) -> None:
    with pytest.raises(FailedError, match=r"wrong\.db: there is no such file"):
        run("--database", f"sqlite:///{folder}/wrong.db")


def test_where_one_file_cannot_be_written_none_is(folder: Path) -> None:
    (folder / "day.html").write_text("of yesterday")
    (folder / "day.png").mkdir()
    with pytest.raises(UserError, match=r"--output day: day\.png is a folder"):
        run("--csv")
    assert (folder / "day.html").read_text() == "of yesterday"
    assert not (folder / "day.csv").exists()


def test_as_a_program_it_ends_with_one_line_and_status_2_for_a_mistake(folder: Path) -> None:
    command = [sys.executable, str(ROOT / "report.py"), "--config", "cluster.yaml", "--stream", "nobody"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: --stream nobody: has no rows; accepted: pi1\n"


def test_a_day_of_a_zone_is_that_zones(folder: Path) -> None:
    assert run("--zone", "Pacific/Auckland") == 0
    assert "22:30, Bad for 10 min" in Page(folder / "day.html").text
    with pytest.raises(UserError, match="no frames"):
        run("--zone", "Pacific/Auckland", day="2026-11-25")
