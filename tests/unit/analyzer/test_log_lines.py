"""An operator reads where everything goes, without a password, and once a minute how it goes."""

from __future__ import annotations

import dataclasses
import logging
import re
from datetime import datetime, timezone
from typing import Any

import pytest

from posture.analyzer.counts import Account
from posture.analyzer.log_lines import EveryMinute, destinations
from posture.settings.table import Analyzer, Database, Settings
from posture.store.base import Row
from posture.wire.topics import Topics

PICTURES = "/var/pictures"
NOW = datetime.now(timezone.utc)
ROW = Row(
    pi_id="pi1", frame_id="a", filename="", received_time=NOW, analyzed_time=NOW, captured_time=None,
    neck_angle=None, body_angle=None, posture_status="Good", landmarks_detected=True, processed_by="here",
    side="left", reason="", rule_set="upright", landmarks=None, schema_version=1, seq=0, boot_id="boot",
)  # fmt: skip


def lines(url: str = "sqlite:////var/posture.db", **options: Any) -> str:
    settings = Settings(
        database=Database(url=url), analyzer=Analyzer(pictures_dir=PICTURES, quarantine_dir="/var/q", **options)
    )
    return "\n".join(destinations(settings, Topics("pi1", "lab")))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:////var/posture.db", "rows go to SQLite in /var/posture.db"),
        ("postgresql://farm:s3cret@db:5432/posture?sslmode=require", "PostgreSQL at db:5432, database posture"),
        ("postgresql://farm:s3cret%40x@db/posture?password=s3cret", "PostgreSQL at db, database posture"),
        ("https://s3cret@project.example", "Supabase at project.example"),
    ],
    ids=["sqlite", "postgresql", "a password in the query", "supabase"],
)  # fmt: skip
def test_the_log_says_where_rows_go_and_no_credential(url: str, said: str) -> None:
    assert said in lines(url)
    assert "s3cret" not in lines(url)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, f"pictures go to {PICTURES}/analyzed_images_from_pi1: photographs, with faces"),
        ({"pictures": "skeleton"}, "drawings, no pixel of the camera"),
        ({"keep": "all", "pictures_max_bytes": 0}, "of every frame; nothing is deleted"),
        ({"keep": "changes"}, "at changes of the state, at alerts, and one a minute"),
        ({}, "beyond 2 GB the oldest are deleted"),
        ({"pictures_max_bytes": 2_500_000_000}, "beyond 2.5 GB the oldest are deleted"),
        ({"pictures_keep_days": 30}, "pictures older than 30 days are deleted"),
        ({"keep": "none"}, "no pictures are kept"),
        ({"pictures": "none"}, "no pictures are kept"),
        ({}, "small pictures (photographs, with faces) go to lab/posture/pi1/picture at the broker"),
        ({}, "frames that can't be read go to /var/q/quarantine_from_pi1: the last 100"),
    ],
    ids=str,
)
def test_the_log_says_where_pictures_go_and_which(options: dict[str, Any], said: str) -> None:
    assert said in lines(**options)


def test_once_a_minute_one_line_says_how_it_goes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    account = Account()
    account.follow("boot", None, 0)
    line = EveryMinute("pi1", account, every_s=0.0)
    for number in (0, 2):
        account.count(dataclasses.replace(ROW, seq=number, received_time=datetime.now(timezone.utc)))
    line.check({"state": "Bad", "reason": "neck", "since": "2026-03-02T09:14:07.120+00:00"}, 0, store_away=False)
    line.check(None, 12, store_away=True)
    first, second = caplog.messages
    assert re.match(r"pi1: 2 frames in \d+ s \(", first)
    said = r"missing 1, \d+\.\d s from the camera to the row, Bad \(neck\) since 09:14:07 UTC"
    assert re.search(said, first)
    assert "0 frames" in second
    assert "the store is away, 12 frames wait, no state yet" in second


def test_within_the_minute_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    EveryMinute("pi1", Account()).check(None, 0, store_away=False)
    assert caplog.messages == []
