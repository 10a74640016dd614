"""Names in the order in which people count: pi2 before pi10. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"(\d+)")

Key = tuple[tuple[str, int, str], ...]


def natural(name: str) -> Key:
    """Return a name's key for ``sorted``: its numbers count as numbers, all else as text."""
    parts = [*_NUMBER.split(str(name)), ""]
    return tuple((text, int(digits or 0), digits) for text, digits in zip(parts[::2], parts[1::2], strict=True))


def some_of(names: Iterable[str], most: int = 5) -> str:
    """Return names for a message: in natural order, and only how many where there are more.

    Args:
        names: all of them.
        most: so many are named.
    """
    ordered = sorted(names, key=natural)
    more = len(ordered) - most
    return ", ".join(ordered[:most]) + (f" and {more} more" if more > 0 else "")
