"""Verdicts of single frames -> the stream's smoothed state, and alerts. Pure: the caller passes the time.

A One-Euro filter smooths each measure; then Good becomes Bad when the smoothed measures stay over the limit for
3 s, and Good again when they stay under 0.85 of it for 2 s. A glance down is no event.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from posture.verdict.rule_sets import (
    ADVICE,
    DEFAULT_RULE_SET,
    MEASURES,
    NO_VERDICT,
    Baseline,
    Verdict,
    check_rule_set,
    loads,
)

RELEASE = 0.85  # share of the limit that the measures must be under before Bad ends
BAD_AFTER_S = 3.0
GOOD_AFTER_S = 2.0
LONGEST_STEP_S = 15.0  # a frame speaks for no more time than this, however long the camera was silent
SOMEBODY = tuple(
    reason for reason in NO_VERDICT if reason != "no_person"
)  # no verdict, and still somebody is there
ALERT = "bad_posture"  # the one type of event that there is
CAMERA_SILENT, LOOK_AFTER_IT = "camera_silent", "look after the camera: no frame comes"
REFRESH_S = 5.0  # an unchanged state is told again with its new angles this often

NEAR = 0.15  # of a limit: closer to it than this, the next measurement may be on its other side

# One-Euro filter: cutoff at rest and for the speed, in hertz, and hertz more per degree a second
MIN_CUTOFF_HZ = 0.5
SPEED_CUTOFF_HZ = 1.0
BETA = 0.01


@dataclass(frozen=True)
class StateChange:
    """What one frame changed.

    Attributes:
        state: for the retained state topic, JSON-able; None when there is nothing new to say. Keys: state
            (Good, Bad, Unknown), since and updated (ISO 8601, UTC, of the frames), neck and body (smoothed
            degrees, one decimal, or null), head_drop and sitting_drop (smoothed shares, or null), away (nobody
            there for more than away_after), reason (as in Verdict; ``settling`` while the first seconds are
            watched), advice (what the user can do about that reason, or empty), rule_set (that decided; before
            one has, the one that was chosen).
        alert: likewise for the alert topic, or None. The same keys, event_type, and bad_for, in seconds.
    """

    state: dict[str, Any] | None
    alert: dict[str, Any] | None


class OneEuro:
    """A low-pass filter that follows fast movement and holds still at rest (Casiez et al., CHI 2012)."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._speed = 0.0

    def update(self, value: float, elapsed: float) -> float:
        """Take in a value ``elapsed`` seconds after the last one; with 0 only the first one counts."""
        if self.value is None:
            self.value = value
        elif elapsed > 0:
            speed = (value - self.value) / elapsed
            self._speed += _weight(SPEED_CUTOFF_HZ, elapsed) * (speed - self._speed)
            self.value += _weight(MIN_CUTOFF_HZ + BETA * abs(self._speed), elapsed) * (value - self.value)
        return self.value


class StateTracker:
    """One stream's state. Feed it every frame's verdict, in the order in which frames are committed."""

    def __init__(
        self,
        rule_set: str = DEFAULT_RULE_SET,
        baseline: Baseline | None = None,
        *,
        limits: Mapping[str, float] | None = None,
        bad_after: float = BAD_AFTER_S,
        good_after: float = GOOD_AFTER_S,
        bad_for: float = 60.0,
        cooldown: float = 300.0,
        away_after: float = 15.0,
    ) -> None:
        """Choose the rules.

        Args:
            rule_set: a name in RULE_SETS, the one that the verdicts were made with.
            baseline: the calibrated pose, as the judge has it.
            limits: likewise.
            bad_after: seconds over a limit before the state is Bad.
            good_after: seconds under all of them before it is Good.
            bad_for: seconds of Bad before an alert.
            cooldown: seconds before the next alert.
            away_after: seconds without a person, or without a measurable one, after which the state is
                Unknown.

        Raises:
            UserError: as the judge's.
        """
        check_rule_set(rule_set, baseline, limits)
        self._rule_set = rule_set
        self._baseline = baseline
        self._limits = limits
        self._bad_after = bad_after
        self._good_after = good_after
        self._bad_for = bad_for
        self._cooldown = cooldown
        self._away_after = away_after
        self._clock = _Clock()
        self._state = "Unknown"
        self._since: float | None = None
        self._bad_s = 0.0
        self._since_alert_s = math.inf
        self._told: tuple[str, bool] | None = None
        self._told_s = 0.0
        self._filters: dict[str, OneEuro] = {}
        self._loads: dict[str, float] | None = None
        self._last_loads: dict[str, float] | None = None  # of the last frame, not smoothed
        self._reason = ""
        self._over = _Stay()  # a measure, over its limit
        self._under = _Stay()  # all measures, under what ends the present state
        self._blind = _Stay()  # no measure
        self._absent = _Stay()  # nobody there

    def describe(self, at: float) -> dict[str, Any]:
        """Return the state as it is told; ``at`` is the present, in seconds since 1970."""
        reason = self._why()
        return {
            "state": self._state,
            "since": _iso(at if self._since is None else self._since),
            "neck": self._smoothed("neck", 1),
            "body": self._smoothed("body", 1),
            "head_drop": self._smoothed("head_height", 3),
            "sitting_drop": self._smoothed("sitting_height", 3),
            "away": self._away(),
            "reason": reason,
            "advice": ADVICE.get(reason, ""),
            "rule_set": self._rule_set,
            "updated": _iso(at),
        }

    @property
    def settled(self) -> bool:
        """Whether frames like the last one, or hardly different ones, leave the state as it is.

        Never while nothing is measured, nor for ``iso11226``, whose limit is a time.
        """
        if not self._last_loads or any(abs(load - 1.0) < NEAR for load in self._last_loads.values()):
            return False
        over = max(self._last_loads.values()) > 1.0, self._over.seconds is not None
        return over == {"Good": (False, False), "Bad": (True, True)}.get(self._state)

    def tell_again(self) -> None:
        """Tell the state with the next frame, whether or not it has changed."""
        self._told = None

    def silent(self, since: float, at: float) -> dict[str, Any]:
        """Return the state while the camera is silent; with its next frame the tracker's own is told again.

        Args:
            since: when its last frame came, in seconds since 1970.
            at: now.
        """
        self.tell_again()
        return {
            **self.describe(at),
            "state": "Unknown",
            "since": _iso(since),
            **dict.fromkeys(("neck", "body", "head_drop", "sitting_drop")),
            "away": False,
            "reason": CAMERA_SILENT,
            "advice": LOOK_AFTER_IT,
        }

    def update(self, verdict: Verdict, at: float, clock_id: str = "", live: bool = True) -> StateChange:
        """Take in one frame.

        Args:
            verdict: of this frame.
            at: when it was taken, in seconds since 1970, by the clock that clock_id names. Time that goes
                back counts as no time passed.
            clock_id: such as the camera's boot id, or empty for the time of arrival. Times of different
                clocks are never compared.
            live: False for a frame from a backlog, or while alerts are snoozed: it moves the state, but raises
                no alert; one that was due then comes with the next live frame in Bad.
        """
        elapsed = self._clock.elapsed(at, clock_id)
        self._since_alert_s += elapsed
        self._told_s += elapsed
        if self._state == "Bad":
            self._bad_s += min(elapsed, LONGEST_STEP_S)
        if self._since is None:
            self._since = at
        if verdict.measures:
            self._seen(verdict, elapsed, at)
        else:
            self._unseen(verdict.reason, elapsed, at)
        return StateChange(state=self._news(at), alert=self._alert(at) if live else None)

    def _seen(self, verdict: Verdict, elapsed: float, at: float) -> None:
        """A frame with measures: smooth them, then see on which side of the limit they stay, and how long."""
        # Time in which nothing was seen is no evidence for either state.
        watched = min(elapsed, LONGEST_STEP_S) if self._blind.seconds is None else 0.0
        self._blind.end()
        self._absent.end()
        # a view that shows other measures begins anew
        self._filters = {name: self._filters.get(name) or OneEuro() for name in verdict.measures}
        smooth = {name: self._filters[name].update(value, elapsed) for name, value in verdict.measures.items()}
        self._rule_set = verdict.rule_set
        self._loads = loads(self._rule_set, smooth, self._baseline, self._limits)
        self._last_loads = loads(self._rule_set, verdict.measures, self._baseline, self._limits)
        self._reason = verdict.reason
        # iso11226 has a holding time for a limit, which the verdict has already applied.
        load = max(self._loads.values()) if self._loads else float(verdict.status == "Bad")
        over_s = self._over.update(load >= 1.0, watched)
        under_s = self._under.update(load < (RELEASE if self._state == "Bad" else 1.0), watched)
        if self._state != "Bad" and over_s >= self._bad_after:
            self._enter("Bad", at)
        elif self._state != "Good" and under_s >= self._good_after:
            self._enter("Good", at)

    def _unseen(self, reason: str, elapsed: float, at: float) -> None:
        """A frame without measures: the state holds for a while, then nothing is known any more."""
        self._last_loads = None
        if reason == "no_person":
            self._absent.update(True, elapsed)
        elif reason in SOMEBODY:
            self._absent.end()
        if self._blind.update(True, elapsed) > self._away_after:
            self._filters = {}
            self._over.end()
            self._under.end()
            if self._state != "Unknown":
                self._enter("Unknown", at)
        if self._state == "Unknown":
            self._reason = reason

    def _enter(self, state: str, at: float) -> None:
        self._state = state
        self._since = at
        self._bad_s = 0.0

    def _away(self) -> bool:
        return (self._absent.seconds or 0.0) > self._away_after

    def _news(self, at: float) -> dict[str, Any] | None:
        now = (self._state, self._away())
        if now == self._told and self._told_s < REFRESH_S:
            return None
        self._told, self._told_s = now, 0.0
        return self.describe(at)

    def _alert(self, at: float) -> dict[str, Any] | None:
        if self._state != "Bad" or self._bad_s < self._bad_for or self._since_alert_s < self._cooldown:
            return None
        self._since_alert_s = 0.0
        return {**self.describe(at), "event_type": ALERT, "bad_for": round(self._bad_s, 1)}

    def _smoothed(self, name: str, decimals: int) -> float | None:
        value = self._filters[name].value if name in self._filters else None
        return None if value is None else round(value, decimals)

    def _why(self) -> str:
        if self._state == "Good":
            return ""
        if self._state == "Unknown":
            return "settling" if self._blind.seconds is None else self._reason
        if self._loads is None:
            return self._reason or "body"
        # Between release and limit the state is still Bad: then the larger share is what holds it there.
        over = [name for name in MEASURES if self._loads.get(name, 0.0) >= 1]
        return "+".join(over) or max(self._loads, key=self._loads.__getitem__)


class _Stay:
    """How long something has held from frame to frame; its first frame counts for no time."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    def update(self, holds: bool, elapsed: float) -> float:
        if not holds:
            self.seconds = None
        else:
            self.seconds = 0.0 if self.seconds is None else self.seconds + elapsed
        return self.seconds or 0.0

    def end(self) -> None:
        self.seconds = None


class _Clock:
    """Seconds from frame to frame, on a clock that may be changed or set back."""

    def __init__(self) -> None:
        self._last: tuple[float, str] | None = None

    def elapsed(self, at: float, clock_id: str) -> float:
        last, self._last = self._last, (at, clock_id)
        if last is None or last[1] != clock_id:
            return 0.0
        return max(at - last[0], 0.0)


def _weight(cutoff_hz: float, elapsed: float) -> float:
    """Share of the new value in a first-order low-pass filter."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff_hz * elapsed))


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds")
