"""Two analyzers of one stream: the older one finds out that a newer one has taken over.

Brokers don't tell a client of MQTT 3.1.1 that its session was taken over (Mosquitto before 2.0.15 not over MQTT 5
either), so the retained status topic is asked, under a throw-away client id.
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode

from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.wire import mqtt

log = logging.getLogger(__name__)

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

    def take(owner: Owner | None) -> bool:
        if owner is not None and owner.instance != ours.instance and owner.online:
            seen.append(owner)
            return True
        return False

    _watch_status(take, topic, settings, protocol, client_id, stop)
    return any((owner.started, owner.instance) > (ours.started, ours.instance) for owner in seen)


def _watch_status(
    take: Callable[[Owner | None], bool], topic: str, settings: Mqtt, protocol: str, client_id: str, stop: Stop
) -> None:
    """Show status messages to ``take`` until it returns True or the watch is over."""
    done = threading.Event()
    look_id = f"{client_id}-look-{os.getpid()}-{random.randrange(1 << 32):08x}"  # noqa: S311 - no secret
    client = mqtt.make_client(look_id, "3.1.1" if protocol == "auto" else protocol, settings, keep_session=False)

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if take(Owner.parse(bytes(message.payload))):
            done.set()

    client.on_connect = lambda c, *_: c.subscribe(topic, qos=1)
    client.on_message = on_message
    client.on_subscribe = lambda *args: _say_refused(mqtt.refused_subscriptions([topic], args[3]))
    mqtt.connect(client, settings, session_expiry_s=0)
    deadline = time.monotonic() + WATCH_S
    while time.monotonic() < deadline and not done.is_set() and not stop.requested:
        if client.loop(timeout=0.1) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectionError("closed while asking who has the stream")
    mqtt.abandon(client)


def _say_refused(lines: Sequence[str]) -> None:
    for line in lines:
        log.warning("the broker %s: who else has the stream can't be known", line)
