"""The MQTT topics of one stream, and how the farm's prefix enters client ids."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topics:
    """One stream's topics, with the farm's prefix.

    Attributes:
        pi_id: the stream's name.
        prefix: the farm's, without a slash at its end; empty: none.
    """

    pi_id: str
    prefix: str = ""

    @property
    def images(self) -> str:
        """The camera's pictures."""
        return self._of("images/{}")

    @property
    def committed(self) -> str:
        """The analyzer's receipts: ids and hashes of frames whose rows are on disk."""
        return self._of("committed/{}")

    @property
    def status(self) -> str:
        """Which analyzer has the stream, and whether it is online. Retained."""
        return self._of("status/{}")

    @property
    def camera(self) -> str:
        """Whether the camera is live, silent or frozen. Retained."""
        return self._of("camera/{}")

    @property
    def account(self) -> str:
        """What became of every frame, in numbers. Retained."""
        return self._of("account/{}")

    @property
    def state(self) -> str:
        """The smoothed posture. Retained."""
        return self._of("posture/{}/state")

    @property
    def alert(self) -> str:
        """Posture that has been bad for too long."""
        return self._of("posture/{}/alert")

    @property
    def client_id_prefix(self) -> str:
        """The prefix and a dash, or nothing: it keeps the client ids of two farms on one broker apart."""
        return self.prefix.replace("/", "-") + "-" if self.prefix else ""

    def _of(self, pattern: str) -> str:
        name = pattern.format(self.pi_id)
        return f"{self.prefix}/{name}" if self.prefix else name
