"""The small picture on ``posture/<pi_id>/picture``: a JPEG whose first segment says of which frame it is, as JSON.

So it is shown as it comes by whatever shows JPEG, and a page can tell which row it belongs to.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, fields
from typing import Any

MOST_BYTES = 1_000_000
"""A reader takes no larger one; 480 pixels a side need about a thirtieth of it."""
START, COMMENT = b"\xff\xd8", 0xFFFE
NONE_OF_OURS = "no JPEG that says of which frame it is"
TEXTS = ("id", "at", "status", "reason", "rule_set")


@dataclass(frozen=True)
class Preview:
    """What the row of the frame says, too.

    Attributes:
        id: ``frame_id`` of the row.
        at: when the frame was taken, or where the camera does not say so, when it came; ISO 8601, UTC.
        status: Good, Bad or Unknown, of this frame alone.
        reason: as in the row.
        neck: degrees, one decimal; None: not measured.
        body: likewise.
        rule_set: that decided.
    """

    id: str
    at: str
    status: str
    reason: str
    neck: float | None
    body: float | None
    rule_set: str

    def into(self, jpeg: bytes) -> bytes:
        """Return the JPEG with this in its first segment."""
        said = json.dumps(asdict(self), separators=(",", ":")).encode()
        return jpeg[:2] + struct.pack(">HH", COMMENT, len(said) + 2) + said + jpeg[2:]

    @classmethod
    def of(cls, jpeg: bytes) -> Preview:
        """Return what a small picture says.

        Raises:
            ValueError: it is none of ours.
        """
        said = _first_segment(jpeg)
        found: dict[str, Any] = {entry.name: said.get(entry.name) for entry in fields(cls)}
        if not all(isinstance(found[name], str) for name in TEXTS):
            raise ValueError(NONE_OF_OURS)
        for angle in (found["neck"], found["body"]):
            if isinstance(angle, bool) or not isinstance(angle, (int, float, type(None))):
                raise ValueError(NONE_OF_OURS)
        return cls(**found)


def _first_segment(jpeg: bytes) -> dict[str, Any]:
    if len(jpeg) > MOST_BYTES or len(jpeg) < 6 or jpeg[:2] != START:
        raise ValueError(NONE_OF_OURS)
    marker, length = struct.unpack_from(">HH", jpeg, 2)
    try:
        said = json.loads(jpeg[6 : 4 + length]) if marker == COMMENT else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise ValueError(NONE_OF_OURS)
    return said
