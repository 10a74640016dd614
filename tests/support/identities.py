"""A Mosquitto that knows the farm's identities, and clients of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from servers import Mosquitto

from posture.wire.identities import PASSWORD, USERNAME, hashed

TAP, TAP_PASSWORD = "tap", "sees-everything"


def files_with_tap(identities: Path, target: Path) -> None:
    """What the broker reads, with one more user, who may do all."""
    passwords, acl = ((identities / "mosquitto" / name).read_text() for name in ("passwords", "acl"))
    target.mkdir()
    (target / "passwords").write_text(f"{passwords}{TAP}:{hashed(TAP_PASSWORD, b'twelve bytes')}\n")
    (target / "acl").write_text(f"{acl}\nuser {TAP}\ntopic readwrite #\n")


def guarded_mosquitto(folder: Path, identities: Path) -> Mosquitto:
    """A broker with the users and the rules of deploy/mosquitto.conf, and the tap."""
    files_with_tap(identities, folder / "broker")
    return Mosquitto(
        folder / "broker",
        allow_anonymous="false",
        password_file=str(folder / "broker" / "passwords"),
        acl_file=str(folder / "broker" / "acl"),
        use_username_as_clientid="true",
    )


def credentials(identities: Path, folder: str) -> tuple[str, str]:
    """Name and password of one identity."""
    return (identities / folder / USERNAME).read_text(), (identities / folder / PASSWORD).read_text()


def retained(port: int, messages: Mapping[str, bytes]) -> None:
    """Leave retained messages, topic -> payload, on a broker without users."""
    client = Client(port)
    for topic, payload in messages.items():
        client.publish(topic, payload, retain=True)
    client.close()


class Client:
    """A client of MQTT 3.1.1 that remembers what it got; `refused` says why it is not connected."""

    def __init__(
        self, port: int, user: str = "", password: str = "", client_id: str = "", clean: bool = True
    ) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.refused = ""
        self.lost = threading.Event()
        self._changed = threading.Condition()
        self._answered, self._subscribed = threading.Event(), threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id or f"test-{id(self)}", protocol=MQTTProtocolVersion.MQTTv311,
            clean_session=clean, reconnect_on_failure=False,
        )  # fmt: skip
        if user:
            self._client.username_pw_set(user, password)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_disconnect = lambda *_: self.lost.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._answered.wait(20)

    def _on_connect(self, _client: paho.Client, _data: object, _flags: object, reason: object, _p: object) -> None:
        self.refused = str(reason) if getattr(reason, "is_failure", False) else ""
        self._answered.set()

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.got.append((message.topic, message.payload))
            self._changed.notify_all()

    def subscribe(self, *topics: str) -> None:
        self._subscribed.clear()
        self._client.subscribe([(topic, 1) for topic in topics])
        assert self._subscribed.wait(20)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return when the broker has it, whatever it makes of it."""
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(20)

    def retain(self, topic: str, payload: bytes) -> None:
        """Likewise, for the broker to keep."""
        self._client.publish(topic, payload, qos=1, retain=True).wait_for_publish(20)

    def wait_for(self, topic: str, payload: bytes) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: (topic, payload) in self.got, 60), (topic, self.got)

    def wait_for_one(self, topic: str) -> bytes:
        """Wait for any message on a topic, and return its payload."""

        def last() -> bytes | None:
            return next((payload for on, payload in reversed(self.got) if on == topic), None)

        with self._changed:
            assert self._changed.wait_for(last, 60), self.got
            found = last()
        assert found is not None
        return found

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
