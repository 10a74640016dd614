"""The account: published = rows + missing, and rows = analyzed + rejected + expired."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from posture.analyzer import counts
from posture.analyzer.counts import Account
from posture.store.base import Row

NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


def a_row(seq: int | None, *, status: str = "Good", reason: str = "", boot_id: str | None = "boot") -> Row:
    return Row(
        pi_id="pi1", frame_id=f"frame-{seq}", filename="", received_time=NOON, analyzed_time=NOON,
        captured_time=None, neck_angle=None, body_angle=None, posture_status=status, landmarks_detected=False,
        processed_by="here", side="", reason=reason, rule_set="upright",
        landmarks=None, schema_version=1, seq=seq, boot_id=boot_id,
    )  # fmt: skip


def test_every_row_is_analyzed_or_rejected_with_its_reason_or_expired() -> None:
    account = Account()
    for status, reason in (
        ("Good", ""), ("Bad", "neck"), ("Unknown", "no_person"), ("Unknown", "truncated"), ("Unknown", "expired"),
    ):  # fmt: skip
        account.count(a_row(None, status=status, reason=reason))
    said = account.as_dict()
    assert (said["rows"], said["analyzed"], said["rejected"], said["expired"]) == (5, 3, {"truncated": 1}, 1)
    assert (said["good"], said["bad"], said["unknown"]) == (1, 1, 3)


def test_missing_are_the_numbers_without_a_row_and_a_late_row_fills_its_gap() -> None:
    account = Account()
    account.follow("boot", None, 0)
    assert [account.count(a_row(seq)) for seq in (0, 1, 5)] == [True] * 3
    assert account.missing == 3
    assert not account.count(a_row(3)), "late: the database is to be asked"
    assert account.missing == 2


def test_the_first_frames_of_a_boot_that_never_came_are_missing_and_those_deleted_for_their_age_are_not() -> None:
    never, deleted = Account(), Account()
    never.follow("boot", 9, 3)
    deleted.follow("boot", 9, 3, first=7)
    assert (never.missing, deleted.missing) == (7, 0)


def test_boots_of_a_camera_are_counted_each_by_itself_and_frames_without_a_number_not_at_all() -> None:
    account = Account()
    account.follow("boot", None, 0)
    account.follow("other", 4, 5)
    for row in (a_row(2), a_row(None), a_row(7, boot_id=None), a_row(6, boot_id="other")):
        account.count(row)
    assert account.missing == 2 + 1


def test_the_delay_from_capture_to_commit_is_told_as_a_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "datetime", SimpleNamespace(now=lambda _: NOON))
    account = Account()
    for waited_s in (0.0, 0.2, 3.0, 7200.0, -60.0):
        account.count(dataclasses.replace(a_row(None), captured_time=NOON - timedelta(seconds=waited_s)))
    said = account.as_dict()
    assert said["delay"]["0.1"] == 2, "a camera whose clock is ahead has waited for nothing"
    assert (said["delay"]["2.5"], said["delay"]["5"], said["delay"]["300"], said["delay"]["+Inf"]) == (3, 4, 4, 5)
    assert said["delay_sum_s"] == 7203.2
