"""By how much a server's clock is ahead of ours, as the Date headers of its answers tell."""

from __future__ import annotations


def offset_that_fits(
    offset_s: float, date_s: float, *, asked_s: float, now_s: float, tolerance_s: float = 0.0
) -> float:
    """Return the offset as it was if an answer's Date agrees with it, else one that does.

    So the offset does not change with each answer: the header is cut to whole seconds, and the answer was made at
    some time since it was asked for.

    Args:
        offset_s: seconds that the server's clock is ahead, as far as is known.
        date_s: the header, in seconds since 1970.
        asked_s: when the question was put, by our clock.
        now_s: what our clock says now.
        tolerance_s: how far the two clocks may appear to drift.
    """
    least_s, most_s = date_s - now_s, date_s + 1.0 - asked_s
    if least_s - tolerance_s <= offset_s <= most_s + tolerance_s:
        return offset_s
    return (least_s + most_s) / 2
