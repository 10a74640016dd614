"""Somebody who has a camera's password at the broker, and tries what it opens."""

from __future__ import annotations

import queue
import ssl
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client as MqttClient
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from stack import CameraLine

WAIT_S = 120.0
"""A camera whose connection was lost again and again comes back after 24 s at most."""
ATTEMPTS = 20
"""Who has the user's name takes the connection away again and again: the camera, where it is a camera's."""
NOWHERE = "nowhere"


class LostError(Exception):
    """Somebody else has connected as this user."""


class Connection:
    """One connection to the broker; what the broker answers is waited for.

    Args:
        camera: whose line says where the broker is.
        folder: of the user; None: the camera's own.
        will: what the broker is to publish on when the connection is lost.
        payload: of that.
    """

    def __init__(
        self, camera: CameraLine, folder: Path | None = None, *, will: str = "", payload: bytes = b""
    ) -> None:
        user, password = (
            ((folder or camera.folder) / f"POSTURE_MQTT_{name}").read_text().strip()
            for name in ("USERNAME", "PASSWORD")
        )
        self._answers: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.heard: list[tuple[str, bytes]] = []
        self._client = MqttClient(
            CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False
        )
        self._client.username_pw_set(user, password)
        self._client.tls_set_context(ssl.create_default_context(cafile=str(camera.ca_file)))
        if will:
            self._client.will_set(will, payload, qos=1, retain=True)
        self._client.on_message = lambda _c, _d, message: self.heard.append((message.topic, message.payload))
        self._client.on_connect = lambda _c, _d, _f, reason, _p: self._answers.put(("connect", [reason]))
        self._client.on_publish = lambda _c, _d, _m, reason, _p: self._answers.put(("publish", [reason]))
        self._client.on_subscribe = lambda _c, _d, _m, reasons, _p: self._answers.put(("subscribe", reasons))
        self._client.on_disconnect = lambda *_: self._answers.put(("lost", []))
        url = urllib.parse.urlsplit(camera.broker)
        assert url.hostname is not None
        assert url.port is not None
        self._client.connect(url.hostname, url.port)
        self._client.loop_start()
        self.accepted = self._is_answered("connect")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Whether the broker takes it."""
        self._client.publish(topic, payload, qos=1, retain=retain)
        return self._is_answered("publish")

    def subscribe(self, topic: str) -> bool:
        self._client.subscribe(topic, 1)
        return self._is_answered("subscribe")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def until_lost(self) -> None:
        """Wait until somebody else connects as this user, so that the will is done."""
        while self._answers.get(timeout=WAIT_S)[0] != "lost":
            pass
        self._client.loop_stop()

    def _is_answered(self, kind: str) -> bool:
        while True:
            answered, reasons = self._answers.get(timeout=WAIT_S)
            if answered == kind:
                return not any(reason.is_failure for reason in reasons)
            if answered == "lost":
                raise LostError


class Thief:
    """Who has a camera's password; each attempt is a connection of its own, as the real user takes it away.

    Args:
        camera: whose line and folder were stolen.
        payload: what is published, by which it is known again.
    """

    def __init__(self, camera: CameraLine, payload: bytes) -> None:
        self._camera = camera
        self._payload = payload

    def may_publish(self, topic: str, *, retain: bool = False) -> bool:
        """Whether the broker takes it."""
        return self._try(lambda connection: connection.publish(topic, self._payload, retain=retain))

    def may_leave(self, topic: str) -> bool:
        """Whether the broker accepts a connection with a will for this topic, which is then left to the camera."""
        connection = Connection(self._camera, will=topic, payload=self._payload)
        connection.until_lost()
        return connection.accepted

    def hears(self, topic: str) -> set[str]:
        """The topics of what comes of a subscription: what was retained, and what is published meanwhile."""

        def listen(connection: Connection) -> set[str]:
            connection.subscribe(topic)
            # what was retained is sent before the next answer
            connection.publish(NOWHERE, self._payload)
            return {topic for topic, _ in connection.heard}

        return self._try(listen)

    def _try(self, what: Callable[[Connection], Any]) -> Any:
        for _ in range(ATTEMPTS):
            try:
                connection = Connection(self._camera)
                assert connection.accepted
                try:
                    return what(connection)
                finally:
                    connection.close()
            except LostError:
                continue
        raise AssertionError(f"the real user has taken each of {ATTEMPTS} connections away")


@contextmanager
def listening(camera: CameraLine, folder: Path) -> Iterator[list[tuple[str, bytes]]]:
    """What a user hears who subscribes to everything.

    Args:
        camera: whose line says where the broker is.
        folder: of the user.
    """
    connection = Connection(camera, folder)
    connection.subscribe("#")
    try:
        yield connection.heard
    finally:
        connection.close()
