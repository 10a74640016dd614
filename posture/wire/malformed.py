"""Messages that the MQTT library can't parse: brokers deliver them all the same, and again after each reconnect.

Mosquitto passes on what paho refuses, such as a user property with U+FEFF in it. paho then ends the connection
without acknowledging the message, and the broker sends it again. This client takes such a message by its packet id,
so that the broker lets it go; its payload is most often sound.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from paho.mqtt import client as paho
from paho.mqtt.enums import MessageType, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket

from posture.system.untrusted import shown

log = logging.getLogger(__name__)

HEAD_BYTES = 16
"""Of a payload, shown in a log."""
SAID_AT_MOST = 20
"""Lines about malformed messages for each connection; their number is in somebody else's hands."""
LONGEST_TOPIC = 100
"""Characters of a topic, shown in a log."""


@dataclass(frozen=True)
class Malformed:
    """A message that can't be parsed.

    Attributes:
        topic: what could be read of it.
        payload: what follows the properties, or where these end nowhere, all that follows the packet id.
        packet_id: 0 for QoS 0, which needs no acknowledgement.
        retain: it is the topic's retained message.
        dup: the broker has delivered it before.
        why: what the library has against it.
    """

    topic: str
    payload: bytes
    packet_id: int
    retain: bool
    dup: bool
    why: str

    def __str__(self) -> str:
        topic, why = shown(self.topic, LONGEST_TOPIC), shown(self.why)
        return (
            f"malformed message on {topic} ({why}): {len(self.payload)} bytes, {self.payload[:HEAD_BYTES].hex(' ')}"
        )

    @classmethod
    def read(cls, header: int, packet: bytes, *, properties: bool, why: str) -> Malformed:
        """Read what there is of a PUBLISH packet.

        Args:
            header: its first byte.
            packet: what follows its length.
            properties: there are some: MQTT 5.
            why: what the library has against it.

        Raises:
            MalformedPacket: not even topic and packet id can be read.
        """
        end = 2 + int.from_bytes(packet[:2], "big")
        id_bytes = 2 if header & 0x06 else 0
        if len(packet) < end + id_bytes:
            raise MalformedPacket(why)
        packet_id = int.from_bytes(packet[end : end + id_bytes], "big")
        rest = packet[end + id_bytes :]
        if properties:
            size, length_bytes = _variable_integer(rest)
            if length_bytes and length_bytes + size <= len(rest):
                rest = rest[length_bytes + size :]
        topic = packet[2:end].decode(errors="backslashreplace")
        return cls(topic, bytes(rest), packet_id, bool(header & 0x01), bool(header & 0x08), why)


def _variable_integer(data: bytes) -> tuple[int, int]:
    """Return MQTT's variable byte integer and how many bytes it takes; 0 bytes if there is none."""
    value = 0
    for index, byte in enumerate(data[:4]):
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, index + 1
    return 0, 0


class Client(paho.Client):
    """paho's client, which gets past messages that it can't parse.

    Attributes:
        on_malformed: takes such a message, and acknowledges it in its turn; without one it is logged and let go.
        protocol_error: why the connection was ended, where the broker has sent what is no MQTT.
    """

    on_malformed: Callable[[Malformed], None] | None = None
    protocol_error: str = ""
    _said = 0

    def let_go(self, message: Malformed) -> None:
        """Acknowledge a message, so that the broker does not send it again."""
        if message.packet_id:
            self._send_puback(message.packet_id)

    def _pass_over(self, message: Malformed) -> None:
        self._said += 1
        if self._said <= SAID_AT_MOST:
            log.warning("%s; it is passed over", message)
        if self._said == SAID_AT_MOST:
            log.warning("further malformed messages of this connection are passed over without a line")
        self.let_go(message)

    def _packet_handle(self) -> MQTTErrorCode:
        header, packet = self._in_packet["command"], self._in_packet["packet"]
        is_message = header & 0xF0 == MessageType.PUBLISH
        try:
            if is_message:
                _check_topic(packet)
            return super()._packet_handle()
        except MalformedPacket as error:
            if not is_message:
                self.protocol_error = f"the broker sent a malformed packet of type {header >> 4}: {shown(error)}"
                raise
            with_properties = self.protocol == MQTTProtocolVersion.MQTTv5
            message = Malformed.read(header, bytes(packet), properties=with_properties, why=str(error))
        if self.on_malformed is not None:
            self.on_malformed(message)
        else:
            self._pass_over(message)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def _check_topic(packet: bytearray) -> None:
    """Refuse a topic that is no text: paho decodes it only when it is asked for.

    Raises:
        MalformedPacket: it isn't.
    """
    try:
        packet[2 : 2 + int.from_bytes(packet[:2], "big")].decode()
    except UnicodeDecodeError:
        raise MalformedPacket("the topic is no UTF-8") from None
