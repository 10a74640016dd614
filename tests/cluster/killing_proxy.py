"""A loopback proxy before the API server that counts requests, and kills who sent one as soon as it was done."""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

Request = tuple[str, str]
"""Method and resource, such as ("PATCH", "scaledjobs")."""


class QuietServer(ThreadingHTTPServer):
    """Who was killed does not read the answer, which is no news."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class KillingProxy:
    """Passes everything on.

    Args:
        kubeconfig: of the API server.
        folder: where the proxy's own kubeconfig is written.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server = urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        self._changed = threading.Condition()
        self._kill: Callable[[], None] | None = None
        self._done: set[tuple[int, Request]] = set()
        self._changes = 0
        self.requests: list[Request] = []
        """All of them."""
        self.killed_after: list[str] = []
        self.move_finished = False
        self._before: dict[Request, Callable[[], None]] = {}
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy._pass_on(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._http = QuietServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self._http.server_address[1]}"}
        self.kubeconfig = folder / "proxy.kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def kill_in_next_move(self, kill: Callable[[], None]) -> None:
        """Kill after the first request of the next move that is not like one after which was killed before.

        Requests are alike if they read, or write, the same and the move has changed equally much before them.
        """
        with self._changed:
            self._kill, self._changes, self.move_finished = kill, 0, False

    def before(self, method: str, resource: str, act: Callable[[], None]) -> None:
        """Do something before the next such request is passed on; of PATCHes of a ScaledJob only a move's count."""
        self._before[(method, resource)] = act

    def wait_for_end(self, timeout_s: float) -> bool:
        """Wait until the sender was killed, or the move has finished without; return whether it was killed."""
        with self._changed:
            ended = self._changed.wait_for(lambda: self._kill is None or self.move_finished, timeout_s)
            assert ended, f"neither a kill nor the end of a move; the last requests: {self.requests[-20:]}"
            killed = self._kill is None
            self._kill = None
            return killed

    def _pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length) if length else None
        request = (handler.command, resource_of(handler.path))
        # a note that the stream runs may be written before there is a move
        if request != ("PATCH", "scaledjobs") or opens_a_move(handler.path, body):
            self._before.pop(request, lambda: None)()
        server = http.client.HTTPSConnection(
            str(self._server.hostname), self._server.port or 443, timeout=30, context=self._context
        )
        try:
            headers = {
                name: value
                for name, value in handler.headers.items()
                if name.lower() not in {"host", "accept-encoding"}
            }
            server.request(handler.command, handler.path, body, headers)
            answer = server.getresponse()
            content = answer.read()
        except OSError:
            handler.close_connection = True
            return
        finally:
            server.close()
        if self._is_the_end(handler, body):
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        for name in ("Content-Type", "Retry-After"):
            if answer.headers[name]:
                handler.send_header(name, answer.headers[name])
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _is_the_end(self, handler: BaseHTTPRequestHandler, body: bytes | None) -> bool:
        """Count the request, which the API server has answered; kill its sender if it is its turn."""
        resource = resource_of(handler.path)
        request = (handler.command, resource)
        with self._changed:
            self.requests.append(request)
            if self._kill is None or not (self._changes or opens_a_move(handler.path, body)):
                return False
            if handler.command != "GET" and resource != "leases":
                self._changes += 1
            key = (self._changes, request)
            if key not in self._done:
                self._done.add(key)
                self.killed_after.append(f"{self._changes} {handler.command} {resource}")
                self._kill()
                self._kill = None
            elif resource == "events" and json.loads(body or b"{}").get("reason") == "MoveFinished":
                self.move_finished = True
            self._changed.notify_all()
            return self._kill is None


def opens_a_move(path: str, body: bytes | None) -> bool:
    return resource_of(path) == "scaledjobs" and b'"/metadata/generation"' in (body or b"")


def resource_of(path: str) -> str:
    """The resource of a path of the API, such as ``jobs``."""
    found = re.search(
        r"/(?:namespaces/[^/]+/)?([a-z]+)(?:/[^/?]+)?(?:\?|$)", re.sub(r"^/apis?(/[^/]+)?/v1[a-z0-9]*", "", path)
    )
    return found.group(1) if found else path
