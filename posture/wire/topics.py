"""The MQTT topics of one stream, its users at the broker, and how the farm's prefix enters client ids."""

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
    def picture(self) -> str:
        """A small annotated picture, about once a second, by the privacy mode."""
        return self._of("posture/{}/picture")

    @property
    def command(self) -> str:
        """What an operator wants of the analyzer."""
        return self._of("command/{}")

    @property
    def answer(self) -> str:
        """What became of a command."""
        return self._of("posture/{}/answer")

    @property
    def calibration(self) -> str:
        """The calibrated pose, so that it moves with the stream. Retained."""
        return self._of("calibration/{}")

    @property
    def suspects(self) -> str:
        """Frames that may end the process that opens them. Retained, while there are any."""
        return self._of("suspects/{}")

    @property
    def retained(self) -> tuple[str, ...]:
        """Those that the broker keeps: of a stream that is gone they are to be cleared."""
        return self.status, self.camera, self.account, self.state, self.calibration, self.suspects

    @property
    def client_id_prefix(self) -> str:
        """The prefix and a dash, or nothing: it keeps the client ids of two farms on one broker apart."""
        return self.prefix.replace("/", "-") + "-" if self.prefix else ""

    @property
    def analyzer_user(self) -> str:
        """The analyzer at a broker with an access list, which uses this name as the client's id, too."""
        return self._user("analyzer")

    @property
    def takeover_user(self) -> str:
        """The analyzer when it asks who has the stream: as ``analyzer_user`` it would end its own session."""
        return self._user("takeover")

    @property
    def suspects_user(self) -> str:
        """The analyzer when it notes which frame it opens, beside its session; likewise."""
        return self._user("suspects")

    @property
    def camera_user(self) -> str:
        """The camera at a broker with an access list."""
        return self._user("camera")

    @property
    def viewer_user(self) -> str:
        """Who reads what all streams of the farm say; the stream's name is not part of it."""
        return ".".join((*self._prefix_parts, "viewer", "all"))

    @property
    def balancer_user(self) -> str:
        """Who asks what the analyzers run on."""
        return ".".join((*self._prefix_parts, "balancer", "all"))

    @property
    def dashboard_user(self) -> str:
        """Who shows all streams of the farm, with their pictures, and gives commands; likewise."""
        return ".".join((*self._prefix_parts, "dashboard", "all"))

    def _user(self, role: str) -> str:
        # a dot is in neither a prefix nor a stream's name, so that no two users of two farms have the same name
        return ".".join((*self._prefix_parts, role, self.pi_id))

    @property
    def _prefix_parts(self) -> list[str]:
        return self.prefix.split("/") if self.prefix else []

    def _of(self, pattern: str) -> str:
        name = pattern.format(self.pi_id)
        return f"{self.prefix}/{name}" if self.prefix else name
