"""What a report says: days of streams, and their worst Bad stretches, with a picture where one may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

from posture.errors import UserError
from posture.history.days import days_between
from posture.history.minutes import Spent, total
from posture.history.questions import Day, History, UnknownStreamError
from posture.history.stretches import Stretch
from posture.report.worst import Worst, worst_of
from posture.settings.table import Analyzer
from posture.system.untrusted import shown

NAME_LENGTH = 40


@dataclass(frozen=True)
class StreamReport:
    """One stream's days.

    Attributes:
        pi_id: its name, as it is in the database.
        days: in order.
        worst: its worst Bad stretches, the longest first.
    """

    pi_id: str
    days: Sequence[Day]
    worst: Sequence[Worst]

    @property
    def name(self) -> str:
        """The stream's name, fit to be shown: one line, not too long."""
        return shown(self.pi_id, NAME_LENGTH) or "(no name)"

    @cached_property
    def spent(self) -> Spent:
        """How all of the days were spent."""
        return total([day.spent for day in self.days])

    @cached_property
    def bad(self) -> list[Stretch]:
        """Its Bad stretches, in order of time."""
        return [stretch for day in self.days for stretch in day.bad]

    @property
    def longest(self) -> Stretch | None:
        """The longest stretch without a break."""
        stretches = [day.longest for day in self.days if day.longest is not None]
        return max(stretches, key=lambda stretch: stretch.duration_s, default=None)

    @property
    def breaks(self) -> int:
        """How many breaks there were."""
        return sum(day.breaks for day in self.days)

    @property
    def has_frames(self) -> bool:
        """Whether any frame came."""
        return any(day.has_frames for day in self.days)


@dataclass(frozen=True)
class Report:
    """What is drawn.

    Attributes:
        first: the first day.
        last: the last one.
        zone: whose days they are.
        made: when it was made.
        pictures: ``analyzer.pictures``, which says what may be shown.
        streams: at least one that has frames.
    """

    first: date
    last: date
    zone: ZoneInfo
    made: datetime
    pictures: str
    streams: Sequence[StreamReport]

    @property
    def title(self) -> str:
        """What it is, with its days in words."""
        last = f"{self.last.day} {self.last:%B %Y}"
        if self.first == self.last:
            return f"Posture on {self.first:%A}, {last}"
        month = "" if self.first.month == self.last.month else f" {self.first:%B}"
        year = "" if self.first.year == self.last.year else f" {self.first:%Y}"
        return f"Posture from {self.first.day}{month}{year} to {last}"

    def names_of_days(self) -> list[str]:
        """Each day's short name."""
        return [f"{day:%a} {day.day}" for day in days_between(self.first, self.last)]


def gather(
    history: History,
    pi_ids: Sequence[str],
    first: date,
    last: date,
    zone: ZoneInfo,
    options: Analyzer,
    pictures: Path | None,
    now: datetime,
) -> Report:
    """Ask for all that a report says.

    Args:
        history: of the database.
        pi_ids: the streams; none is all.
        first: the first day.
        last: the last day.
        zone: the viewer's.
        options: where pictures are, and what of them may be shown.
        pictures: a folder of the streams' folders that is looked at instead; None is where the settings say.
        now: what is later has not been yet.

    Raises:
        UserError: a stream is unknown, or has no frames then; or none has.
        StoreUnavailableError: the database does not answer.
        StoreRefusedError: it does not let us.
        PicturesUnavailableError: the store of the pictures does not answer, or refuses us.
    """
    known = {stream.pi_id: stream for stream in history.streams()}
    for pi_id in pi_ids:
        if pi_id not in known:
            names = ", ".join(shown(name, NAME_LENGTH) for name in known) or "none yet: the database has no rows"
            raise UnknownStreamError(f"--stream {shown(pi_id, NAME_LENGTH)}: has no rows; accepted: {names}")
    streams = []
    for pi_id in pi_ids or known:
        days = history.days(pi_id, first, last, zone, now=now)
        streams.append(StreamReport(pi_id, days, worst_of(history, pi_id, days, options, pictures)))
    when = f"on {first}" if first == last else f"from {first} to {last}"
    empty = [stream for stream in streams if not stream.has_frames]
    if not known:
        raise UserError("the database has no rows yet: an analyzer writes them")
    if (pi_ids and empty) or len(empty) == len(streams):
        spans = [known[stream.pi_id] for stream in empty]
        oldest = min(span.first for span in spans).astimezone(zone).date()
        newest = max(span.last for span in spans).astimezone(zone).date()
        names = ", ".join(stream.name for stream in empty)
        raise UserError(f"{names}: no frames {when} ({zone.key}); there are some from {oldest} to {newest}")
    return Report(first, last, zone, now, options.pictures, streams)
