"""What analyzers say of themselves in the retained topic ``status/<pi_id>``, read under a throw-away client id."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from posture.runtime import Stop
from posture.settings.parsers import PI_ID
from posture.settings.table import Mqtt
from posture.wire import mqtt
from posture.wire.topics import Topics

log = logging.getLogger(__name__)

QUIET_S = 0.5
"""Retained messages follow the subscription at once: after so long a silence there are no more."""
MOST_S = 5.0
"""However many there are."""
TURN_S = 0.1
DELEGATES = ("cpu", "gpu")
"""What a landmarker can run on."""


@dataclass(frozen=True)
class Status:
    """What one analyzer has said last.

    Attributes:
        online: it is connected.
        delegate: ``cpu`` or ``gpu``, what its landmarks are computed on; empty: it did not say.
        gpu_missing: it was told to use the GPU, and uses the CPU.
    """

    online: bool
    delegate: str
    gpu_missing: bool = False

    @classmethod
    def parse(cls, payload: bytes) -> Status | None:
        """Return the status, or None for anything that is not a status message of ours."""
        try:
            status = json.loads(payload)
            delegate = status.get("delegate", "")
            return cls(
                online=status["state"] == "online",
                delegate=delegate if delegate in DELEGATES else "",
                gpu_missing=delegate == "cpu" and status.get("delegate_asked") == "gpu",
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def read_all(settings: Mqtt, protocol: str, stop: Stop) -> dict[str, Status]:
    """Return stream -> its analyzer's last status.

    Args:
        settings: the broker; its user must be allowed to read ``status/+``.
        protocol: ``auto``, ``5`` or ``3.1.1``.
        stop: ends the reading early.

    Raises:
        OSError: the broker can't be reached, or closed the connection.
        UserError: a TLS file can't be read.
    """
    found: dict[str, Status] = {}

    def take(topic: str, payload: bytes) -> bool:
        stream, status = topic.rpartition("/")[2], Status.parse(payload)
        if status is not None and PI_ID.fullmatch(stream):
            found[stream] = status
        return False

    every = Topics("+", settings.prefix)
    watch(take, every.status, settings, protocol, every.balancer_user, stop, most_s=MOST_S, quiet_s=QUIET_S)
    return found


def watch(
    take: Callable[[str, bytes], bool],
    topic: str,
    settings: Mqtt,
    protocol: str,
    client_id: str,
    stop: Stop,
    *,
    most_s: float,
    quiet_s: float = math.inf,
) -> None:
    """Show messages, retained ones first, to ``take`` until it returns True or the watch is over.

    Args:
        take: gets each message's topic and payload.
        topic: what is subscribed to.
        settings: the broker.
        protocol: ``auto``, ``5`` or ``3.1.1``.
        client_id: the throw-away id is made from it.
        stop: ends the watch early.
        most_s: how long it lasts at most.
        quiet_s: it ends earlier when nothing has come for so long since the broker took the subscription. Whoever
            gives it wants to know what there is: a subscription that was not taken is an error then.

    Raises:
        OSError: the broker can't be reached, does not take us, or closed the connection, or did not take the
            subscription in time.
        UserError: a TLS file can't be read.
    """
    done = threading.Event()
    look_id = f"{client_id}-look-{os.getpid()}-{random.randrange(1 << 32):08x}"  # noqa: S311 - no secret
    client = mqtt.make_client(look_id, "3.1.1" if protocol == "auto" else protocol, settings, keep_session=False)
    last_s = math.inf

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        nonlocal last_s
        last_s = time.monotonic()
        if take(message.topic, bytes(message.payload)):
            done.set()

    def on_subscribe(
        _client: paho.Client, _data: object, _id: int, reasons: Sequence[ReasonCode], _: object
    ) -> None:
        nonlocal last_s
        last_s = time.monotonic()
        for line in mqtt.refused_subscriptions([topic], reasons):
            log.warning("the broker %s: what analyzers say of themselves can't be known", line)

    client.on_message = on_message
    client.on_subscribe = on_subscribe
    answer = mqtt.handshake(client, settings, session_expiry_s=0, give_up=lambda: stop.requested)
    if not answer.accepted:
        raise ConnectionError(answer.refused)
    client.subscribe(topic, qos=1)
    deadline = time.monotonic() + most_s
    while not done.is_set() and not stop.requested:
        began_s, before_s = time.monotonic(), last_s
        if client.loop(timeout=TURN_S) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectionError(f"the broker closed the connection while {topic} was read")
        # a process that stood still reads what has come meanwhile, before it says that nothing comes
        if began_s >= deadline or (began_s >= last_s + quiet_s and last_s == before_s):
            break
    mqtt.abandon(client)
    if math.isfinite(quiet_s) and math.isinf(last_s) and not stop.requested:
        raise TimeoutError(f"the broker has not taken the subscription to {topic} within {most_s:g} s")
