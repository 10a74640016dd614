"""MQTT in, acknowledgement out: one stream's frames, none lost.

The loop here owns the network: it reads only while there is room for another frame (the broker's in-flight
window does not bound our memory while a backlog is delivered), acknowledges a frame late (after its row and
picture are on disk), in order of arrival, and only on the connection that delivered it: a late
acknowledgement of an old packet id could discard a new, unprocessed frame.
"""

from __future__ import annotations

import json
import logging
import math
import select
import sys
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from enum import Enum
from functools import partial
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from posture.analyzer.delivery import Delivery, Receiver
from posture.analyzer.takeover import Owner, is_superseded
from posture.errors import UserError
from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.system.said_once import SaidOnce
from posture.system.untrusted import shown
from posture.wire import mqtt, receipts, retained
from posture.wire.malformed import Client, Malformed
from posture.wire.reconnecting import Reconnecting
from posture.wire.topics import Topics

log = logging.getLogger(__name__)

HOLD_S = 5.0
"""A store that is away for longer than this makes us disconnect, so that the broker needn't time us out."""
DRAIN_S = 15.0
"""A stop waits at most this long for the frames in hand; half a pod's default grace period."""
GOODBYE_S = 3.0
"""How long the broker may take to take our last words."""
MOST_ENDED = 3
"""Connections that may end over one message of ours, until it is dropped."""
MESSAGE_HEAD_BYTES = 300
"""Of a packet, beside its payload, at most."""
RECALL_S = 3.0
"""What analyzers before us have left at the broker comes within so much time, or frames are judged without."""
TURN_S = 0.5
"""One turn of the network loop waits for so long at most."""
RECEIPTS_KEPT = 1000
"""Messages not yet taken by the broker; beyond it the oldest go: a lost receipt costs a re-sent frame."""


class Ending(Enum):
    """Why a stream's loop ended."""

    STOPPED = "stopped"
    SUPERSEDED = "superseded"
    """A newer analyzer of the same stream has taken over."""


@dataclass(frozen=True)
class Message:
    """Something that we publish, with QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False
    ended: int = 0
    """Connections that ended soon, while the broker had not taken it."""


@dataclass
class _Connection:
    client: Client
    number: int
    closed: str = ""
    refused: str = ""
    """Why the broker gives us no frames over it."""
    discarding: bool = False
    """What comes now is left to the next connection."""
    in_flight: dict[int, Message] = field(default_factory=dict)
    max_packet_bytes: int | None = None
    shown: bool = False
    """A picture has gone out, and the broker has acknowledged nothing since."""
    recalling: bool = False
    subscribed: dict[int, str] = field(default_factory=dict)
    """Packet id -> topic of subscriptions that are not yet granted."""


class Stream:
    """One stream's connection to the broker, for as long as the analyzer lives.

    Args:
        settings: broker and session.
        topics: the stream's name and topics.
        stop: asks the loop to end.
        max_frames, max_bytes: bounds of what is delivered and not yet settled.
        silent_after_s: a camera without a frame for this long is called silent.
        started: when this analyzer started, UTC: of two, the newer one has the stream.
        about: what the status topic says of this instance beside its id and start.
        fail_fast: give up when the broker can't be reached.
    """

    def __init__(
        self,
        settings: Mqtt,
        topics: Topics,
        stop: Stop,
        *,
        max_frames: int,
        max_bytes: int,
        silent_after_s: float,
        started: datetime,
        about: Mapping[str, str],
        fail_fast: bool = False,
    ) -> None:
        self.pi_id = topics.pi_id
        self.instance = uuid.uuid4().hex
        self.started = started.isoformat(timespec="microseconds")
        self.camera_frozen = False
        self.session_present = False
        self.connects = 0
        self._settings = settings
        self._topics = topics
        self._broker = mqtt.parse_broker(settings.url)
        self._protocol = settings.protocol
        self._stop = stop
        self._max_frames, self._max_bytes = max_frames, max_bytes
        self._silent_after_s = silent_after_s
        self._about = dict(about)
        self._fail_fast = fail_fast
        self._lock = threading.Lock()
        self._outstanding_frames = self._outstanding_bytes = 0
        self._acknowledge: deque[Delivery] = deque()
        self._outbox: deque[Message] = deque(maxlen=RECEIPTS_KEPT)
        self._held_since: float | None = None
        self._last_frame = time.monotonic()
        self._frame_seen = False
        self._camera_said = ""
        self.passed_over: Counter[str] = Counter()
        self._retains = True
        self._told: dict[str, Message] = {}
        """The last retained message for each topic: a broker that has lost its memory is told again."""
        self._preview: Message | None = None
        self._previews_ended = 0
        self._recalled = False
        self._waiting: list[Callable[[], None]] = []
        """Hands on the frames and commands that came before what is to be recalled."""
        self._last_frame_at = datetime.now(timezone.utc)
        self._silence_said = False
        self._said = SaidOnce(log)
        self._reconnecting = Reconnecting()

    # Called by the pipeline, from any thread.

    def settled(self, delivery: Delivery) -> None:
        """Say that a frame's row and picture are on disk. Frames are settled in order of arrival."""
        with self._lock:
            self._outstanding_frames -= 1
            self._outstanding_bytes -= len(delivery.payload)
            self._acknowledge.append(delivery)

    def publish(self, topic: str, payload: Mapping[str, Any] | None, *, retain: bool = False) -> None:
        """Send JSON to a topic now, or with the next connection; None clears what the broker retains there."""
        data = b"" if payload is None else json.dumps(payload, separators=(",", ":")).encode()
        message = Message(topic, data, retain)
        with self._lock:
            self._outbox.append(message)
            if retain:
                self._told[topic] = message
        self._stop.wake()

    def show(self, topic: str, jpeg: bytes) -> None:
        """Send a picture when the connection has nothing else to do; a later one takes its place until then."""
        with self._lock:
            self._preview = Message(topic, jpeg)

    def hold(self, held: bool) -> None:
        """Say that the store is away (True) or back (False)."""
        with self._lock:
            if held != (self._held_since is not None):
                self._held_since = time.monotonic() if held else None
        self._stop.wake()

    @property
    def outstanding(self) -> int:
        """Frames delivered and not yet settled."""
        with self._lock:
            return self._outstanding_frames

    def retained(self, topic: str) -> bytes:
        """Ask the broker what it retains at a topic of suspects: over a connection of its own, without the loop.

        Raises:
            OSError: the broker can't be reached, does not take us, or closed the connection; or a stop came first.
            UserError: a TLS file can't be read.
        """
        settings = self._settings_as(self._topics.suspects_user)
        return retained.read(topic, settings, self._protocol, self.client_id, self._stop)

    def retain(self, topic: str, payload: bytes) -> None:
        """Return once the broker retains this at a topic of suspects; likewise.

        Raises:
            OSError: it can't be reached, or does not take it.
            UserError: a TLS file can't be read.
        """
        settings = self._settings_as(self._topics.suspects_user)
        if retained.write({topic: payload}, settings, self._protocol, self.client_id):
            raise ConnectionError("the broker refuses messages for it")

    # The loop.

    def run(self, receiver: Receiver) -> Ending:
        """Serve until the stop is asked for, or a newer instance takes over.

        Args:
            receiver: takes what comes, in this thread.

        Raises:
            UserError: the broker refuses our credentials, or can't be reached and ``fail_fast`` is set.
        """
        while not self._stop.requested:
            receiver.check()
            if self._held_since is not None:
                self._stop.wait(1.0)
                continue
            try:
                if self.connects and self._is_superseded():
                    log.info("a newer analyzer has stream %s; this one ends", self.pi_id)
                    self._drain(None, receiver)
                    return Ending.SUPERSEDED
                connection = self._connect(receiver)
            except OSError as error:
                if self._fail_fast:
                    raise UserError(f"broker {self._broker}: {mqtt.explain(error)}") from None
                self._pause(mqtt.explain(error))
                continue
            self._reconnecting.connected()
            self._serve(connection, receiver)
            if self._stop.requested and not connection.closed:
                self._drain(connection, receiver)
                self._say_offline(connection, "stopped")
                return Ending.STOPPED
            if self._held_since is None:
                self._pause(connection.refused or f"connection lost: {connection.closed}")
        self._drain(None, receiver)
        return Ending.STOPPED

    def _pause(self, why: str) -> None:
        """Say why there is no connection, and wait before the next one."""
        pause_s = self._reconnecting.pause_s()
        log.warning("broker %s: %s; next try in %.1f s", self._broker, why, pause_s)
        self._stop.wait(pause_s)

    def _serve(self, connection: _Connection, receiver: Receiver) -> None:
        """Read, acknowledge and publish until the connection ends, the stop comes, or the store stays away."""
        listened_s = 0.0
        while not connection.closed and not self._stop.requested:
            receiver.check()
            held_since = self._held_since
            if held_since is not None and time.monotonic() - held_since > HOLD_S:
                log.warning("the store stays away: disconnecting; frames wait in the broker")
                self._say_offline(connection, "waiting for the store")
                return
            if connection.refused:
                self._say_offline(connection, "refused")
                if self._fail_fast:
                    raise UserError(f"broker {self._broker}: {connection.refused}")
                return
            if not self._recalled and (listened_s > RECALL_S or self._waits_too_much()):
                log.warning("the broker has not said what it retains of this stream: settings decide until it does")
                self._hand_on()
            self._say_camera(receiver)
            read = self._has_room() or not self._recalled
            began = time.monotonic()
            self._pump(connection, read=read, timeout_s=min(TURN_S, self._silent_in_s()))
            # while we stand still on a busy board, what the broker says waits in the socket
            listened_s += min(time.monotonic() - began, TURN_S)

    def _pump(self, connection: _Connection, *, read: bool, timeout_s: float) -> bool:
        """One turn of the network loop; return whether there was something to read."""
        self._flush(connection)
        if connection.client.socket() is None:
            connection.closed = connection.closed or "closed"
            return False
        return mqtt.turn(connection.client, self._stop, read=read, timeout_s=timeout_s)

    def _flush(self, connection: _Connection) -> None:
        with self._lock:
            acknowledge, self._acknowledge = self._acknowledge, deque()
            messages = list(self._outbox)
            self._outbox.clear()
        # receipts first: a frame that is acknowledged never comes again, so its receipt must be out before
        for message in messages:
            retain = message.retain and self._retains
            sent = connection.client.publish(message.topic, message.payload, qos=1, retain=retain)
            connection.in_flight[sent.mid] = message
        for delivery in acknowledge:
            if delivery.packet_id and delivery.connection == connection.number:
                connection.client.ack(delivery.packet_id, 1)
        self._show_preview(connection)

    def _show_preview(self, connection: _Connection) -> None:
        """Send the waiting picture if all that was sent before has been taken: a slow connection gets none."""
        if connection.in_flight or connection.shown or connection.discarding or connection.client.want_write():
            return
        with self._lock:
            preview, self._preview = self._preview, None
        if preview is None or self._previews_ended >= MOST_ENDED:
            return
        if len(preview.payload) + MESSAGE_HEAD_BYTES > (connection.max_packet_bytes or sys.maxsize):
            self._said.warning(
                f"broker {self._broker} takes no message of {len(preview.payload)} bytes: no pictures"
            )
            return
        connection.client.publish(preview.topic, preview.payload, qos=0)
        connection.shown = True

    def _has_room(self) -> bool:
        with self._lock:
            return self._outstanding_frames < self._max_frames and self._outstanding_bytes < self._max_bytes

    def _drain(self, connection: _Connection | None, receiver: Receiver) -> None:
        deadline = time.monotonic() + DRAIN_S
        while not receiver.drain() and time.monotonic() < deadline:
            receiver.check()
            if connection is None or connection.closed:
                self._stop.wait(0.1)
            else:
                self._pump(connection, read=False, timeout_s=0.1)
        left = self.outstanding
        if left:
            log.info("%d frames in hand are left to the broker, unacknowledged", left)

    def _say_offline(self, connection: _Connection, why: str) -> None:
        """Say goodbye and disconnect, once the broker has taken all that we said.

        What it sends meanwhile is thrown away, unacknowledged: to close a socket with unread data in it would
        reset the connection, and the broker might never read our last words.
        """
        connection.discarding = True
        self.publish(self._topics.status, self._status("offline", why), retain=True)
        deadline = time.monotonic() + GOODBYE_S
        while not connection.closed and time.monotonic() < deadline:
            quiet = not self._pump(connection, read=True, timeout_s=0.05)
            if quiet and not connection.in_flight:
                break
        connection.client.disconnect()
        while (sock := connection.client.socket()) is not None and time.monotonic() < deadline:
            if not connection.client.want_write():
                break
            if select.select([], [sock], [], 0.2)[1]:
                connection.client.loop_write()
        connection.closed = connection.closed or why

    # Connecting.

    def _connect(self, receiver: Receiver) -> _Connection:
        """Return an accepted and subscribed connection.

        Raises:
            OSError: the broker can't be reached or doesn't take us now.
            UserError: it refuses our credentials.
        """
        connection: list[_Connection] = []

        def attempt(protocol: str) -> mqtt.ConnectAnswer:
            connection[:] = [self._prepare(protocol, receiver)]
            answer = mqtt.handshake(
                connection[0].client,
                self._settings,
                session_expiry_s=self._settings.session_expiry_s,
                give_up=lambda: self._stop.requested,
            )
            self.session_present = answer.session_present
            if self._retains and not answer.retains:
                self._said.warning(
                    f"broker {self._broker} retains no messages: who subscribes later learns no state"
                )
            self._retains = answer.retains
            connection[0].max_packet_bytes = answer.max_packet_bytes
            return answer

        self._protocol = mqtt.first_accepted(self._protocol, self._broker, attempt)
        self.connects += 1
        log.info(
            "connected to %s with MQTT %s as %s, session %s",
            self._broker, self._protocol, self.client_id, "resumed" if self.session_present else "new",
        )  # fmt: skip
        if not self.session_present:
            with self._lock:
                told = [message for topic, message in self._told.items() if topic != self._topics.status]
                self._outbox.extendleft(reversed(told))
        self._subscribe(connection[0])
        self.publish(self._topics.status, self._status("online"), retain=True)
        self._camera_said, self._silence_said = "", False
        # what was not heard while there was no connection is neither silence of the camera nor a sign of life
        self._last_frame, self._frame_seen = time.monotonic(), False
        return connection[0]

    def _subscribe(self, connection: _Connection) -> None:
        topics = [(self._topics.images, _subscription(self._protocol))]
        if not self._recalled:
            # QoS 0: what is retained doesn't wait behind the frames in the session
            topics += [(topic, {"qos": 0}) for topic in (self._topics.calibration, self._topics.state)]
            connection.recalling = True
        topics.append((self._topics.command, {"qos": 1}))
        for topic, how in topics:
            _, packet_id = connection.client.subscribe(topic, **how)
            if packet_id is not None:
                connection.subscribed[packet_id] = topic

    def _prepare(self, protocol: str, receiver: Receiver) -> _Connection:
        client = mqtt.make_client(self.client_id, protocol, self._settings, keep_session=True)
        client.manual_ack_set(True)
        offline = json.dumps(self._status("offline", "connection lost"), separators=(",", ":"))
        client.will_set(self._topics.status, offline, qos=1, retain=self._retains)
        connection = _Connection(client, self.connects + 1)
        client.on_disconnect = lambda *args: self._on_disconnect(connection, args[3], args[4])
        client.on_subscribe = lambda *args: self._on_subscribe(connection, args[2], args[3])
        client.on_unsubscribe = lambda *_: self._hand_on()
        client.on_malformed = lambda message: self._on_malformed(connection, message, receiver)
        client.on_message = lambda _c, _u, message: self._on_message(connection, message, receiver)
        client.on_publish = lambda *args: self._on_publish(connection, args[2], args[3])
        return connection

    @property
    def client_id(self) -> str:
        """Stable, so that the broker keeps the session; with the farm's prefix."""
        return f"{self._topics.client_id_prefix}posture-{self.pi_id}"

    def _status(self, state: str, why: str = "") -> dict[str, str]:
        status = {
            "state": state, "instance": self.instance, "started": self.started, **self._about, **receipts.ANNOUNCED,
        }  # fmt: skip
        return {**status, "why": why} if why else status

    def _on_disconnect(self, connection: _Connection, reason: ReasonCode, properties: Properties | None) -> None:
        connection.closed = (
            connection.closed or connection.client.protocol_error or mqtt.reason_text(reason, properties)
        )
        if connection.shown and not self._reconnecting.steady:
            self._previews_ended += 1
            if self._previews_ended == MOST_ENDED:
                log.error("%d connections ended after a small picture was sent; no more are", MOST_ENDED)
        # the broker may not have taken these: they go out again with the next connection
        again = list(connection.in_flight.values())
        if not self._reconnecting.steady:
            again = [replace(message, ended=message.ended + 1) for message in again]
            for message in again:
                if message.ended >= MOST_ENDED:
                    log.error("%d connections ended over a message for %s; dropped", message.ended, message.topic)
            again = [message for message in again if message.ended < MOST_ENDED]
        with self._lock:
            self._outbox = deque((*again, *self._outbox), maxlen=RECEIPTS_KEPT)
        connection.in_flight.clear()

    def _on_publish(self, connection: _Connection, packet_id: int, reason: ReasonCode) -> None:
        message = connection.in_flight.pop(packet_id, None)
        if message is None:
            return  # a picture: with QoS 0 it has left us, no more
        if connection.shown:
            connection.shown, self._previews_ended = False, 0
        if reason.is_failure:
            self._said.warning(f"broker {self._broker} refuses messages for {message.topic}: {reason}")

    def _on_subscribe(self, connection: _Connection, packet_id: int, reasons: Sequence[ReasonCode]) -> None:
        topic = connection.subscribed.pop(packet_id, self._topics.images)
        refused = "".join(mqtt.refused_subscriptions([topic], reasons))
        if topic == self._topics.images:
            connection.refused = refused
            if not refused and any(reason.value == 0 for reason in reasons):
                self._said.warning(
                    f"broker {self._broker} gives {topic} with QoS 0 only: what it can't deliver is lost"
                )
        elif refused:
            self._said.warning(f"broker {self._broker}: {refused}; the analyzer does without")
        if connection.recalling and topic == self._topics.state:
            # the broker takes one packet after another: what it retains comes before its answer to this
            connection.recalling = False
            connection.client.unsubscribe([self._topics.calibration, self._topics.state])

    def _when_recalled(self, hand_on: Callable[[], None]) -> None:
        if self._recalled:
            hand_on()
        else:
            self._waiting.append(hand_on)

    def _hand_on(self) -> None:
        """Say that all is recalled: what came before that is handed on."""
        self._recalled = True
        waiting, self._waiting = self._waiting, []
        for hand_on in waiting:
            hand_on()

    def _waits_too_much(self) -> bool:
        with self._lock:
            return len(self._waiting) > self._max_frames + mqtt.RECEIVE_MAXIMUM or (
                self._outstanding_bytes >= self._max_bytes
            )

    def _on_malformed(self, connection: _Connection, message: Malformed, receiver: Receiver) -> None:
        if message.topic != self._topics.images or message.retain:
            self._pass_over("malformed", f"{message}; it is passed over")
            connection.client.let_go(message)
            return
        self._said.warning(f"{message}; it is taken without properties")
        self._take(connection, message, {}, message.packet_id, receiver, malformed=True)

    def _on_message(self, connection: _Connection, message: paho.MQTTMessage, receiver: Receiver) -> None:
        if message.topic == self._topics.command:
            if not connection.discarding:
                self._when_recalled(partial(receiver.command, bytes(message.payload), retained=message.retain))
                connection.client.ack(message.mid, message.qos)
            return
        if message.topic in (self._topics.calibration, self._topics.state):
            if message.retain:
                receiver.recall(message.topic, bytes(message.payload))
            connection.client.ack(message.mid, message.qos)
            return
        if message.topic != self._topics.images:
            # some brokers send everybody's retained messages to a client that connects
            self._pass_over("foreign", f"message on {shown(message.topic)}, to which nobody here has subscribed")
            connection.client.ack(message.mid, message.qos)
            return
        if message.retain:
            self._pass_over(
                "retained", f"retained message on {message.topic}: old, and no sign of life; passed over"
            )
            connection.client.ack(message.mid, message.qos)
            return
        packet_id = message.mid if message.qos else 0
        self._take(connection, message, _user_properties(message.properties), packet_id, receiver)

    def _pass_over(self, kind: str, line: str) -> None:
        self.passed_over[kind] += 1
        self._said.warning(line)

    def _take(
        self,
        connection: _Connection,
        message: paho.MQTTMessage | Malformed,
        properties: Mapping[str, str],
        packet_id: int,
        receiver: Receiver,
        *,
        malformed: bool = False,
    ) -> None:
        if connection.discarding:
            return
        delivery = Delivery(
            payload=bytes(message.payload),
            properties=properties,
            received_at=datetime.now(timezone.utc),
            monotonic=time.monotonic(),
            packet_id=packet_id,
            connection=connection.number,
            malformed=malformed,
            redelivered=message.dup,
        )
        with self._lock:
            self._outstanding_frames += 1
            self._outstanding_bytes += len(delivery.payload)
        self._last_frame = delivery.monotonic
        self._last_frame_at = delivery.received_at
        self._frame_seen = True
        self._silence_said = False
        self._when_recalled(partial(receiver.deliver, delivery))

    def _settings_as(self, user: str) -> Mqtt:
        """Return the settings for a connection beside the session: as the analyzer's user it would end that."""
        ours = self._settings.username == self._topics.analyzer_user
        return replace(self._settings, username=user) if ours else self._settings

    def _is_superseded(self) -> bool:
        if self._held_since is not None:
            return False
        ours = Owner(self.instance, self.started, online=True)
        settings = self._settings_as(self._topics.takeover_user)
        return is_superseded(ours, self._topics.status, settings, self._protocol, self.client_id, self._stop)

    def _say_camera(self, receiver: Receiver) -> None:
        """Publish ``camera/<pi_id>`` when it changes: a silent camera is not an analyzer that is offline."""
        if time.monotonic() - self._last_frame >= self._silent_after_s:
            state = "silent" if self._has_room() else self._camera_said
        elif not self._frame_seen:
            return
        else:
            state = "frozen" if self.camera_frozen else "live"
        if state and state != self._camera_said:
            self._camera_said = state
            since = datetime.now(timezone.utc).isoformat(timespec="seconds")
            self.publish(self._topics.camera, {"state": state, "since": since}, retain=True)
        # a frame in hand has yet to say its state: only after it may that of silence be said
        if state == "silent" and not self._silence_said and not self.outstanding:
            self._silence_said = True
            receiver.camera_silent(self._last_frame_at)

    def _silent_in_s(self) -> float:
        """Return after how many seconds the camera is silent, if no frame comes until then."""
        left_s = self._last_frame + self._silent_after_s - time.monotonic()
        return left_s if left_s > 0 else math.inf


def _subscription(protocol: str) -> dict[str, Any]:
    if protocol != "5":
        return {"qos": 1}
    # a retained picture is given once, with the session's first subscription, not at every reconnect
    return {"options": SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)}


def _user_properties(properties: Properties | None) -> dict[str, str]:
    return dict(getattr(properties, "UserProperty", None) or [])
