"""The camera's side: frames into the spool, over MQTT, and out of the spool with their receipts."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode

from posture import mqtt
from posture.config import Mqtt
from posture.errors import UserError
from posture.frame import Identity, stamp
from posture.runtime import Stop
from posture.spool import Spool

log = logging.getLogger("camera")

WINDOW = 50
"""Frames on their way without a receipt; more wait in the spool, so that resending stays bounded."""
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 10.0
LAST_RESEND_S = 600.0


class Publisher:
    """One camera.

    Args:
        settings: broker and farm prefix.
        pi_id: the stream's name.
        spool: where frames wait for their receipts.
        stop: ends the capture.
        receipt_timeout_s: a frame without receipt is sent again after this long, and then ever more seldom.
        fail_fast: give up when the broker can't be reached.
    """

    def __init__(
        self, settings: Mqtt, pi_id: str, spool: Spool, stop: Stop, *, receipt_timeout_s: float, fail_fast: bool
    ) -> None:
        self.boot_id = uuid.uuid4().hex[:12]
        self.captured = self.sent = self.resent = self.receipted = 0
        self._settings, self._pi_id, self._spool, self._stop = settings, pi_id, spool, stop
        self._broker = mqtt.parse_broker(settings.url)
        self._protocol = settings.protocol
        self._first_resend_s = self._resend_s = receipt_timeout_s
        self._fail_fast = fail_fast
        self._client: paho.Client | None = None
        self._connect_at, self._retry_s = 0.0, FIRST_RETRY_S
        self._unsent = spool.ids()
        self._sent_at: dict[str, float] = {}
        self._before: set[str] = set()
        self._topic_prefix = f"{settings.prefix}/" if settings.prefix else ""

    def run(
        self, frames: Iterator[bytes], *, fps: float, limit: int | None, drain_s: float, show: Callable[[], None]
    ) -> bool:
        """Publish frames until they end, ``limit`` is reached, or the stop; then wait for receipts.

        Returns:
            True if every frame has its receipt; the others stay in the spool.

        Raises:
            UserError: the broker refuses the credentials, or can't be reached and ``fail_fast`` is set.
        """
        due = time.monotonic()
        while not self._stop.requested and (limit is None or self.captured < limit):
            self._turn(max(0.0, due - time.monotonic()))
            show()
            if time.monotonic() < due:
                continue
            jpeg = next(frames, None)
            if jpeg is None:
                break
            self._capture(jpeg)
            # a source that is late is not hurried afterwards
            due = max(due + 1.0 / fps, time.monotonic() - 1.0 / fps)
        deadline = time.monotonic() + drain_s
        while len(self._spool) and time.monotonic() < deadline:
            self._turn(0.1)
            show()
        if self._client is not None:
            mqtt.abandon(self._client)
        return len(self._spool) == 0

    def _capture(self, jpeg: bytes) -> None:
        identity = Identity(
            f"{self._pi_id}-{self.boot_id}-{self.captured}",
            datetime.now(timezone.utc),
            self.captured,
            self.boot_id,
            "comment",
        )
        self.captured += 1
        try:
            self._spool.add(identity.frame_id, stamp(jpeg, identity))
        except OSError as error:
            self._spool.dropped += 1
            log.error("the spool can't take frame %s: %s; it is dropped", identity.frame_id, error.strerror)
            return
        self._unsent.append(identity.frame_id)

    def _turn(self, seconds: float) -> None:
        """Serve the network for at most so long."""
        seconds = min(seconds, 0.1)
        if self._client is None:
            if time.monotonic() < self._connect_at:
                self._stop.wait(seconds)
                return
            self._connect()
            if self._client is None:
                return
        self._send(self._client)
        if self._client.loop(timeout=seconds) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            log.warning("connection to %s lost", self._broker)
            self._client = None

    def _connect(self) -> None:
        client: list[paho.Client] = []

        def attempt(protocol: str) -> mqtt.Answer:
            client_id = f"camera-{self._topic_prefix.replace('/', '-')}{self._pi_id}-{self.boot_id}"
            client[:] = [mqtt.make_client(client_id, protocol, self._settings, keep_session=False)]
            client[0].on_message = lambda _c, _u, message: self._on_receipts(bytes(message.payload))
            return mqtt.handshake(client[0], self._settings, session_expiry_s=0, give_up=lambda: False)

        try:
            protocol = mqtt.first_accepted(self._protocol, self._broker, attempt)
        except OSError as error:
            if self._fail_fast:
                raise UserError(f"broker {self._broker}: {mqtt.explain(error)}") from None
            log.warning("broker %s: %s; next try in %.1f s", self._broker, mqtt.explain(error), self._retry_s)
            self._connect_at = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
            return
        self._retry_s = FIRST_RETRY_S
        log.info("connected to %s with MQTT %s", self._broker, protocol)
        client[0].subscribe(f"{self._topic_prefix}committed/{self._pi_id}", qos=1)
        # the old connection's frames may be lost, and so may their receipts: all of the spool goes again
        self._unsent, self._sent_at = self._spool.ids(), {}
        self._client = client[0]

    def _send(self, client: paho.Client) -> None:
        now = time.monotonic()
        overdue = [name for name, at in self._sent_at.items() if now - at > self._resend_s]
        if overdue:
            self._resend_s = min(2 * self._resend_s, LAST_RESEND_S)
            for name in overdue:
                del self._sent_at[name]
            self._unsent = overdue + self._unsent
        while self._unsent and len(self._sent_at) < WINDOW:
            frame_id = self._unsent.pop(0)
            jpeg = self._spool.read(frame_id)
            if jpeg is None:
                continue
            client.publish(f"{self._topic_prefix}images/{self._pi_id}", jpeg, qos=1)
            self._sent_at[frame_id] = now
            self.sent += 1
            self.resent += frame_id in self._before
            self._before.add(frame_id)

    def _on_receipts(self, payload: bytes) -> None:
        try:
            ids = [str(name) for name in json.loads(payload)["ids"]]
        except (ValueError, KeyError, TypeError):
            log.warning("a receipt that can't be read was passed over")
            return
        for frame_id in ids:
            self._sent_at.pop(frame_id, None)
            self._before.discard(frame_id)
            if self._spool.remove(frame_id):
                self.receipted += 1
                self._resend_s = self._first_resend_s
