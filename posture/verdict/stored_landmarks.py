"""The column ``landmarks``: what a row keeps, so that it can be judged again by other rules without its picture."""

from __future__ import annotations

import json

import numpy as np

from posture.verdict.rule_sets import Landmarks

SCHEMA_VERSION = 2
"""1: 33 of [x, y, visibility]; 2: 33 of [x, y, visibility, X, Y, Z]."""


def to_json(landmarks: Landmarks | None) -> str | None:
    """The column's text: x and y in pixels, visibility 0 to 1, and the world coordinates, if known, in metres.

    Args:
        landmarks: of the measured person; None, when nobody was found, stays None.
    """
    if landmarks is None:
        return None
    columns = [landmarks.points[:, :2].round(1), landmarks.points[:, 2:].round(2)]
    if landmarks.world is not None:
        columns.append(landmarks.world.round(3))
    return json.dumps(np.hstack(columns).tolist(), separators=(",", ":"))


def from_json(text: str | None, width: int, height: int) -> Landmarks | None:
    """What ``to_json`` wrote, of either version; None for a row without landmarks.

    Args:
        text: of the column.
        width: of the analysed picture, in pixels.
        height: likewise.

    Raises:
        ValueError: the text is no such list.
    """
    if text is None:
        return None
    rows = np.array(json.loads(text), float)
    numbers = rows.size // 33
    if numbers not in (3, 6) or rows.shape != (33, numbers):
        raise ValueError(f"landmarks: a list of shape {rows.shape}; accepted: 33 of 3 or 6 numbers")
    return Landmarks(rows[:, :3], width, height, rows[:, 3:] if numbers == 6 else None)
