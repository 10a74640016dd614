"""A frame on its way through the stages of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from posture.analyzer.delivery import Delivery
from posture.analyzer.pose import View
from posture.store.base import Row
from posture.verdict.rule_sets import Landmarks, Verdict
from posture.wire import frame


@dataclass
class Item:
    """A frame, and what the stages have made of it so far.

    Attributes:
        delivery: the message as it came.
        identity: the frame's id, time, sequence number and boot.
        again: this process has seen the frame before; it only has to be acknowledged and confirmed, in its turn.
        picture: decoded, BGR, height x width x 3; released once it is drawn.
        view: the same for the landmarker.
        landmarks: None: nobody was found, or the frame was not looked at.
        verdict: what the rules say.
        quarantine: the payload, if it is to be kept because it could not be analyzed.
        jpeg: the annotated picture, if one is kept.
        row: what goes into the database; None for a frame seen before.
        messages: topic, payload and whether it is retained, to publish once the row is committed.
    """

    delivery: Delivery
    identity: frame.Identity
    again: bool = False
    picture: npt.NDArray[np.uint8] | None = None
    view: View | None = None
    landmarks: Landmarks | None = None
    verdict: Verdict = field(default_factory=lambda: unknown(""))
    quarantine: bytes | None = None
    jpeg: bytes | None = None
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
        self.verdict = unknown("analysis_failed", rule_set)
        self.quarantine, self.picture = self.delivery.payload, None


def unknown(reason: str, rule_set: str = "") -> Verdict:
    """Return the verdict of a frame without one."""
    return Verdict("Unknown", reason, None, None, "", rule_set)
