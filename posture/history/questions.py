"""The questions of a page or a report, and their answers as plain data."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import cached_property
from operator import attrgetter
from zoneinfo import ZoneInfo

from posture.errors import UserError
from posture.history import minutes as of_minutes
from posture.history import stretches
from posture.history.days import bounds, days_between
from posture.history.minutes import Minute, Spent, SpentMinute, minute_of
from posture.history.reader import Asked, Reader, StoredRow, StreamSpan
from posture.history.stretches import Stretch
from posture.natural_order import natural
from posture.system.untrusted import shown

MOST_DAYS = 400
"""More in one question would take the processor for seconds."""
LATE = timedelta(days=7)
"""Frames that waited for longer count by their time of receipt, as the minutes do."""
EARLY = timedelta(minutes=1)
"""A camera's clock may be ahead by so much, likewise."""
PAGE_ROWS = 1_000
NEAR = timedelta(minutes=1)
"""A frame further than this from the moment that was asked for is not shown for it."""


class UnknownStreamError(UserError):
    """The database has no such stream; the message names those that it has."""


@dataclass(frozen=True)
class Day:
    """A stream's day in a viewer's time zone.

    Attributes:
        pi_id: the stream.
        day: the day of the viewer's calendar.
        zone: the viewer's.
        start: its first moment, in UTC.
        end: the first moment of the next day, in UTC: 23, 24 or 25 hours later.
        stored: its minutes as they are stored, with the one before the first.
        seconds: the state of each second, see ``posture.history.minutes``; up to the present one.
    """

    pi_id: str
    day: date
    zone: ZoneInfo
    start: datetime
    end: datetime
    stored: Sequence[Minute]
    seconds: str

    @cached_property
    def minutes(self) -> list[SpentMinute]:
        """The time line, up to the present minute."""
        return of_minutes.timeline(self.stored, minute_of(self.start), self.seconds)

    @cached_property
    def spent(self) -> Spent:
        """How the day was spent, as far as it is past."""
        return of_minutes.total(self.hours)

    @cached_property
    def hours(self) -> list[Spent]:
        """How each hour of the clock was spent, from 0 to 23; one that is repeated has both, a skipped one none."""
        parts: list[list[Spent]] = [[] for _ in range(24)]
        at = self.start
        for _, spent in of_minutes.divided(self.stored, minute_of(self.start), self.seconds):
            parts[at.astimezone(self.zone).hour].append(spent)
            at += of_minutes.ONE_MINUTE
        return [of_minutes.total(part) for part in parts]

    @cached_property
    def sitting(self) -> list[Stretch]:
        """Stretches without a break, in order of time."""
        return stretches.sitting(self.seconds, self.start)

    @property
    def longest(self) -> Stretch | None:
        """The longest one; None when nobody was seen."""
        return max(self.sitting, key=lambda stretch: stretch.duration_s, default=None)

    @property
    def breaks(self) -> int:
        """How often somebody was away for a break and came back."""
        return max(0, len(self.sitting) - 1)

    @cached_property
    def bad(self) -> list[Stretch]:
        """Bad stretches, in order of time."""
        return stretches.bad(self.seconds, self.start)

    @property
    def has_frames(self) -> bool:
        """Whether there was a frame that could be read."""
        return self.seconds.strip("0") != ""


class History:
    """Answers questions about what the rows of a farm say. May be used by several threads.

    Every method may raise ``StoreUnavailableError`` (ask again later) and ``StoreRefusedError`` (a person must
    act).

    Args:
        reader: of the database.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def streams(self) -> list[StreamSpan]:
        """Return the streams that have rows, in natural order."""
        return sorted(self._reader.streams(), key=lambda stream: natural(stream.pi_id))

    def day(self, pi_id: str, day: date, zone: ZoneInfo, *, now: datetime | None = None) -> Day:
        """Return a stream's day.

        Args:
            pi_id: the stream.
            day: of the viewer's calendar.
            zone: the viewer's.
            now: what is later has not been yet; None asks the clock.

        Raises:
            UnknownStreamError: the database has no such stream.
        """
        return self.days(pi_id, day, day, zone, now=now)[0]

    def days(
        self, pi_id: str, first: date, last: date, zone: ZoneInfo, *, now: datetime | None = None
    ) -> list[Day]:
        """Return each day from the first to the last: the trend of a week or a month, and its heat map by hour.

        Args:
            pi_id: the stream.
            first: day of the viewer's calendar.
            last: likewise; up to ``MOST_DAYS`` days in all.
            zone: the viewer's.
            now: what is later has not been yet; None asks the clock.

        Raises:
            UnknownStreamError: the database has no such stream.
            UserError: the last day is before the first, or there are too many.
        """
        wanted = days_between(first, last)
        if not 0 < len(wanted) <= MOST_DAYS:
            raise UserError(f"days from {first} to {last}: accepted: 1 to {MOST_DAYS} days")
        start, end = bounds(first, zone)[0], bounds(last, zone)[1]
        found = self._reader.minutes(pi_id, minute_of(start) - 1, minute_of(end))
        if not found:
            self._check_stream(pi_id)
        now = now or datetime.now(timezone.utc)
        return [_day(pi_id, day, zone, found, now) for day in wanted]

    def _check_stream(self, pi_id: str) -> None:
        known = [stream.pi_id for stream in self.streams()]
        if pi_id not in known:
            names = ", ".join(shown(name) for name in known) or "none yet: the database has no rows"
            raise UnknownStreamError(f"stream {shown(pi_id)} has no rows; accepted: {names}")

    def newest(self, pi_id: str, count: int) -> list[StoredRow]:
        """Return the rows received last, the newest first, without landmarks."""
        return self._reader.newest(pi_id, count)

    def frame(self, pi_id: str, frame_id: str) -> StoredRow | None:
        """Return one frame's row, with its landmarks; None if there is none."""
        return self._reader.frame(pi_id, frame_id)

    def nearest(self, pi_id: str, moment: datetime) -> StoredRow | None:
        """Return the row of the frame that was captured closest to a moment, without landmarks.

        None if there is none within a minute.
        """
        first, last = moment - NEAR, moment + NEAR
        if not any(
            any(minute.frames) for minute in self._reader.minutes(pi_id, minute_of(first), minute_of(last) + 1)
        ):
            return None
        # most are received at once; for a frame that came late a week of receipts is looked through
        for late in (NEAR, LATE):
            near = self.rows(pi_id, first, last, late=late)
            found = min(near, key=lambda row: abs(captured(row) - moment), default=None)
            if found is not None:
                return found
        return None

    def rows(self, pi_id: str, start: datetime, end: datetime, *, late: timedelta = LATE) -> Iterator[StoredRow]:
        """Yield rows of frames captured from ``start`` to before ``end``, without landmarks, in order of receipt.

        They are read in pages, so that however many there are takes no memory, and no transaction stays open.

        Args:
            pi_id: the stream.
            start: in UTC.
            end: likewise.
            late: what was received later than this after ``end`` is passed over; a week of receipts takes seconds
                to look through.
        """
        at, offset = start - EARLY, 0
        while True:
            page = self._reader.page(pi_id, Asked((at, end + late), (start, end)), offset, PAGE_ROWS)
            yield from (row for row in page if start <= captured(row) < end)
            if len(page) < PAGE_ROWS:
                return
            # the next page begins with the rows of the same moment, without those that this one had
            newest = page[-1]["received_time"]
            same = sum(row["received_time"] == newest for row in page)
            offset = same + (offset if newest == at else 0)
            at = newest

    def delete(self, pi_id: str) -> int:
        """Delete all rows of a stream and its minutes; return how many rows. What comes in later is kept."""
        return self._reader.delete(pi_id)

    def close(self) -> None:
        """Release the connection."""
        self._reader.close()


def captured(row: StoredRow) -> datetime:
    """Return when a frame was captured, as minutes count it: by receipt where the camera's time can't be right."""
    received: datetime = row["received_time"]
    taken: datetime | None = row["captured_time"]
    return taken if taken is not None and received - LATE <= taken <= received + EARLY else received


def _day(pi_id: str, day: date, zone: ZoneInfo, found: Sequence[Minute], now: datetime) -> Day:
    start, end = bounds(day, zone)
    first, count = minute_of(start), minute_of(end) - minute_of(start)
    past = max(0, min(count * of_minutes.MINUTE_S, int((now - start).total_seconds())))
    number = attrgetter("minute")
    own = found[bisect_left(found, first - 1, key=number) : bisect_left(found, first + count, key=number)]
    seconds = of_minutes.digits(own, first, count)[:past]
    return Day(pi_id, day, zone, start, end, own, seconds)
