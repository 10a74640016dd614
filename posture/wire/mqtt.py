"""MQTT clients as this project makes them: one place for addresses, sessions, credentials and TLS."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from posture.errors import UserError
from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.system.untrusted import shown
from posture.wire.malformed import Client

ANSWER_S = 5.0
"""How long a broker may take to answer; one that is silent for longer is asked again with MQTT 3.1.1."""
RECEIVE_MAXIMUM = 64
"""Frames the broker may send ahead of acknowledgements over MQTT 5."""
FIRST_OF_MQTT_5 = 0x88
"""Reason codes of a CONNACK from here on are none that a broker of MQTT 3.1.1 has."""
RETAIN_NOT_SUPPORTED = 0x9A
UNSPECIFIED_ERROR = 0x80
DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class Broker:
    """Where a broker listens."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def with_scheme(address: str) -> str:
    """Return a broker's address as a URL: ``host[:port]`` alone means ``mqtt://host[:port]``."""
    return address if "://" in address else f"mqtt://{address}"


def parse_broker(url: str) -> Broker:
    """Return where the broker of a URL listens.

    Args:
        url: ``mqtt://host[:port]`` or ``mqtts://host[:port]``; without a scheme it is mqtt.
    """
    parts = urlsplit(with_scheme(url))
    return Broker(parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme], parts.scheme == "mqtts")


def make_client(client_id: str, protocol: str, settings: Mqtt, *, keep_session: bool) -> Client:
    """Return a client that is not yet connected.

    Args:
        client_id: the broker keeps sessions by it.
        protocol: "5" or "3.1.1".
        settings: credentials and TLS files.
        keep_session: whether the broker keeps the session while the client is away.

    Raises:
        UserError: a TLS file can't be read.
    """
    version = MQTTProtocolVersion.MQTTv5 if protocol == "5" else MQTTProtocolVersion.MQTTv311
    clean = None if protocol == "5" else not keep_session
    client = Client(
        CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, clean_session=clean,
        reconnect_on_failure=False,
    )  # fmt: skip
    client.connect_timeout = ANSWER_S
    # paho's window of 20 would keep a receipt back while the broker's answers stand behind a backlog of frames
    client.max_inflight_messages_set(0)
    if settings.username:
        client.username_pw_set(settings.username, settings.password or None)
    if parse_broker(settings.url).tls:
        client.tls_set_context(_tls_context(settings))
    return client


def _tls_context(settings: Mqtt) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file or None)
    except OSError as error:  # ssl.SSLError is one, too
        files = ", ".join(name for name in (settings.ca_file, settings.cert_file, settings.key_file) if name)
        raise UserError(
            f"mqtt.ca_file, mqtt.cert_file, mqtt.key_file: {files}: {error}; accepted: PEM files that can be read"
        ) from None
    return context


def connect(client: paho.Client, settings: Mqtt, *, session_expiry_s: int) -> None:
    """Open the connection and send CONNECT; the answer comes by the client's loop.

    Args:
        client: from ``make_client``.
        settings: address and keepalive.
        session_expiry_s: how long an MQTT 5 broker keeps the session; 0 starts a clean one that ends at once.

    Raises:
        OSError: the broker can't be reached.
    """
    broker = parse_broker(settings.url)
    if client.protocol != MQTTProtocolVersion.MQTTv5:
        client.connect(broker.host, broker.port, settings.keepalive_s)
        return
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own signature
    properties.SessionExpiryInterval = session_expiry_s
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    # paho's default would be a clean start at the first connect, which drops the waiting frames
    clean_start = session_expiry_s == 0
    client.connect(broker.host, broker.port, settings.keepalive_s, clean_start=clean_start, properties=properties)


def abandon(client: paho.Client) -> None:
    """Disconnect a client that is of no more use; its callbacks are silent from here on."""
    client.on_disconnect = None
    client.on_message = None
    client.disconnect()
    client.loop(timeout=0)


def turn(client: paho.Client, stop: Stop, *, read: bool = True, timeout_s: float) -> bool:
    """Run one turn of a client's network loop; return whether there was something to read.

    Args:
        client: without an open socket nothing happens.
        stop: a wake-up of it ends the wait, too.
        read: False leaves what has arrived in the socket.
        timeout_s: how long to wait for something to happen.
    """
    sock = client.socket()
    if sock is None:
        return False
    # what TLS has decrypted already is in no socket any more
    buffered = read and isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
    readers: list[Any] = [stop, sock] if read else [stop]
    writers = [sock] if client.want_write() else []
    readable, writable, _ = select.select(readers, writers, [], 0 if buffered else timeout_s)
    if stop in readable:
        stop.clear_wakeups()
    if writable:
        client.loop_write()
    if sock in readable or buffered:
        client.loop_read()
    client.loop_misc()
    return buffered or sock in readable


@dataclass
class ConnectAnswer:
    """What a broker said to CONNECT."""

    accepted: bool = False
    session_present: bool = False
    refused: str = ""
    """Why it did not accept; empty if it did."""
    credentials: bool = False
    """It refused the credentials, which no retry will change."""
    receive_maximum: int = 65_535
    """How many messages with QoS 1 it takes before it has acknowledged the first."""
    max_packet_bytes: int | None = None
    """The largest packet that it takes, if it says so (MQTT 5)."""
    retains: bool = True
    """It keeps retained messages; one that doesn't ends connections that send them."""
    code: int = 0
    """The reason code of its refusal; 0 if it gave none."""


def handshake(
    client: Client, settings: Mqtt, *, session_expiry_s: int, give_up: Callable[[], bool]
) -> ConnectAnswer:
    """Connect and wait for the broker's answer.

    Args:
        client: from ``make_client``; its ``on_connect`` is taken.
        settings: address and keepalive.
        session_expiry_s: as in ``connect``.
        give_up: True ends the wait.

    Raises:
        OSError: the broker can't be reached.
    """
    answer = ConnectAnswer()

    def on_connect(
        _client: paho.Client, _data: object, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        answer.accepted = not reason.is_failure
        answer.session_present = bool(flags.session_present)
        answer.receive_maximum = getattr(properties, "ReceiveMaximum", answer.receive_maximum)
        answer.max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        answer.retains = bool(getattr(properties, "RetainAvailable", True)) and reason.value != RETAIN_NOT_SUPPORTED
        if reason.is_failure:
            answer.refused = reason_text(reason, properties)
            answer.code = reason.value
            answer.credentials = reason.value in (0x86, 0x87)  # bad user name or password, not authorised

    client.on_connect = on_connect
    connect(client, settings, session_expiry_s=session_expiry_s)
    deadline = time.monotonic() + ANSWER_S
    while not answer.accepted and not answer.refused:
        # taken before we look: if we have stood still for so long, the answer may be there
        over = time.monotonic() > deadline or give_up()
        if client.loop(timeout=0.1) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            answer.refused = answer.refused or client.protocol_error or "closed the connection"
        elif over and not answer.accepted:
            answer.refused = answer.refused or "no answer to CONNECT"
    if not answer.accepted:
        abandon(client)
    return answer


def first_accepted(protocol: str, broker: Broker, attempt: Callable[[str], ConnectAnswer]) -> str:
    """Return the protocol with which the broker accepts us: MQTT 5, or 3.1.1 where it refuses that.

    Args:
        protocol: ``auto``, ``5`` or ``3.1.1``.
        broker: for the messages.
        attempt: connects with the protocol it is given.

    Raises:
        UserError: the broker refuses the credentials.
        ConnectionError: it does not take us now.
    """
    answer = ConnectAnswer()
    for candidate in ("5", "3.1.1") if protocol == "auto" else (protocol,):
        answer = attempt(candidate)
        if answer.accepted:
            return candidate
        if answer.code >= FIRST_OF_MQTT_5:
            break  # it speaks MQTT 5, and gave its reason
        if answer.credentials:
            raise UserError(
                f"broker {broker} refuses the credentials ({answer.refused}): check POSTURE_MQTT_USERNAME and "
                "POSTURE_MQTT_PASSWORD (or POSTURE_MQTT_PASSWORD_FILE)"
            )
    raise ConnectionError(answer.refused)


def reason_text(reason: ReasonCode, properties: Properties | None = None) -> str:
    """Return why a broker refuses something, or ends a connection: its reason code, and what it adds to it."""
    # paho's for a connection that has ended without a DISCONNECT: the broker was killed, or the network is away
    lost = reason.packetType == PacketTypes.DISCONNECT and reason.value == UNSPECIFIED_ERROR
    added = [
        f"{words}{shown(getattr(properties, name))}"
        for name, words in (("ReasonString", ""), ("ServerReference", "it names the server "))
        if getattr(properties, name, None)
    ]
    return "; ".join(["closed without a reason" if lost else str(reason), *added])


def refused_subscriptions(topics: Sequence[str], reasons: Sequence[ReasonCode]) -> list[str]:
    """Return a line for each subscription that a broker refuses.

    Args:
        topics: what was subscribed to, in this order.
        reasons: the broker's answer.
    """
    return [
        f"refuses the subscription to {topic}: {reason} (may this user read it?)"
        for topic, reason in zip(topics, reasons, strict=False)
        if reason.is_failure
    ]


def explain(error: OSError) -> str:
    """Return why a connection failed, in a few words."""
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, TimeoutError):
        return "no answer"
    return error.strerror or str(error) or type(error).__name__
