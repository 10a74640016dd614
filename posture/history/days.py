"""Days and hours of a viewer, who lives in some time zone, on the time line of the store, which is UTC. Pure."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from posture.errors import UserError

FIRST_DAY, LAST_DAY = date(1970, 1, 2), date(9999, 12, 30)
"""So that no zone leads out of what a datetime and the store can say."""


def zone_of(name: str) -> ZoneInfo:
    """Return the time zone of an IANA name.

    Raises:
        UserError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    # a name that is a folder, or too long for a file's name, is an OSError
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UserError(
            f"time zone {name[:60]!r} is not known; accepted: an IANA name such as Europe/Berlin"
        ) from None


def parse_day(text: str) -> date:
    """Return the day that ``text`` names.

    Raises:
        UserError: it names none.
    """
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        day = None
    if day is None or len(text) != 10 or not FIRST_DAY <= day <= LAST_DAY:
        raise UserError(f"day {text[:60]!r}: accepted: a day such as 2026-11-24, from {FIRST_DAY} to {LAST_DAY}")
    return day


def bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the first moment of a day and of the next one, in UTC: 23, 24 or 25 hours apart."""
    return _midnight(day, zone), _midnight(day + timedelta(days=1), zone)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the day's first moment; where the clock skips midnight, it is when the clock is put forward."""
    return datetime.combine(day, time(), zone).astimezone(timezone.utc)


def days_between(first: date, last: date) -> list[date]:
    """Return every day from the first to the last."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
