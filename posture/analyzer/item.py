"""A frame on its way through the stages of the pipeline."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from posture.analyzer.delivery import Delivery
from posture.analyzer.pose import View
from posture.store.base import Row
from posture.system.untrusted import shown
from posture.verdict.rule_sets import Landmarks, Verdict
from posture.wire import frame

log = logging.getLogger(__name__)

TRACEBACKS = 20
"""Of frames that are given up; a flood of them is not to fill the log."""


@dataclass
class Item:
    """A frame, and what the stages have made of it so far.

    Attributes:
        delivery: the message as it came.
        identity: the frame's id, time, sequence number and boot.
        digest: SHA-256 of the camera's picture as it was encoded, in hex.
        content: the same without the stamp that names the frame; tells a frame sent twice from another of its id.
        again: this process has seen the frame before; it only has to be acknowledged and confirmed, in its turn.
        picture: decoded, BGR, height x width x 3; released once it is drawn.
        view: the same for the landmarker.
        landmarks: None: nobody was found, or the frame was not looked at.
        measured: the earlier frame whose landmarks count again for this one; None: it has its own.
        analysis_s: how long finding them took, in seconds.
        verdict: what the rules say.
        quarantine: the payload, if it is to be kept because it could not be analyzed.
        jpeg: the annotated picture, if one is kept.
        preview: a small one, to be shown once the row is committed.
        row: what goes into the database; None for a frame seen before.
        messages: topic, payload and whether it is retained, to publish once the row is committed.
    """

    delivery: Delivery
    identity: frame.Identity
    digest: str = ""
    content: str = ""
    again: bool = False
    picture: npt.NDArray[np.uint8] | None = None
    view: View | None = None
    landmarks: Landmarks | None = None
    measured: Item | None = None
    analysis_s: float = 0.0
    verdict: Verdict = field(default_factory=lambda: unknown(""))
    quarantine: bytes | None = None
    jpeg: bytes | None = None
    preview: bytes | None = None
    row: Row | None = None
    messages: list[tuple[str, dict[str, Any], bool]] = field(default_factory=list)

    def stream_time(self) -> tuple[float, str]:
        """Return the frame's time in seconds since 1970, and the id of the clock that it is by.

        A camera's own clock is one for each of its boots; our clock, for frames without a time, has an empty id.
        """
        if self.identity.captured_at is not None and self.identity.boot_id:
            return self.identity.captured_at.timestamp(), self.identity.boot_id
        return self.delivery.received_at.timestamp(), ""

    def give_up(self, rule_set: str) -> None:
        """Let the frame pass without a verdict, and keep its payload in quarantine."""
        self.view, self.verdict = None, unknown("analysis_failed", rule_set)
        self.quarantine, self.picture, self.landmarks, self.measured = self.delivery.payload, None, None, None


class Failures:
    """Gives up frames over which a stage met an exception: each process that gets them would end the same way.

    Args:
        rule_set: for their rows.
    """

    def __init__(self, rule_set: str) -> None:
        self._rule_set = rule_set
        self._count = 0

    def give_up(self, item: Item, what: str) -> None:
        """Log the exception that is being handled, and let the frame pass without a verdict.

        Args:
            item: the frame.
            what: could not be done with it.
        """
        self._count += 1
        log.error(
            "frame %s can't be %s; it is given up",
            shown(item.identity.frame_id),
            what,
            exc_info=self._count <= TRACEBACKS,
        )
        item.give_up(self._rule_set)


def unknown(reason: str, rule_set: str = "") -> Verdict:
    """Return the verdict of a frame without one."""
    return Verdict("Unknown", reason, None, None, "", rule_set)
