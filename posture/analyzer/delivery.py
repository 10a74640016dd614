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
    redelivered: bool = False
    """The broker has delivered it before, to this process or to one that has ended."""


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

    def publish(self, topic: str, payload: Mapping[str, Any] | None, *, retain: bool = False) -> None:
        """Send JSON to a topic now, or with the next connection; None clears what the broker retains there."""

    def show(self, topic: str, jpeg: bytes) -> None:
        """Send a picture when the connection has nothing else to do; a later one takes its place until then."""

    def hold(self, held: bool) -> None:
        """Say that the store is away (True) or back (False)."""

    def retained(self, topic: str) -> bytes:
        """Ask the broker, and wait for its answer, what it retains at a topic of suspects; empty: nothing.

        Raises:
            OSError: the broker can't be reached, does not take us, or closed the connection; or a stop came first.
            UserError: a TLS file can't be read.
        """

    def retain(self, topic: str, payload: bytes) -> None:
        """Return once the broker retains this at a topic of suspects.

        Raises:
            OSError: it can't be reached, or does not take it.
            UserError: a TLS file can't be read.
        """


class Receiver(Protocol):
    """What the stream gives to the pipeline, all of it in the stream's own thread. No method may block."""

    def deliver(self, delivery: Delivery) -> None:
        """Take a frame, in order of arrival."""

    def command(self, payload: bytes, *, retained: bool) -> None:
        """Take what came on the command topic."""

    def recall(self, topic: str, payload: bytes) -> None:
        """Take what an analyzer before this one has left at the broker; it comes before the first frame."""

    def camera_silent(self, since: datetime) -> None:
        """Take note that no frame has come since then, and none is in hand."""

    def check(self) -> None:
        """Called often; raises what should end the loop (a failed pipeline)."""

    def drain(self) -> bool:
        """Called often once the loop is to end: begin to finish what is in hand; True when that is done."""
