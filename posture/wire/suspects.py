"""Frames that may end the process that opens them, on ``suspects/<pi_id>``, retained: known on every node.

No byte of it is trusted: what is no such message counts against no frame.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from posture.system.untrusted import json_object

MOST_BYTES = 10_000
MOST_FRAMES = 50
"""Those of which something was known first are forgotten first."""
MOST_COUNTED = 1_000
DIGEST = re.compile(r"[0-9a-f]{64}")
PROCESS = re.compile(r"[0-9a-f]{16}")


class BrokenSuspectsError(Exception):
    """A retained message is not as we write it. The text says what is wrong."""


@dataclass(frozen=True)
class Remembered:
    """What an analyzer leaves to its successors.

    Attributes:
        process: who wrote it: 64 random bits in hex, for each process; empty if nobody did.
        frame: SHA-256 in hex of the frame that it opens, and nothing beside it; empty: it survived the last one.
        counts: SHA-256 of a frame -> what counts against it.
    """

    process: str = ""
    frame: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def as_bytes(self) -> bytes:
        """Return it as published: nothing, which clears the topic, if there is nothing to remember."""
        counts = dict(list(self.counts.items())[-MOST_FRAMES:])
        if not self.frame and not counts:
            return b""
        said = {"process": self.process, "frame": self.frame, "counts": counts}
        return json.dumps(said, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, payload: bytes) -> Remembered:
        """Return what a payload says.

        Raises:
            BrokenSuspectsError: it is none of ours.
        """
        if not payload:
            return cls()
        try:
            said = json_object(payload, MOST_BYTES)
        except ValueError as error:
            raise BrokenSuspectsError(str(error)) from None
        try:
            process, frame, counts = said["process"], said["frame"], said["counts"]
            sound = (
                PROCESS.fullmatch(process)
                and (not frame or DIGEST.fullmatch(frame))
                and all(DIGEST.fullmatch(one) and 0 < count <= MOST_COUNTED for one, count in counts.items())
            )
        except (KeyError, TypeError, AttributeError):
            sound = False
        if not sound:
            raise BrokenSuspectsError("accepted: process, frame and counts, as an analyzer writes them")
        return cls(process, frame or "", {one: int(count) for one, count in counts.items()})
