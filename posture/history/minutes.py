"""From the stored minutes to the states of each second, and to how long each state lasted. Pure.

A stored minute says in which of its seconds there were frames of which state: see
``posture.store.base.MINUTE_COLUMNS``. Here a second is one hexadecimal digit: 1 Good, 2 Bad, 4 Unknown, 8 nobody
there, or the sum of those that it had; 0 is no frame. A second without frames goes on with the last one's digit,
but for no more than ``HOLD_S``: a gap in frames is not taken for time that somebody was seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

HOLD_S = 10
"""A frame speaks for at most so many seconds after its own. Cameras that send less often have gaps."""
MINUTE_S = 60
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
ONE_MINUTE = timedelta(minutes=1)


class Minute(NamedTuple):
    """A stored minute, in the order of ``posture.store.base.MINUTE_COLUMNS`` without the stream."""

    minute: int
    good_seconds: int
    bad_seconds: int
    unknown_seconds: int
    away_seconds: int
    good_frames: int
    bad_frames: int
    unknown_frames: int
    away_frames: int
    neck_frames: int
    body_frames: int
    neck_sum: float
    body_sum: float

    @property
    def frames(self) -> tuple[int, int, int, int]:
        """How many frames were Good, Bad, Unknown, and without anybody."""
        return self.good_frames, self.bad_frames, self.unknown_frames, self.away_frames


NO_SECONDS = "0" * MINUTE_S
EMPTY = Minute(*[0] * len(Minute._fields))
"""One without frames."""


class Spent(NamedTuple):
    """How a span of time was spent, in seconds."""

    good_s: float = 0.0
    bad_s: float = 0.0
    unknown_s: float = 0.0
    """Somebody was seen, and there was no verdict."""
    away_s: float = 0.0
    """Nobody was seen."""
    no_frames_s: float = 0.0
    """No frame came, or none that could be read."""

    @property
    def sitting_s(self) -> float:
        """How long somebody was seen."""
        return self.good_s + self.bad_s + self.unknown_s

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.sitting_s + self.away_s + self.no_frames_s

    @property
    def score(self) -> float | None:
        """Good / (Good + Bad), 0 to 1; None where there was no verdict."""
        judged = self.good_s + self.bad_s
        return self.good_s / judged if judged else None


NOTHING = Spent(no_frames_s=float(MINUTE_S))
"""A minute without frames."""


class SpentMinute(NamedTuple):
    """A minute of the time line.

    Attributes:
        start: in UTC.
        spent: its 60 seconds; of the present minute, those that are past.
        frames: how many frames it had that could be read.
        neck: mean angle in degrees, None where none was measured.
        body: likewise.
    """

    start: datetime
    spent: Spent
    frames: int
    neck: float | None
    body: float | None


def total(parts: Sequence[Spent]) -> Spent:
    """Return the sum of several spans."""
    return Spent(*map(sum, zip(*parts, strict=True)))


def minute_of(moment: datetime) -> int:
    """Return the minute since 1970 that a moment is in."""
    return (moment - EPOCH) // ONE_MINUTE


def start_of(minute: int) -> datetime:
    """Return the first moment of a minute, in UTC."""
    return EPOCH + timedelta(minutes=minute)


def digits(minutes: Sequence[Minute], first: int, count: int) -> str:
    """Return the state of each second from minute ``first`` on, as one hexadecimal digit each.

    Args:
        minutes: the stored ones, with that before ``first``, whose last frame may speak for the start.
        first: minute since 1970.
        count: how many minutes.
    """
    stored = {minute.minute: minute for minute in minutes}
    lead = -(-HOLD_S // MINUTE_S)
    span = [stored.get(number, EMPTY) for number in range(first - lead, first + count)]
    seconds = 0
    for bit in range(4):
        # 60 bits, the highest one for second 0, read as digits: a second each
        text = "".join(f"{minute[1 + bit]:060b}" if minute[1 + bit] else NO_SECONDS for minute in span)
        seconds |= int(text, 16) << bit
    length = len(span) * MINUTE_S
    return f"{_held(seconds, length):0{length}x}"[lead * MINUTE_S :]


def _held(seconds: int, length: int) -> int:
    """Let each empty digit be as the last one before it, for ``HOLD_S`` digits; on all of them at once."""
    ones = int("1" * length, 16)
    for _ in range(HOLD_S):
        taken = (seconds | seconds >> 1 | seconds >> 2 | seconds >> 3) & ones
        seconds |= (seconds >> 4) & ((ones ^ taken) * 15)
    return seconds


def divided(minutes: Sequence[Minute], first: int, seconds: str) -> Iterator[tuple[Minute, Spent]]:
    """Yield for each minute what is stored of it, and how it was spent.

    The seconds of a minute that have a state are divided as its frames are, so that flickering verdicts count for
    what they are. A minute without frames of its own, for whose first seconds the last frame before it speaks, is
    divided as that frame's minute.

    Args:
        minutes: the stored ones, as for ``digits``.
        first: minute since 1970.
        seconds: what ``digits`` says of them, as far as they are past.
    """
    stored = {minute.minute: minute for minute in minutes}
    shares = stored.get(first - 1, EMPTY).frames
    for at in range(0, len(seconds), MINUTE_S):
        minute = stored.get(first + at // MINUTE_S, EMPTY)
        past = min(MINUTE_S, len(seconds) - at)
        empty = seconds.count("0", at, at + past)
        if any(minute.frames):
            shares = minute.frames
        if empty == past:
            yield minute, NOTHING if past == MINUTE_S else Spent(no_frames_s=float(past))
            continue
        good, bad, unknown, away = shares
        each = (past - empty) / (good + bad + unknown + away)
        yield minute, Spent(good * each, bad * each, unknown * each, away * each, float(empty))


def timeline(minutes: Sequence[Minute], first: int, seconds: str) -> list[SpentMinute]:
    """Return each minute with how it was spent, its frames and its angles; arguments as for ``divided``."""
    line = []
    start = start_of(first)
    for minute, spent in divided(minutes, first, seconds):
        neck = minute.neck_sum / minute.neck_frames if minute.neck_frames else None
        body = minute.body_sum / minute.body_frames if minute.body_frames else None
        line.append(SpentMinute(start, spent, sum(minute.frames), neck, body))
        start += ONE_MINUTE
    return line
