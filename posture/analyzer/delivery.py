"""What the pipeline gets from the stream, and what it tells the stream in return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True)
class Delivery:
    """A frame as the broker gave it to us."""

    payload: bytes
    properties: Mapping[str, str]
    received_at: datetime
    monotonic: float
    packet_id: int
    """0: sent with QoS 0, needs no acknowledgement."""
    connection: int
    """The number of the connection that delivered it."""
    malformed: bool = False
    """The MQTT library could not parse the message; payload is what could be read of it."""


class Acknowledger(Protocol):
    """The part of the stream that the pipeline sees. Its methods may be called from any thread.

    Attributes:
        camera_frozen: set by the pipeline: the camera sends the same picture again and again.
        passed_over: kind -> messages that were acknowledged without becoming frames.
    """

    camera_frozen: bool
    passed_over: Counter[str]

    @property
    def outstanding(self) -> int:
        """Frames delivered and not yet settled."""

    def settled(self, delivery: Delivery) -> None:
        """Acknowledge a frame whose row and picture are on disk. Frames are settled in order of arrival."""

    def publish(self, topic: str, payload: Mapping[str, Any], *, retain: bool = False) -> None:
        """Send JSON to a topic now, or with the next connection."""

    def hold(self, held: bool) -> None:
        """Say that the store is away (True) or back (False)."""
