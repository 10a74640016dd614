"""``--clear-topics``: a stream that is gone leaves nothing at the broker: its retained topics are cleared."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from posture.analyzer.takeover import Owner
from posture.errors import UserError
from posture.runtime import EXIT_OK, Stop
from posture.settings.table import Mqtt
from posture.wire import mqtt, statuses
from posture.wire.topics import Topics

LOOK_S, QUIET_S, ANSWER_S = 3.0, 0.5, 10.0


def clear_topics(settings: Mqtt, pi_id: str, stop: Stop) -> int:
    """Clear what the broker retains of a stream, and say so.

    Raises:
        UserError: its analyzer is online, or the broker can't be reached or doesn't let us.
    """
    topics, broker = Topics(pi_id, settings.prefix), mqtt.parse_broker(settings.url)
    try:
        if _is_online(settings, topics, stop):
            raise UserError(
                f"stream {pi_id}: its analyzer is online; accepted: a stream whose analyzer was stopped"
            )
        refused = _clear(settings, topics)
    except OSError as error:
        raise UserError(f"broker {broker}: {mqtt.explain(error)}") from None
    if refused:
        raise UserError(f"broker {broker}: refuses messages for {', '.join(refused)} (may this user write them?)")
    print(f"{pi_id}: cleared {', '.join(topics.retained)}")
    return EXIT_OK


def _is_online(settings: Mqtt, topics: Topics, stop: Stop) -> bool:
    online: list[Owner] = []

    def take(_topic: str, payload: bytes) -> bool:
        owner = Owner.parse(payload)
        if owner is not None and owner.online:
            online.append(owner)
        return bool(online)

    if settings.username == topics.analyzer_user:
        settings = replace(settings, username=topics.takeover_user)
    statuses.watch(
        take, topics.status, settings, settings.protocol, f"posture-{topics.pi_id}", stop,
        most_s=LOOK_S, quiet_s=QUIET_S,
    )  # fmt: skip
    return bool(online)


def _clear(settings: Mqtt, topics: Topics) -> list[str]:
    """Return the topics that the broker has refused to clear."""
    protocol = "3.1.1" if settings.protocol == "auto" else settings.protocol
    client = mqtt.make_client(f"posture-{topics.pi_id}-clear-{os.getpid()}", protocol, settings, keep_session=False)
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
    for topic in topics.retained:
        waiting[client.publish(topic, b"", qos=1, retain=True).mid] = topic
    deadline = time.monotonic() + ANSWER_S
    while waiting and time.monotonic() < deadline:
        if client.loop(timeout=0.1) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectionError("closed the connection")
    mqtt.abandon(client)
    return [*refused, *waiting.values()]
