"""Two analyzers of one stream: the older one finds out that a newer one has taken over.

Brokers don't tell a client of MQTT 3.1.1 that its session was taken over (Mosquitto before 2.0.15 not over MQTT 5
either), so the retained status topic is asked, under a throw-away client id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.wire import statuses

WATCH_S = 1.5
"""How long a newer instance may take, after it has our session, to say so in the status topic."""


@dataclass(frozen=True)
class Owner:
    """The instance that a status message speaks of."""

    instance: str
    started: str
    online: bool

    @classmethod
    def parse(cls, payload: bytes) -> Owner | None:
        """Return the owner, or None for anything that is not a status message of ours."""
        try:
            status = json.loads(payload)
            return cls(str(status["instance"]), str(status["started"]), status["state"] == "online")
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


def is_superseded(ours: Owner, topic: str, settings: Mqtt, protocol: str, client_id: str, stop: Stop) -> bool:
    """Return True if a newer instance, alive, has this stream.

    Args:
        ours: this analyzer.
        topic: the stream's status topic.
        settings: the broker.
        protocol: ``auto``, ``5`` or ``3.1.1``.
        client_id: ours; the throw-away id is made from it.
        stop: ends the watch early.

    Raises:
        OSError: the broker can't be reached, or closed the connection.
    """
    seen: list[Owner] = []

    def take(_topic: str, payload: bytes) -> bool:
        owner = Owner.parse(payload)
        if owner is not None and owner.instance != ours.instance and owner.online:
            seen.append(owner)
            return True
        return False

    statuses.watch(take, topic, settings, protocol, client_id, stop, most_s=WATCH_S)
    return any((owner.started, owner.instance) > (ours.started, ours.instance) for owner in seen)
