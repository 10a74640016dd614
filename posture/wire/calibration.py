"""A stream's calibrated pose on ``calibration/<pi_id>``, retained: it survives restarts and moves of the analyzer.

It holds settings by their names, and is read by the settings' own parsers: no byte of it is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from typing import Any

from posture.settings.parsers import NotAcceptedError
from posture.settings.table import Analyzer
from posture.system.untrusted import json_object, shown

MOST_BYTES = 4096
NAMES = tuple(entry.name for entry in fields(Analyzer) if entry.name.startswith("baseline_"))
"""The settings that make up a calibrated pose."""
RULE_SETS = ("auto", "baseline")
"""Those that a calibration chooses: from the front, from the side."""


class BrokenCalibrationError(Exception):
    """A retained calibration is not as we write it. The text says what is wrong."""


@dataclass(frozen=True)
class Calibration:
    """One calibrated pose.

    Attributes:
        at: when it was recorded, UTC.
        frames: how many frames it was made of.
        rule_set: that judges by it where ``analyzer.rule_set`` is ``auto``.
        settings: name (one of NAMES) -> value; what is not given was not seen.
    """

    at: datetime
    frames: int
    rule_set: str
    settings: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return it as published."""
        return {
            "at": self.at.astimezone(timezone.utc).isoformat(timespec="seconds"),
            "frames": self.frames,
            "rule_set": self.rule_set,
            **self.settings,
        }

    def over(self, options: Analyzer) -> Analyzer:
        """Return a stream's settings with this pose in place of theirs."""
        given: dict[str, Any] = {**dict.fromkeys(NAMES, 0.0), **self.settings}
        if options.rule_set == "auto":
            given["rule_set"] = self.rule_set
        return replace(options, **given)

    @classmethod
    def parse(cls, payload: bytes) -> Calibration:
        """Return the calibration of a payload.

        Raises:
            BrokenCalibrationError: it is none.
        """
        try:
            said = json_object(payload, MOST_BYTES)
        except ValueError as error:
            raise BrokenCalibrationError(str(error)) from None
        rule_set, frames = said.get("rule_set"), said.get("frames")
        if rule_set not in RULE_SETS:
            raise BrokenCalibrationError(f"rule_set: {shown(rule_set)!r}; accepted: {', '.join(RULE_SETS)}")
        if not isinstance(frames, int) or isinstance(frames, bool) or frames < 0:
            raise BrokenCalibrationError(f"frames: {shown(frames)!r}; accepted: a whole number of at least 0")
        return cls(_moment(said.get("at")), frames, rule_set, _settings(said))


def _moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise BrokenCalibrationError(f"at: {shown(value)!r}; accepted: a time in ISO 8601") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _settings(said: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry in fields(Analyzer):
        if entry.name not in NAMES or entry.name not in said:
            continue
        value = said[entry.name]
        try:
            if not isinstance(value, (int, float)):
                raise NotAcceptedError
            found[entry.name] = float(entry.metadata["parse"](value))
        except (NotAcceptedError, OverflowError):
            accepted = entry.metadata["accepted"]
            raise BrokenCalibrationError(f"{entry.name}: {shown(value)!r}; accepted: {accepted}") from None
    if not found:
        raise BrokenCalibrationError("holds no calibrated pose")
    return found
