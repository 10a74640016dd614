"""A loopback proxy that lets few bytes a second through, and can cut what is on its way."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

CHUNK = 4096


class SlowProxy:
    """Listens on ``port`` and passes on to another one.

    Args:
        to: the port of the server.
        bytes_per_s: in each direction of each connection.
    """

    def __init__(self, to: int, bytes_per_s: float) -> None:
        self._to, self._pause_s = to, CHUNK / bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.passed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self._to))
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                time.sleep(self._pause_s * len(data) / CHUNK)  # being slow is what it is for
                sink.sendall(data)
                self.passed += len(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
