"""Verdicts of single frames -> the stream's smoothed state, and alerts. Pure: the caller passes the time.

A One-Euro filter smooths both angles; then Good becomes Bad when the smoothed angles stay over the limit for
3 s, and Good again when they stay under 0.85 of it for 2 s. A glance down is no event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from posture.verdict.rule_sets import NO_VERDICT, Baseline, Verdict, check_rule_set, loads

RELEASE = 0.85  # share of the limit that the angles must be under before Bad ends
BAD_AFTER_S = 3.0
GOOD_AFTER_S = 2.0
LONGEST_STEP_S = 15.0  # a frame speaks for no more time than this, however long the camera was silent
SOMEBODY = tuple(
    reason for reason in NO_VERDICT if reason != "no_person"
)  # no verdict, and still somebody is there
REFRESH_S = 5.0  # an unchanged state is told again with its new angles this often

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
            degrees, one decimal, or null), away (nobody there for more than away_after), reason (as in Verdict;
            ``settling`` while the first seconds are watched), rule_set.
        alert: likewise for the alert topic, or None. The same keys, and bad_for, in seconds.
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
        rule_set: str = "upright",
        baseline: Baseline | None = None,
        *,
        bad_for: float = 60.0,
        cooldown: float = 300.0,
        away_after: float = 15.0,
    ) -> None:
        """Choose the rules.

        Args:
            rule_set: a name in RULE_SETS, the one that the verdicts were made with.
            baseline: the calibrated pose, for rule set ``baseline``.
            bad_for: seconds of Bad before an alert.
            cooldown: seconds before the next alert.
            away_after: seconds without a person, or without a measurable one, after which the state is
                Unknown.

        Raises:
            UserError: unknown rule set, or ``baseline`` without one.
        """
        check_rule_set(rule_set, baseline)
        self._rule_set = rule_set
        self._baseline = baseline
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
        self._neck, self._body = OneEuro(), OneEuro()
        self._loads: tuple[float, float] | None = None
        self._reason = ""
        self._over = _Stay()  # the angles, over the limit
        self._under = _Stay()  # the angles, under what ends the present state
        self._blind = _Stay()  # no angles
        self._absent = _Stay()  # nobody there

    def update(self, verdict: Verdict, at: float, clock_id: str = "", live: bool = True) -> StateChange:
        """Take in one frame.

        Args:
            verdict: of this frame.
            at: when it was taken, in seconds since 1970, by the clock that clock_id names. Time that goes
                back counts as no time passed.
            clock_id: such as the camera's boot id, or empty for the time of arrival. Times of different
                clocks are never compared.
            live: False for a frame from a backlog: it moves the state, but raises no alert.
        """
        elapsed = self._clock.elapsed(at, clock_id)
        self._since_alert_s += elapsed
        self._told_s += elapsed
        if self._state == "Bad":
            self._bad_s += min(elapsed, LONGEST_STEP_S)
        if self._since is None:
            self._since = at
        neck, body = verdict.neck_angle, verdict.body_angle
        if neck is None or body is None:
            self._unseen(verdict.reason, elapsed, at)
        else:
            self._seen(neck, body, verdict, elapsed, at)
        return StateChange(state=self._news(at), alert=self._alert(at) if live else None)

    def _seen(self, neck: float, body: float, verdict: Verdict, elapsed: float, at: float) -> None:
        """A frame with angles: smooth them, then see on which side of the limit they stay, and how long."""
        # Time in which nothing was seen is no evidence for either state.
        watched = min(elapsed, LONGEST_STEP_S) if self._blind.seconds is None else 0.0
        self._blind.end()
        self._absent.end()
        neck, body = self._neck.update(neck, elapsed), self._body.update(body, elapsed)
        self._loads = loads(self._rule_set, neck, body, self._baseline)
        self._reason = verdict.reason
        # iso11226 has a holding time for a limit, which the verdict has already applied.
        load = max(self._loads) if self._loads else float(verdict.status == "Bad")
        over_s = self._over.update(load >= 1.0, watched)
        under_s = self._under.update(load < (RELEASE if self._state == "Bad" else 1.0), watched)
        if self._state != "Bad" and over_s >= BAD_AFTER_S:
            self._enter("Bad", at)
        elif self._state != "Good" and under_s >= GOOD_AFTER_S:
            self._enter("Good", at)

    def _unseen(self, reason: str, elapsed: float, at: float) -> None:
        """A frame without angles: the state holds for a while, then nothing is known any more."""
        if reason == "no_person":
            self._absent.update(True, elapsed)
        elif reason in SOMEBODY:
            self._absent.end()
        if self._blind.update(True, elapsed) > self._away_after:
            self._neck, self._body = OneEuro(), OneEuro()
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
        return self._describe(at)

    def _alert(self, at: float) -> dict[str, Any] | None:
        if self._state != "Bad" or self._bad_s < self._bad_for or self._since_alert_s < self._cooldown:
            return None
        self._since_alert_s = 0.0
        return {**self._describe(at), "bad_for": round(self._bad_s, 1)}

    def _describe(self, at: float) -> dict[str, Any]:
        neck, body = self._neck.value, self._body.value
        return {
            "state": self._state,
            "since": _iso(at if self._since is None else self._since),
            "neck": None if neck is None else round(neck, 1),
            "body": None if body is None else round(body, 1),
            "away": self._away(),
            "reason": self._why(),
            "rule_set": self._rule_set,
            "updated": _iso(at),
        }

    def _why(self) -> str:
        if self._state == "Good":
            return ""
        if self._state == "Unknown":
            return "settling" if self._blind.seconds is None else self._reason
        if self._loads is None:
            return self._reason or "body"
        # Between release and limit the state is still Bad: then the larger share is what holds it there.
        over = [name for name, load in zip(("neck", "body"), self._loads, strict=True) if load >= 1]
        return "+".join(over) or ("neck" if self._loads[0] >= self._loads[1] else "body")


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
