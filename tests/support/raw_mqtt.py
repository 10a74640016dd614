"""MQTT by hand: packets that no library makes, and brokers that do what no broker should."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable

CONNACK_5 = b"\x20\x03\x00\x00\x00"
SUBACK_5 = b"\x90\x04\x00\x01\x00\x01"


def integer(value: int) -> bytes:
    """MQTT's variable byte integer."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def packet(header: int, body: bytes) -> bytes:
    return bytes([header]) + integer(len(body)) + body


def user_property(name: bytes, value: bytes) -> bytes:
    return b"\x26" + text(name) + text(value)


def publish(
    topic: bytes, payload: bytes, properties: bytes = b"", *, retain: bool = False, packet_id: int = 1
) -> bytes:
    """A PUBLISH of MQTT 5 with QoS 1."""
    body = text(topic) + packet_id.to_bytes(2, "big") + integer(len(properties)) + properties + payload
    return packet(0x33 if retain else 0x32, body)


class RawClient:
    """A client of MQTT 5 that sends whatever it is given, and waits until the broker has taken it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._socket.sendall(packet(0x10, text(b"MQTT") + b"\x05\x02\x00\x3c" + b"\x00" + text(b"raw")))
        assert self._socket.recv(1)[0] == 0x20
        self._rest()

    def send(self, data: bytes) -> None:
        """Send one PUBLISH; the broker acknowledges it."""
        self._socket.sendall(data)
        first = self._socket.recv(1)
        assert first, "the broker has closed the connection"
        assert first[0] == 0x40, f"the broker answered with a packet of type {first[0] >> 4}"
        self._rest()

    def send_all(self, packets: list[bytes], answers: int) -> list[int]:
        """Send PUBLISH packets at once; return the reason codes of the broker's answers, until it closes.

        Args:
            packets: any.
            answers: how many of them are to be answered.
        """
        reasons: list[int] = []
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(b"".join(packets))
            stream = self._socket.makefile("rb")
            while len(reasons) < answers:
                head = stream.read(2)
                if len(head) < 2 or head[0] != 0x40:
                    break
                body = stream.read(head[1])
                reasons.append(body[2] if len(body) > 2 else 0)
        return reasons

    def _rest(self) -> None:
        (length,) = self._socket.recv(1)
        while length:
            length -= len(self._socket.recv(length))

    def close(self) -> None:
        self._socket.close()


class _Listener:
    """Calls ``serve`` in a thread for each connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(client)
            threading.Thread(target=self._serve_quietly, args=(client,), daemon=True).start()

    def _serve_quietly(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self.serve(client)

    def serve(self, client: socket.socket) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._listener.close()
        for client in self._open:
            client.close()


class EndingProxy(_Listener):
    """Stands before a broker, and ends a connection when ``ends`` says so of what a client has sent."""

    def __init__(self, port: int, ends: Callable[[bytes], bool]) -> None:
        super().__init__()
        self._port, self._ends = port, ends

    def serve(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as broker:
            while True:
                readable, _, _ = select.select([client, broker], [], [], 30)
                for one in readable:
                    data = one.recv(1 << 16)
                    if not data or (one is client and self._ends(data)):
                        return
                    (broker if one is client else client).sendall(data)


class SlowProxy(_Listener):
    """Stands before a broker; what a client sends takes its time, as over a bad radio link."""

    def __init__(self, port: int, bytes_per_s: int) -> None:
        super().__init__()
        self._port, self._chunk, self._free = port, bytes_per_s // 20, threading.Event()

    def serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.create_connection(("127.0.0.1", self._port)) as broker:
            threading.Thread(target=self._pass_back, args=(broker, client), daemon=True).start()
            while data := client.recv(self._chunk):
                broker.sendall(data)
                self._free.wait(len(data) / self._chunk / 20)

    def _pass_back(self, broker: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := broker.recv(1 << 16):
                client.sendall(data)


class StrangeBroker(_Listener):
    """Accepts every CONNECT, and then says what it is given and nothing else."""

    def __init__(self, *says: bytes, close: bool = False) -> None:
        super().__init__()
        self._says, self._close = says, close

    def serve(self, client: socket.socket) -> None:
        client.recv(1 << 16)
        client.sendall(CONNACK_5)
        for said in self._says:
            client.recv(1 << 16)
            client.sendall(said)
        while not self._close and client.recv(1 << 16):
            pass
