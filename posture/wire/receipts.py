"""Receipts: what an analyzer publishes of frames whose rows are on disk, and a camera reads.

A receipt names each frame by its id and by the SHA-256 of its picture, so that a camera deletes only what it sent:
ids can be guessed, and somebody else's frame may have had the same one. Those of version 0.1.0 give ids alone.
Which kind an analyzer gives stands in its status, so cameras and analyzers may be updated in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ANNOUNCED = {"receipts": "sha256"}
"""In the status of an analyzer whose receipts carry hashes."""


def receipt(frames: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the receipt for frames.

    Args:
        frames: id and SHA-256 of each, in hex.
    """
    return {"ids": [frame_id for frame_id, _ in frames], "sha256": [digest for _, digest in frames]}


def read(said: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Return id and SHA-256 of each frame of a receipt; None for the hashes if it carries none.

    Args:
        said: the message, from JSON.

    Raises:
        KeyError, TypeError, ValueError: it is no receipt.
    """
    ids = _texts(said["ids"])
    if "sha256" not in said:
        return [(frame_id, None) for frame_id in ids]
    return list(zip(ids, _texts(said["sha256"]), strict=True))


def announced_in(status: Mapping[str, Any]) -> bool:
    """Return whether the analyzer of a status message gives receipts with hashes."""
    return all(status.get(key) == value for key, value in ANNOUNCED.items())


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError("not a list of texts")
    return value
