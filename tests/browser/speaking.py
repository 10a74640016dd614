"""Streams that say on their topics what analyzers say, as a test wants it."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from posture.wire.topics import Topics


def moment(ahead_s: float = 0) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=ahead_s)).isoformat(timespec="milliseconds")


class Farm:
    """Who publishes for the analyzers of any streams.

    Args:
        port: of the broker, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._retained: set[str] = set()
        self._received: dict[str, int] = {}

    def __enter__(self) -> Farm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(RuntimeError, ValueError):  # a test has stopped the broker
            for topic in self._retained:
                self.publish(topic, b"", retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, message: Any, *, retain: bool = False) -> None:
        """Publish a message, and return when the broker has it."""
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(30)
        if retain:
            self._retained.add(topic)

    def listen(self, topic: str) -> queue.SimpleQueue[bytes]:
        """Return what comes on a topic from now on."""
        came: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        subscribed = threading.Event()
        self._client.on_message = lambda _c, _d, message: came.put(message.payload)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.subscribe(topic, 1)
        assert subscribed.wait(30)
        return came

    def stream(self, pi_id: str, state: str = "Good", *, camera: str = "live", **posture: Any) -> None:
        """Let a stream be there, with an analyzer that is online."""
        topics = Topics(pi_id)
        status = {"state": "online", "instance": "test", "started": moment(), "host": "edge-1", "delegate": "cpu"}
        self.publish(topics.status, status, retain=True)
        self.publish(topics.camera, {"state": camera, "since": moment()}, retain=True)
        self.posture(pi_id, state, **posture)

    def posture(self, pi_id: str, state: str, **fields: Any) -> None:
        """Let a stream's state be this, as of a frame of now."""
        said = {
            "state": state, "since": moment(), "neck": 12.0, "body": 4.0, "head_drop": None, "sitting_drop": None,
            "away": False, "reason": "neck" if state == "Bad" else "", "advice": "", "rule_set": "upright",
            "updated": moment(), **fields,
        }  # fmt: skip
        self.publish(Topics(pi_id).state, said, retain=True)

    def account(self, pi_id: str, **fields: Any) -> None:
        """Let a stream have got another frame."""
        self._received[pi_id] = self._received.get(pi_id, 0) + 1
        counts = dict.fromkeys(("malformed", "duplicate", "expired", "missing", "bad", "unknown"), 0)
        said = {
            **counts, "received": self._received[pi_id], "rows": 1, "analyzed": 1, "rejected": {}, "good": 1,
            "status": "Good", "neck": 12.0, "body": 4.0, "fps": 2.0, **fields,
        }  # fmt: skip
        self.publish(Topics(pi_id).account, said, retain=True)
