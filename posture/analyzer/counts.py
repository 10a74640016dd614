"""The account of one stream: what became of every frame.

published = rows + missing, and rows = analyzed + rejected (with reason) + expired.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from posture.store.base import Row
from posture.verdict.rule_sets import NO_VERDICT

SAY_EVERY_S = 1.0
RATE_OVER_S = 5.0
MOST_DELAYS = 10_000
DELAYS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bounds of the delay from capture to committed row, which is told as a histogram."""
MOST_MISSING = 2**53 - 1
"""JSON's numbers are exact up to here; a stranger's sequence number may lie beyond."""


@dataclass
class Account:
    """Counts since this analyzer started; ``missing`` is of every boot of the camera that it has met."""

    received: int = 0
    malformed: int = 0
    """Of these, messages that the MQTT library could not parse."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Kind -> messages that are no frames: retained, malformed on other topics, of foreign topics."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Fields of frames that held what no camera says, by name."""
    commands: Counter[str] = field(default_factory=Counter)
    """Commands of operators by name, and those that were ``refused``."""
    delays: list[float] = field(default_factory=list)
    """Seconds from the capture of a frame, or where the camera does not say when that was, from its arrival to its
    row, since somebody took them away."""
    reused_ids: int = 0
    """Frames whose id another picture had before; each has a row of its own."""
    unfollowed: int = 0
    """Numbered frames of boots that are not followed: ``missing`` does not know of them."""
    duplicate: int = 0
    rows: int = 0
    analyzed: int = 0
    expired: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    analysis_s: float = 0.0
    """Spent on finding landmarks."""
    delay_s: float = 0.0
    """From capture to committed row, of all rows together."""
    _delay_counts: Counter[float] = field(default_factory=Counter)
    """Bound -> rows that came within it, and not within the one below."""
    _last_row: Row | None = None
    _first: dict[str, int] = field(default_factory=dict)
    _highest: dict[str, int] = field(default_factory=dict)
    _distinct: dict[str, int] = field(default_factory=dict)
    _said: dict[str, Any] = field(default_factory=dict)
    _said_at: float = 0.0
    _finished: list[float] = field(default_factory=list)

    def follow(self, boot_id: str, highest: int | None, distinct: int, *, first: int = 0) -> None:
        """Take up a boot of the camera, with what the database has of it.

        Args:
            boot_id: the camera's boot.
            highest: its highest sequence number with a row, if there is one.
            distinct: how many sequence numbers have a row.
            first: where counting begins; more than 0 where rows before it were deleted for their age.
        """
        self._first[boot_id] = first
        self._highest[boot_id] = -1 if highest is None else highest
        self._distinct[boot_id] = distinct

    def count(self, row: Row) -> bool:
        """Count a row that was newly inserted.

        Returns:
            False if its sequence number is none that is surely new: the database knows whether another frame of
            this boot has it already, and ``follow`` sets that right.
        """
        self.rows += 1
        self.verdicts[row.posture_status] += 1
        if row.reason == "expired":
            self.expired += 1
        elif row.posture_status == "Unknown" and row.reason not in NO_VERDICT:
            self.rejected[row.reason] += 1
        else:
            self.analyzed += 1
        self._last_row = row
        self._finished.append(time.monotonic())
        self._note_delay(row)
        if row.seq is None or row.boot_id not in self._highest:
            self.unfollowed += row.seq is not None and row.boot_id is not None
            return True
        surely_new = row.seq > self._highest[row.boot_id]
        self._highest[row.boot_id] = max(self._highest[row.boot_id], row.seq)
        self._distinct[row.boot_id] += 1
        return surely_new

    def _note_delay(self, row: Row) -> None:
        """Note how long a row that is committed now took; a camera's clock that is ahead makes it 0."""
        taken = row.captured_time or row.received_time
        delay_s = max(0.0, (datetime.now(timezone.utc) - taken).total_seconds())
        if len(self.delays) < MOST_DELAYS:
            self.delays.append(delay_s)
        self.delay_s += delay_s
        self._delay_counts[next((bound for bound in DELAYS_S if delay_s <= bound), math.inf)] += 1

    @property
    def delay_histogram(self) -> dict[str, int]:
        """Bound in seconds -> rows that were committed within it, as Prometheus counts them."""
        counted = itertools.accumulate(self._delay_counts[bound] for bound in (*DELAYS_S, math.inf))
        return dict(zip([*(f"{bound:g}" for bound in DELAYS_S), "+Inf"], counted, strict=True))

    @property
    def boots(self) -> int:
        """How many boots of the camera are followed."""
        return len(self._highest)

    @property
    def missing(self) -> int:
        """Frames that the camera numbered and that have no row: cameras count from 0 within one boot."""
        missing = sum(
            highest + 1 - self._first[boot] - self._distinct[boot] for boot, highest in self._highest.items()
        )
        return min(missing, MOST_MISSING)

    def as_dict(self) -> dict[str, Any]:
        """Return the account as published on ``account/<pi_id>``; fps is of the last five seconds."""
        now = time.monotonic()
        self._finished = [at for at in self._finished if now - at < RATE_OVER_S]
        last = self._last_row
        return {
            "received": self.received,
            "malformed": self.malformed,
            "passed_over": dict(self.passed_over),
            "ignored": dict(self.ignored),
            "commands": dict(self.commands),
            "reused_ids": self.reused_ids,
            "unfollowed": self.unfollowed,
            "duplicate": self.duplicate,
            "rows": self.rows,
            "analyzed": self.analyzed,
            "rejected": dict(self.rejected),
            "expired": self.expired,
            "missing": self.missing,
            "good": self.verdicts["Good"],
            "bad": self.verdicts["Bad"],
            "unknown": self.verdicts["Unknown"],
            "status": last.posture_status if last else "",
            "neck": _rounded(last.neck_angle) if last else None,
            "body": _rounded(last.body_angle) if last else None,
            "fps": round(len(self._finished) / RATE_OVER_S, 1),
            "analysis_sum_s": round(self.analysis_s, 3),
            "delay": self.delay_histogram,
            "delay_sum_s": round(self.delay_s, 3),
        }

    def changed(self) -> dict[str, Any] | None:
        """Return the account if it has changed since it was last asked for; at most once a second."""
        now = time.monotonic()
        if now - self._said_at < SAY_EVERY_S:
            return None
        account = self.as_dict()
        if account == self._said:
            return None
        self._said, self._said_at = account, now
        return account


def _rounded(angle: float | None) -> float | None:
    return None if angle is None else round(angle, 1)
