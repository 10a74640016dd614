"""Somebody who has a camera's password, and tries what it opens."""

from __future__ import annotations

import ssl
import threading
import urllib.parse

from paho.mqtt.client import Client as MqttClient
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode
from stack import CameraLine

WAIT_S = 30.0
NOWHERE = "nowhere"


class Thief:
    """A connection with a camera's user.

    Args:
        camera: whose line and folder were stolen.
    """

    def __init__(self, camera: CameraLine) -> None:
        self._answers: list[ReasonCode] = []
        self._answered = threading.Event()
        self._client = MqttClient(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.username_pw_set(camera.read("POSTURE_MQTT_USERNAME"), camera.read("POSTURE_MQTT_PASSWORD"))
        self._client.tls_set_context(ssl.create_default_context(cafile=str(camera.ca_file)))
        self._heard: list[str] = []
        self._client.on_message = lambda _c, _d, message: self._heard.append(message.topic)
        self._client.on_connect = lambda _c, _d, _f, reason, _p: self._answer([reason])
        self._client.on_publish = lambda _c, _d, _m, reason, _p: self._answer([reason])
        self._client.on_subscribe = lambda _c, _d, _m, reasons, _p: self._answer(reasons)
        url = urllib.parse.urlsplit(camera.broker)
        assert url.hostname is not None
        assert url.port is not None
        self._client.connect(url.hostname, url.port)
        self._client.loop_start()
        assert not self._await()[0].is_failure

    def may_publish(self, topic: str) -> bool:
        self._client.publish(topic, b"no picture", qos=1)
        return not self._await()[0].is_failure

    def hears(self, topic: str) -> set[str]:
        """The topics of what comes of a subscription: what was retained, and what is published meanwhile."""
        self._client.subscribe(topic, 1)
        self._await()
        # what was retained is sent before the next answer
        self.may_publish(NOWHERE)
        return set(self._heard)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _answer(self, reasons: list[ReasonCode]) -> None:
        self._answers = reasons
        self._answered.set()

    def _await(self) -> list[ReasonCode]:
        assert self._answered.wait(WAIT_S)
        self._answered.clear()
        return self._answers
