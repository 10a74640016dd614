"""HTTP servers that stand before a Prometheus, or in its place."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class LoopbackServer:
    """A server on a free port for the length of a with block."""

    handler: type[BaseHTTPRequestHandler]

    def __enter__(self) -> Any:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class CountingProxy(LoopbackServer):
    """Passes requests on to a real Prometheus; with a token, only those that carry it."""

    def __init__(self, port: int, token: str = "") -> None:
        self.requests: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                proxy.requests.append(f"{self.command} {self.path}")
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if token and self.headers.get("Authorization") != f"Bearer {token}":
                    self.send_error(401)
                    return
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                connection.request("POST", self.path, body, {"Content-Type": self.headers["Content-Type"]})
                answer = connection.getresponse()
                data = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.handler = Handler


class StrangeServer(LoopbackServer):
    """Answers every request alike, byte by byte if there is a pause between them, or never."""

    def __init__(
        self, status: int, body: bytes, *, silent: bool = False, pause_s: float = 0.0, encoding: str = ""
    ) -> None:
        ended = threading.Event()
        self._ended = ended

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                # what is left unread would reset the connection, and take the answer along
                self.rfile.read(int(self.headers["Content-Length"]))
                if silent:
                    ended.wait(30)
                    return
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:9/")
                if encoding:
                    self.send_header("Content-Encoding", encoding)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # who asked has lost patience
                    for piece in [body] if not pause_s else [body[at : at + 1] for at in range(len(body))]:
                        self.wfile.write(piece)
                        if ended.wait(pause_s):
                            return

            def log_message(self, *_: Any) -> None:
                pass

        self.handler = Handler

    def __exit__(self, *arguments: object) -> None:
        self._ended.set()
        super().__exit__(*arguments)


class DrippingServer:
    """Answers with the same bytes again and again, one at a time, and never comes to an end.

    Args:
        first: sent at once.
        dripped: what follows.
        pause_s: between two bytes.
    """

    def __init__(self, first: bytes, dripped: bytes, pause_s: float = 0.05) -> None:
        self._first, self._dripped, self._pause_s = first, dripped, pause_s
        self._ended = threading.Event()

    def __enter__(self) -> DrippingServer:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(self._first)
                for byte in itertools.cycle(self._dripped):
                    if self._ended.wait(self._pause_s):
                        return
                    client.sendall(bytes([byte]))

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listener.close()
