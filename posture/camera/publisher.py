"""The camera's side: frames go into the spool, over MQTT, and leave the spool when their receipt comes."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.reasoncodes import ReasonCode

from posture.camera.spool import Waiting
from posture.camera.suspects import MOST_ENDED, Suspects
from posture.errors import UserError
from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.system.backoff import Backoff
from posture.system.said_once import SaidOnce
from posture.wire import mqtt, receipts
from posture.wire.frame import Identity, stamp
from posture.wire.malformed import Client
from posture.wire.reconnecting import Reconnecting
from posture.wire.topics import Topics

log = logging.getLogger(__name__)

WINDOW = 50
"""Frames in flight without a receipt; the others wait in the spool, which bounds how many are resent."""
LAST_RESEND_S = 600.0
NEXT_ANALYZER_S = 20.0
"""Analyzers don't follow each other more quickly: strangers who say so are not to make us send again and again."""
NOBODY_SUBSCRIBES = 0x10
"""PUBACK reason code of MQTT 5: no matching subscribers."""
TOPIC_ROOM = 1000
"""Bytes of an MQTT packet besides the picture, at most."""
LAST_PICTURE_S = 5.0
"""How long a source may take to deliver its last picture once the capture ends."""


class Publisher:
    """One camera. It captures in a thread of its own, so that no picture is lost while the broker is unreachable.

    Args:
        settings: broker and farm prefix.
        pi_id: the stream's name.
        waiting: where frames wait.
        stop: the first request ends the capture, the second one the wait for receipts.
        receipts: frames wait for the analyzer's receipt, otherwise only for the broker's acknowledgement.
        receipt_timeout_s: a frame without a receipt is sent again after this time, which doubles until a
            receipt comes.
        fail_fast: give up when the broker can't be reached.
    """

    def __init__(
        self,
        settings: Mqtt,
        pi_id: str,
        waiting: Waiting,
        stop: Stop,
        *,
        receipts: bool,
        receipt_timeout_s: float,
        fail_fast: bool,
    ) -> None:
        self.boot_id = uuid.uuid4().hex[:12]
        self.captured = self.sent = self.resent = self.acknowledged = self.receipted = self.refused_receipts = 0
        self.source_error: UserError | None = None
        """Why the source failed, if it did."""
        self._settings, self._pi_id, self._waiting, self._stop = settings, pi_id, waiting, stop
        self._receipts, self._fail_fast = receipts, fail_fast
        self._broker = mqtt.parse_broker(settings.url)
        self._resend = Backoff(receipt_timeout_s, LAST_RESEND_S)
        self._connect_at, self._reconnecting = 0.0, Reconnecting()
        self._suspects = Suspects()
        self._deadline = math.inf
        self._topics = Topics(pi_id, settings.prefix)
        self._analyzer, self._no_analyzer_before = "", 0.0
        self._sent_before: dict[str, str] = {}
        """Frame id -> SHA-256 of what was sent, in hex."""
        self._hashed_receipts = False
        """The analyzer's receipts carry hashes; one without is not its own."""
        self._lock = threading.Lock()
        self._unsent = deque(waiting.ids())
        # state of the current connection
        self._client: Client | None = None
        self._answer = mqtt.ConnectAnswer()
        self._sent_at: dict[str, float] = {}
        self._unacknowledged: dict[int, str] = {}
        self._unheard: set[str] = set()
        self._said = SaidOnce(log)

    def run(
        self, frames: Iterator[bytes], *, fps: float, limit: int | None, drain_s: float, show: Callable[[], None]
    ) -> bool:
        """Publish frames until they end, ``limit`` is reached, or the stop; then wait for receipts.

        Returns:
            True if every frame has its receipt; the others stay in the spool.

        Raises:
            UserError: the broker refuses the credentials, or can't be reached and ``fail_fast`` is set.
        """
        ended = threading.Event()
        filming = threading.Thread(target=self._film, args=(frames, fps, limit, ended, drain_s), daemon=True)
        filming.start()
        try:
            while filming.is_alive() and not self._stop.requested:
                self._turn(0.5)
                show()
        finally:
            ended.set()
            filming.join(LAST_PICTURE_S)
        self._stop.requested = False
        self._deadline = min(self._deadline, time.monotonic() + drain_s)
        while len(self._waiting) and not self._given_up():
            self._turn(max(0.0, min(0.5, self._deadline - time.monotonic())))
            show()
        if self._client is not None:
            mqtt.abandon(self._client)
        return len(self._waiting) == 0

    def _given_up(self) -> bool:
        return self._stop.requested or time.monotonic() >= self._deadline

    # In the thread that captures.

    def _film(
        self, frames: Iterator[bytes], fps: float, limit: int | None, ended: threading.Event, drain_s: float
    ) -> None:
        due = time.monotonic()
        try:
            while (limit is None or self.captured < limit) and not ended.wait(max(0.0, due - time.monotonic())):
                jpeg = next(frames, None)
                if jpeg is None:
                    break
                self._capture(jpeg)
                # after a delay do not capture faster to catch up
                due = max(due + 1.0 / fps, time.monotonic() - 1.0 / fps)
        except UserError as error:
            log.error("%s", error)
            self.source_error = error
        except BaseException:
            self.source_error = UserError("the program's part that films has failed; see above")
            raise
        finally:
            self._deadline = time.monotonic() + drain_s
            self._stop.wake()

    def _capture(self, jpeg: bytes) -> None:
        now, seq = datetime.now(timezone.utc), self.captured
        identity = Identity(f"{self._pi_id}-{self.boot_id}-{seq}", now, seq, self.boot_id, "comment")
        self.captured += 1
        try:
            kept = self._waiting.add(identity.frame_id, stamp(jpeg, identity))
        except OSError as error:
            log.error("the spool can't take frame %s: %s; it is dropped", identity.frame_id, error.strerror)
            return
        if not kept:
            log.error("frame %s (%d bytes) is larger than --spool-bytes; it is dropped", seq, len(jpeg))
            return
        with self._lock:
            self._unsent.append(identity.frame_id)
        self._stop.wake()

    # In the thread that runs the network.

    def _turn(self, seconds: float) -> None:
        """Serve the network for at most ``seconds``."""
        self._waiting.drop_old()
        if self._client is None:
            until_retry = self._connect_at - time.monotonic()
            if until_retry > 0:
                self._stop.wait(min(seconds, until_retry))
                return
            self._connect()
        if self._client is not None:
            self._send(self._client)
        if self._client is not None and self._client.socket() is None:
            self._on_lost("closed")
        if self._client is not None:
            mqtt.turn(self._client, self._stop, timeout_s=seconds)

    def _on_lost(self, why: str) -> None:
        if self._client is None:
            return
        self._client = None
        for frame_id in self._suspects.connection_ended(
            set(self._unacknowledged.values()), steady=self._reconnecting.steady
        ):
            log.error("frame %s has ended the connection %d times; it is set aside", frame_id, MOST_ENDED)
            self._waiting.put_aside(frame_id)
        self._pause(f"connection lost: {why}")

    def _pause(self, why: str) -> None:
        pause_s = self._reconnecting.pause_s()
        log.warning("broker %s: %s; next try in %.1f s", self._broker, why, pause_s)
        self._connect_at = time.monotonic() + pause_s

    def _connect(self) -> None:
        client: list[Client] = []

        def attempt(protocol: str) -> mqtt.ConnectAnswer:
            client_id = f"camera-{self._topics.client_id_prefix}{self._pi_id}-{self.boot_id}"
            client[:] = [mqtt.make_client(client_id, protocol, self._settings, keep_session=False)]
            client[0].on_message = self._on_message
            client[0].on_publish = self._on_publish
            client[0].on_disconnect = lambda *args: self._on_lost(
                client[0].protocol_error or mqtt.reason_text(args[3], args[4])
            )
            client[0].on_subscribe = self._on_subscribe
            self._answer = mqtt.handshake(client[0], self._settings, session_expiry_s=0, give_up=self._given_up)
            return self._answer

        try:
            protocol = mqtt.first_accepted(self._settings.protocol, self._broker, attempt)
        except OSError as error:
            if self._given_up():
                return
            if self._fail_fast:
                raise UserError(f"broker {self._broker}: {mqtt.explain(error)}") from None
            self._pause(mqtt.explain(error))
            return
        self._reconnecting.connected()
        log.info("connected to %s with MQTT %s", self._broker, protocol)
        if self._receipts:
            client[0].subscribe([(topic, 1) for topic in self._receipt_topics])
        # frames and receipts of the old connection may be lost: send all waiting frames again
        with self._lock:
            waiting = self._waiting.ids()
            self._suspects.forget_all_but(waiting)
            self._unsent = deque(self._suspects.last(waiting))
            self._sent_before = {name: sent for name, sent in self._sent_before.items() if name in self._waiting}
        self._sent_at, self._unacknowledged, self._unheard = {}, {}, set()
        self._said.forget()
        self._client = client[0]

    def _send(self, client: Client) -> None:
        now = time.monotonic()
        # frames that the spool has dropped must not occupy the window
        self._sent_at = {name: at for name, at in self._sent_at.items() if name in self._waiting}
        overdue = [name for name, at in self._sent_at.items() if now - at > self._resend.current_s]
        if not self._unheard.issuperset(overdue):
            # they may be queued in the broker: resending at the same rate would fill it
            self._resend.next_s()
        self._send_again(overdue)
        window = 1 if self._suspects.cautious else self._answer.receive_maximum
        room = min(WINDOW - len(self._sent_at), window - len(self._unacknowledged))
        while room > 0 and self._client is client:
            with self._lock:
                if not self._unsent:
                    return
                frame_id = self._unsent.popleft()
            if frame_id not in self._sent_at:
                room -= self._publish(client, frame_id)

    def _send_again(self, names: list[str]) -> None:
        for name in names:
            del self._sent_at[name]
        self._unheard.difference_update(names)
        with self._lock:
            self._unsent.extendleft(reversed(names))

    def _publish(self, client: Client, frame_id: str) -> bool:
        jpeg = self._waiting.read(frame_id)
        if jpeg is None:
            return False
        most = self._answer.max_packet_bytes
        if most is not None and len(jpeg) + TOPIC_ROOM > most:
            log.error("frame %s (%d bytes) is larger than the broker takes; it is dropped", frame_id, len(jpeg))
            self._waiting.drop(frame_id)
            return False
        self._sent_at[frame_id] = time.monotonic()
        self._unacknowledged[client.publish(self._topics.images, jpeg, qos=1).mid] = frame_id
        self.sent += 1
        self.resent += frame_id in self._sent_before
        self._sent_before[frame_id] = hashlib.sha256(jpeg).hexdigest()
        return True

    def _on_publish(
        self, _client: paho.Client, _data: object, packet_id: int, reason: ReasonCode, _properties: object
    ) -> None:
        frame_id = self._unacknowledged.pop(packet_id, None)
        if frame_id is None:
            return
        self._suspects.answered(frame_id)
        if reason.is_failure:
            self._said.warning(f"broker {self._broker} refuses frames for {self._topics.images}: {reason}")
            return
        self.acknowledged += 1
        if not self._receipts:
            self._let_go(frame_id)
        elif reason.value == NOBODY_SUBSCRIBES:
            self._unheard.add(frame_id)
            self._said.warning(f"nobody subscribes to {self._topics.images}: frames wait in the spool")

    @property
    def _receipt_topics(self) -> list[str]:
        return [self._topics.committed, self._topics.status]

    def _on_subscribe(
        self, _client: paho.Client, _data: object, _id: int, reasons: Sequence[ReasonCode], _properties: object
    ) -> None:
        for line in mqtt.refused_subscriptions(self._receipt_topics, reasons):
            self._said.warning(
                f"broker {self._broker} {line}: frames wait in the spool for receipts that won't come"
            )

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if not message.payload:  # a retained status that was cleared
            return
        try:
            said = json.loads(message.payload)
            if message.topic == self._topics.committed:
                for frame_id, digest in receipts.read(said):
                    self._on_receipt(frame_id, digest)
            elif message.topic == self._topics.status:
                self._on_status(said)
        except (ValueError, KeyError, TypeError, RecursionError):
            self._said.warning(f"a message on {message.topic} can't be read; it and others like it are ignored")

    def _on_receipt(self, frame_id: str, digest: str | None) -> None:
        ours = self._sent_before.get(frame_id)
        if ours is None:
            return
        if digest is None and self._hashed_receipts:
            self._refuse_receipt(frame_id, "without the hash that the analyzer's receipts carry")
            return
        if digest is not None and digest != ours:
            self._refuse_receipt(frame_id, "for another picture than the one that was sent under this id")
            return
        self._hashed_receipts = digest is not None
        if self._let_go(frame_id):
            self.receipted += 1
            self._resend.reset()

    def _refuse_receipt(self, frame_id: str, why: str) -> None:
        self.refused_receipts += 1
        self._said.warning(f"a receipt on {self._topics.committed} is {why}; such frames stay in the spool")
        log.debug("refused: receipt for %s, %s", frame_id, why)

    def _let_go(self, frame_id: str) -> bool:
        self._sent_at.pop(frame_id, None)
        self._sent_before.pop(frame_id, None)
        self._unheard.discard(frame_id)
        return self._waiting.remove(frame_id)

    def _on_status(self, status: Any) -> None:
        """When an analyzer comes online, send at once the frames that were published without a subscriber."""
        online = status["state"] == "online"
        self._hashed_receipts = receipts.announced_in(status)
        if not online or status["instance"] == self._analyzer or time.monotonic() < self._no_analyzer_before:
            return
        self._no_analyzer_before = time.monotonic() + NEXT_ANALYZER_S
        self._analyzer = status["instance"]
        self._resend.reset()
        self._send_again([name for name in self._sent_at if name in self._unheard])
