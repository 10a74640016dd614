"""The limits of a rule set, which a stream may have of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from posture.settings.parsers import NotAcceptedError, did_you_mean, number, shown

ACCEPTED = {
    "neck": (1.0, 90.0),
    "body": (1.0, 90.0),
    "baseline": (1.0, 90.0),
    "head_height": (0.01, 0.5),
    "sitting_height": (0.01, 0.5),
}
"""Degrees for the angles, shares of the calibrated height for the others; least and most."""


@dataclass(frozen=True)
class Limits:
    """Those that are given, as (name, value) in order of name; a rule set uses its own for all others."""

    given: tuple[tuple[str, float], ...] = ()

    def over(self, general: Limits) -> Limits:
        """Return these limits, and of the general ones those that are not among them."""
        return Limits(tuple(sorted({**dict(general.given), **dict(self.given)}.items())))

    def __str__(self) -> str:
        """Return the limits as they may stand in cluster.yaml and in the environment."""
        return "{" + ", ".join(f"{name}: {value:g}" for name, value in self.given) + "}"


def limits(value: Any) -> Limits:
    """Accept a map of names and numbers, or its text in YAML."""
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            raise NotAcceptedError from None
    if value is None:
        return Limits()
    if not isinstance(value, Mapping):
        raise NotAcceptedError
    found = {}
    for name, limit in value.items():
        if name not in ACCEPTED:
            raise NotAcceptedError(f"{shown(name)} is no limit{did_you_mean(str(name), list(ACCEPTED))}")
        low, high = ACCEPTED[name]
        try:
            found[str(name)] = float(number(low, high)(limit))
        except NotAcceptedError:
            raise NotAcceptedError(f"{name} is from {low:g} to {high:g}") from None
    return Limits(tuple(sorted(found.items())))
