"""The broker: a thread that reads what all streams of the farm say, and sends commands."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from posture.dashboard import home_assistant
from posture.dashboard.home_assistant import Discovery
from posture.dashboard.live import Live
from posture.dashboard.sources import BROKER, State
from posture.errors import UserError
from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.wire import mqtt
from posture.wire.commands import Command
from posture.wire.malformed import Client
from posture.wire.reconnecting import Reconnecting
from posture.wire.topics import Topics

log = logging.getLogger(__name__)

OBEYED_WITHIN_S = 30
"""A command that waits for longer (its analyzer is away, say) is not to be obeyed any more; with MQTT 5."""
ANNOUNCED_EACH_S = 1.0
SENT_WITHIN_S = 5.0
"""How long the broker may take to acknowledge a command."""


class NotSentError(Exception):
    """The broker has not taken a command."""


@dataclass(frozen=True)
class _Sending:
    topic: str
    payload: bytes
    taken: Future[None] = field(default_factory=Future)


class BrokerReader:
    """A connection to the broker that is made again for ever.

    Args:
        settings: the broker.
        live: what the messages go to.
        discovery: what Home Assistant is to be told.
    """

    def __init__(self, settings: Mqtt, live: Live, discovery: Discovery) -> None:
        self._settings, self._live, self._discovery = settings, live, discovery
        self._announced_at = 0.0
        self._broker = mqtt.parse_broker(settings.url)
        self._protocol = settings.protocol
        self._stop = Stop()
        self._reconnecting = Reconnecting()
        self._commands: queue.SimpleQueue[_Sending] = queue.SimpleQueue()
        self._closed = ""
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        name = f"{Topics('', settings.prefix).client_id_prefix}dashboard-{random.randrange(1 << 32):08x}"  # noqa: S311 - no secret
        self._client_id = settings.username or name

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def close(self) -> None:
        """Disconnect, and end the thread."""
        self._stop.request()
        self._thread.join(mqtt.ANSWER_S)

    def send(self, pi_id: str, asked: Command) -> None:
        """Publish a command with QoS 1, and return when the broker has taken it. From any thread but this one's.

        Args:
            pi_id: the stream.
            asked: the command.

        Raises:
            NotSentError: it has not.
        """
        command = _Sending(Topics(pi_id, self._settings.prefix).command, asked.to_json())
        self._commands.put(command)
        self._stop.wake()
        try:
            command.taken.result(SENT_WITHIN_S)
        except FutureTimeoutError:
            command.taken.cancel()
            raise NotSentError(f"the broker at {self._broker} has not taken it in {SENT_WITHIN_S:g} s") from None

    def _run(self) -> None:
        while not self._stop.requested:
            try:
                client = self._connect()
            except (OSError, UserError) as error:
                why = mqtt.explain(error) if isinstance(error, OSError) else str(error)
            else:
                self._reconnecting.connected()
                why = self._serve(client)
            if self._stop.requested:
                return
            why = f"{self._broker}: {why}"
            if self._live.tell_source(BROKER, State.DOWN, why):
                log.warning("broker %s; trying again", why)
            self._stop.wait(self._reconnecting.pause_s())
            self._stop.clear_wakeups()

    def _connect(self) -> Client:
        """Return an accepted connection that has subscribed.

        Raises:
            OSError: the broker can't be reached, or does not take us now.
            UserError: it refuses our credentials, or a file of TLS can't be read.
        """
        clients: list[Client] = []

        def attempt(protocol: str) -> mqtt.ConnectAnswer:
            client = mqtt.make_client(self._client_id, protocol, self._settings, keep_session=False)
            clients[:] = [client]
            return mqtt.handshake(client, self._settings, session_expiry_s=0, give_up=lambda: self._stop.requested)

        self._protocol = mqtt.first_accepted(self._protocol, self._broker, attempt)
        [client] = clients
        return client

    def _serve(self, client: Client) -> str:
        """Read and send until the connection ends; return why it did."""
        self._closed = ""
        self._discovery.connected(time.time())
        topics = [*self._live.streams.topics, *self._discovery.topics]
        sent: dict[int, _Sending] = {}

        def on_subscribe(*args: Any) -> None:
            for line in mqtt.refused_subscriptions(topics, args[3]):
                log.warning("broker %s %s", self._broker, line)
            self._live.tell_source(BROKER, State.UP)

        def on_publish(*args: Any) -> None:
            command = sent.pop(args[2], None)
            if command is None or not command.taken.set_running_or_notify_cancel():
                return
            if args[3].is_failure:
                command.taken.set_exception(NotSentError(f"the broker at {self._broker} refuses it: {args[3]}"))
            else:
                command.taken.set_result(None)

        def on_disconnect(*args: Any) -> None:
            self._closed = client.protocol_error or mqtt.reason_text(args[3], args[4])

        client.on_message = self._on_message
        client.on_malformed = lambda message: self._on_malformed(client, message)
        client.on_subscribe = on_subscribe
        client.on_publish = on_publish
        client.on_disconnect = on_disconnect
        client.subscribe([(topic, 1) for topic in topics])
        while not self._closed and not self._stop.requested:
            self._send(client, sent)
            self._announce(client)
            if client.socket() is None:
                return self._closed or "closed the connection"
            mqtt.turn(client, self._stop, timeout_s=0.5)
        if self._stop.requested:
            mqtt.abandon(client)
        return self._closed

    def _send(self, client: Client, sent: dict[int, _Sending]) -> None:
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            if not command.taken.cancelled():  # its sender has given it up while the broker was away
                expiry = _expiry() if self._protocol == "5" else None
                sent[client.publish(command.topic, command.payload, qos=1, properties=expiry).mid] = command

    def _announce(self, client: Client) -> None:
        """Tell Home Assistant what is new, about once a second."""
        now = time.time()
        if 0 <= now - self._announced_at < ANNOUNCED_EACH_S:
            return
        self._announced_at = now
        with self._live.hold():
            streams = list(self._live.streams)
        for one in self._discovery.due(streams, now):
            client.publish(one.topic, one.payload, qos=1, retain=True)

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if home_assistant.is_for(message.topic):
            self._discovery.take(message.topic, bytes(message.payload), time.time())
            return
        self._live.take(message.topic, bytes(message.payload), retained=message.retain)

    def _on_malformed(self, client: Client, message: Any) -> None:
        self._live.count_malformed(message.topic, message.why, retained=message.retain)
        client.let_go(message)


def _expiry() -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own signature
    properties.MessageExpiryInterval = OBEYED_WITHIN_S
    return properties
