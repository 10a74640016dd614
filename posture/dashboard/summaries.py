"""Days as the pages draw them, and rows as they show them: plain JSON. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from posture.dashboard import words
from posture.history.minutes import Spent, SpentMinute
from posture.history.questions import Day
from posture.history.reader import LISTED, StoredRow
from posture.history.stretches import BREAK_S, Stretch

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet would take a text that begins like this for a formula."""


def of_spent(spent: Spent) -> dict[str, Any]:
    """Return how a span of time was spent, in seconds, and its score, 0 to 1."""
    return {
        "good": round(spent.good_s),
        "bad": round(spent.bad_s),
        "unknown": round(spent.unknown_s),
        "away": round(spent.away_s),
        "none": round(spent.no_frames_s),
        "sitting": round(spent.sitting_s),
        "score": spent.score,
    }


def in_short(day: Day) -> dict[str, Any]:
    """Return a day for a list of streams."""
    longest = day.longest
    return {
        "id": day.pi_id,
        "spent": of_spent(day.spent),
        "line": line(day.minutes),
        "longest_s": None if longest is None else longest.duration_s,
        "sitting_now_s": sitting_now_s(day),
        "breaks": day.breaks,
        "bad": [of_stretch(stretch) for stretch in day.bad],
    }


def in_full(day: Day) -> dict[str, Any]:
    """Return a day for its own page."""
    return {
        **in_short(day),
        "sitting": [of_stretch(stretch) for stretch in day.sitting],
        "minutes": [round(minute.start.timestamp()) for minute in day.minutes],
        "neck": [_rounded(minute.neck) for minute in day.minutes],
        "body": [_rounded(minute.body) for minute in day.minutes],
        "has_frames": day.has_frames,
    }


def span(day: Day) -> dict[str, Any]:
    """Return a day's name and bounds, in seconds since 1970."""
    return {"day": day.day.isoformat(), "start": day.start.timestamp(), "end": day.end.timestamp()}


def of_week(days: Sequence[Day]) -> list[dict[str, Any]]:
    """Return several days with their hours of the clock, for trend and heat map."""
    return [
        {**span(day), "spent": of_spent(day.spent), "hours": [of_spent(hour) for hour in day.hours]} for day in days
    ]


def line(minutes: Sequence[SpentMinute]) -> list[tuple[str, int]]:
    """Return what most of each minute was, as runs: g, b, u, a or n (no frames), and for how many minutes."""
    return [(state, sum(1 for _ in run)) for state, run in groupby(map(_state_of, minutes))]


def _state_of(minute: SpentMinute) -> str:
    spent = minute.spent
    shares = (
        ("b", spent.bad_s), ("g", spent.good_s), ("u", spent.unknown_s), ("a", spent.away_s),
        ("n", spent.no_frames_s),
    )  # fmt: skip
    return max(shares, key=lambda share: share[1])[0]


def sitting_now_s(day: Day) -> float | None:
    """Return for how long somebody has sat without a break by now; None if nobody does, or the day is past."""
    if not day.sitting or not day.minutes:
        return None
    last = day.sitting[-1]
    reached = len(day.seconds)
    ends = (last.end - day.start).total_seconds()
    is_past = reached >= (day.end - day.start).total_seconds()
    return None if is_past or reached - ends >= BREAK_S else last.duration_s


def of_stretch(stretch: Stretch) -> dict[str, float]:
    """Return a stretch, in seconds since 1970."""
    return {"start": stretch.start.timestamp(), "end": stretch.end.timestamp()}


def of_row(row: StoredRow, picture: str | None) -> dict[str, Any]:
    """Return a frame's row.

    Args:
        row: without its landmarks.
        picture: where its picture is; None where it can't be had here.
    """
    told = {name: _plain(row.get(name)) for name in LISTED}
    return {**told, "why": words.of_reason(row.get("reason") or ""), "picture": picture}


def as_csv(rows: Iterable[StoredRow]) -> Iterator[str]:
    """Yield rows as CSV with a header, a few at a time; times in ISO 8601, UTC."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(LISTED)
    for number, row in enumerate(rows, 1):
        writer.writerow([_safe(_plain(row.get(name))) for name in LISTED])
        if number % 500 == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _rounded(angle: float | None) -> float | None:
    return None if angle is None else round(angle, 1)
