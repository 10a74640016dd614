"""Retained messages, read and written over a connection of their own.

Over the session that brings the frames, the broker's answers stand behind frames for which there may be no room.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.wire import mqtt, statuses

READ_S, QUIET_S = 5.0, 0.5
ANSWER_S = 10.0


def read(topic: str, settings: Mqtt, protocol: str, client_id: str, stop: Stop) -> bytes:
    """Return what the broker retains at a topic; nothing where it retains nothing.

    Args:
        topic: one topic.
        settings: the broker.
        protocol: ``auto``, ``5`` or ``3.1.1``.
        client_id: the throw-away id is made from it.
        stop: ends the reading early.

    Raises:
        OSError: the broker can't be reached, does not take us, or closed the connection; or the stop came first.
        UserError: a TLS file can't be read.
    """
    found: list[bytes] = []

    def take(_topic: str, payload: bytes) -> bool:
        found.append(payload)
        return True

    statuses.watch(take, topic, settings, protocol, client_id, stop, most_s=READ_S, quiet_s=QUIET_S)
    if not found and stop.requested:
        raise ConnectionError(f"a stop came before {topic} was read")
    return found[0] if found else b""


def write(messages: Mapping[str, bytes], settings: Mqtt, protocol: str, client_id: str) -> list[str]:
    """Have the broker retain messages, and return once it has taken them.

    Args:
        messages: topic -> payload; an empty one clears the topic.
        settings: the broker.
        protocol: ``auto``, ``5`` or ``3.1.1``.
        client_id: the throw-away id is made from it.

    Returns:
        The topics for which it has not taken them. Over MQTT 3.1.1 a broker can't say that it refuses one.

    Raises:
        OSError: the broker can't be reached, does not take us, or closed the connection.
        UserError: a TLS file can't be read.
    """
    writer_id = f"{client_id}-write-{secrets.token_hex(4)}"
    client = mqtt.make_client(writer_id, "3.1.1" if protocol == "auto" else protocol, settings, keep_session=False)
    answer = mqtt.handshake(client, settings, session_expiry_s=0, give_up=lambda: False)
    if not answer.accepted:
        raise ConnectionError(answer.refused)
    refused: list[str] = []
    waiting: dict[int, str] = {}

    def on_publish(_client: object, _data: object, packet_id: int, reason: ReasonCode, _: object) -> None:
        topic = waiting.pop(packet_id, "")
        if topic and reason.is_failure:
            refused.append(topic)

    client.on_publish = on_publish
    for topic, payload in messages.items():
        waiting[client.publish(topic, payload, qos=1, retain=True).mid] = topic
    deadline = time.monotonic() + ANSWER_S
    while waiting and time.monotonic() < deadline:
        if client.loop(timeout=0.1) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectionError("closed the connection")
    mqtt.abandon(client)
    return [*refused, *waiting.values()]
