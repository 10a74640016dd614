"""Messages that paho can't parse, from a real Mosquitto, which passes them on."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from paho.mqtt.exception import MalformedPacket
from raw_mqtt import RawClient, StrangeBroker, publish, user_property
from servers import Mosquitto

from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.wire import mqtt
from posture.wire.malformed import Malformed

LONG_S = 20.0
FEFF = "\ufeff".encode()
pytestmark = pytest.mark.usefixtures("patience")


def listen(port: int, *, turns_s: float = LONG_S, enough: int = 1) -> tuple[list[str], str]:
    """Subscribe to everything; return the payloads that came, and why the connection ended."""
    client = mqtt.make_client("listener", "5", Mqtt(url=f"mqtt://127.0.0.1:{port}"), keep_session=False)
    got: list[str] = []
    ended: list[Any] = []
    client.on_message = lambda _c, _d, message: got.append(message.payload.decode())
    client.on_disconnect = lambda *args: ended.append(args[3])
    answer = mqtt.handshake(client, Mqtt(url=f"mqtt://127.0.0.1:{port}"), session_expiry_s=0, give_up=lambda: False)
    assert answer.accepted
    client.subscribe("#", qos=1)
    deadline, stop = time.monotonic() + turns_s, Stop()
    while len(got) < enough and not ended and time.monotonic() < deadline:
        mqtt.turn(client, stop, timeout_s=0.5)
    why = client.protocol_error
    mqtt.abandon(client)
    return got, why


@pytest.mark.parametrize(
    "properties",
    [user_property(b"who", FEFF), user_property(FEFF, b"x"), user_property(b"a", b"1") + user_property(b"b", FEFF)],
    ids=["value", "name", "the second one"],
)
def test_a_retained_message_that_cannot_be_parsed_is_named_and_passed_over(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture, properties: bytes
) -> None:
    raw = RawClient(mosquitto.port)
    raw.send(publish(b"status/pi1", b"poison", properties, retain=True))
    raw.send(publish(b"status/pi2", b"sound", retain=True))
    raw.close()
    with caplog.at_level(logging.WARNING):
        got, why = listen(mosquitto.port)
    assert (got, why) == (["sound"], "")
    (line,) = (record.getMessage() for record in caplog.records)
    assert "malformed message on status/pi1" in line
    assert "70 6f 69 73 6f 6e" in line


@pytest.mark.parametrize(
    ("header", "packet", "properties", "expected"),
    [
        pytest.param(0x32, b"\0\1t\0\7\0p", True, ("t", b"p", 7, False), id="sound"),
        pytest.param(0x32, b"\0\1t\0\7p", False, ("t", b"p", 7, False), id="3.1.1"),
        pytest.param(0x31, b"\0\1t\0p", True, ("t", b"p", 0, True), id="QoS 0, retained"),
        pytest.param(0x32, b"\0\1t\0\7\x05ab", True, ("t", b"\x05ab", 7, False), id="properties without an end"),
        pytest.param(0x32, b"\0\1t\0\7\xff\xff\xff\xff\xff", True, ("t", b"\xff" * 5, 7, False), id="no length"),
        pytest.param(0x32, b"\0\1\xff\0\7\0", True, ("\\xff", b"", 7, False), id="topic is no text"),
    ],
)
def test_what_can_be_read_of_a_message_is_read(
    header: int, packet: bytes, properties: bool, expected: tuple[str, bytes, int, bool]
) -> None:
    found = Malformed.read(header, packet, properties=properties, why="")
    assert (found.topic, found.payload, found.packet_id, found.retain) == expected
    assert not found.dup
    assert Malformed.read(header | 0x08, packet, properties=properties, why="").dup


@pytest.mark.parametrize("packet", [b"", b"\0", b"\0\5t", b"\0\1t", b"\0\1t\0"])
def test_without_topic_and_packet_id_it_is_no_message(packet: bytes) -> None:
    with pytest.raises(MalformedPacket):
        Malformed.read(0x32, packet, properties=True, why="")


def test_a_log_line_about_a_message_has_no_control_characters_and_an_end() -> None:
    line = str(Malformed("\x1b[2J\n" + "t" * 10_000, b"\x1b\n" * 10_000, 1, False, False, "why\n" * 1000))
    assert line.isprintable()
    assert len(line) < 500


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"\x90\x03\x00\x01\xff", id="SUBACK"),
        pytest.param(b"\x90\x04\x00\x01\x01\xff", id="SUBACK's properties"),
        pytest.param(b"\x40\x02\x00\x01\x50\x01\x00", id="PUBACK and a PUBREC of nothing"),
        pytest.param(b"\x32\x01\x00", id="PUBLISH"),
        pytest.param(b"\x32\xff\xff\xff\xff\xff", id="length without an end"),
        pytest.param(b"\xe0\x02\xff\xff", id="DISCONNECT"),
        pytest.param(b"\xf0\x00", id="AUTH"),
    ],
)
def test_what_is_no_mqtt_ends_the_connection_and_not_the_program(said: bytes) -> None:
    broker = StrangeBroker(said)
    got, _ = listen(broker.port, turns_s=2.0)
    assert got == []
    broker.close()
