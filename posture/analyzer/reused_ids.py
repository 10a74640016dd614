"""A frame id that comes again: with the same picture it is a frame sent twice, with another one another frame.

An id is what the sender says. If a stranger uses one before its camera does, the camera's own frame must not be
taken for one that has a row already: both are kept, the second one under an id of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from posture.analyzer.item import Item
from posture.store.base import Row
from posture.wire.frame import safe_name


def tell_apart(
    items: Sequence[Item], digests: Callable[[Sequence[str]], Mapping[str, str | None]]
) -> list[tuple[Item, Row]]:
    """Find out which frames have a row, and give those that only share an id with one an id of their own.

    Of a frame that has a row the pictures are dropped: drawn anew, it might contradict that row.

    Args:
        items: frames with rows, in order of arrival.
        digests: as ``Store.digests``, for this stream.

    Returns:
        The frames that were given another id.
    """
    rows = [(item, item.row) for item in items if item.row is not None]
    stored = dict(digests([row.frame_id for _, row in rows]))
    another: list[tuple[Item, Row]] = []
    for item, row in rows:
        if row.frame_id not in stored:
            stored[row.frame_id] = item.content  # and now for the rest of the batch
        elif _differ(stored[row.frame_id], item.content):
            item.row = _renamed(row, item.content)
            another.append((item, item.row))
        else:
            item.jpeg = item.preview = None
    if another:
        has_row = digests([row.frame_id for _, row in another])
        for item, row in another:
            if row.frame_id in has_row:
                item.jpeg = item.preview = None
    return another


def with_another_name(row: Row, content: str) -> Row:
    """Return the row with a file name that no other picture has."""
    return dataclasses.replace(row, filename=f"{safe_name(f'{row.frame_id}~{content}')}.jpg")


def _differ(stored: str | None, content: str) -> bool:
    # rows of earlier versions have none
    return bool(stored and content) and stored != content


def _renamed(row: Row, content: str) -> Row:
    renamed = dataclasses.replace(row, frame_id=f"{row.frame_id}~{content}")
    return dataclasses.replace(renamed, filename=f"{safe_name(renamed.frame_id)}.jpg") if row.filename else renamed
