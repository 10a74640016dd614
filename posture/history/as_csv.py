"""Rows as CSV for a spreadsheet, line by line, so that however many there are takes no memory. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from posture.history.reader import LISTED, StoredRow

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so is a formula for a spreadsheet, which may send data away."""


def lines(rows: Iterable[StoredRow]) -> Iterator[str]:
    """Yield a line with the columns' names, then one for each row, each with its line end (RFC 4180).

    Times are in UTC and ISO 8601. A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    yield _line(LISTED)
    for row in rows:
        yield _line([_cell(row[name]) for name in LISTED])


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, str):
        text = value.replace("\x00", "\ufffd")
        return f"'{text}" if text.startswith(FORMULA) else text
    return "" if value is None else value


def _line(cells: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()
