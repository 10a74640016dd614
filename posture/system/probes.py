"""Metrics and probes over HTTP: /metrics for Prometheus, /healthz and /readyz for Kubernetes."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from posture.errors import UserError

Check = Callable[[], str]
"""Returns what is wrong; empty if nothing is."""

log = logging.getLogger(__name__)


class Exposition:
    """The HTTP server, in daemon threads.

    Args:
        host: address to listen on; empty: all interfaces, IPv4 and IPv6.
        port: TCP port.
        registry: the metrics.
        healthy: answers /healthz, the liveness probe.
        ready: answers /readyz, the readiness probe.

    Raises:
        UserError: the address is in use or not ours.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, healthy: Check, ready: Check) -> None:
        pages = {"/metrics": _metrics_page(registry), "/healthz": _page_of(healthy), "/readyz": _page_of(ready)}

        class Handler(_Handler):
            def do_GET(self) -> None:
                self.answer(pages)

        try:
            self._server = _Server(host.strip("[]"), port, Handler)
        except OSError as error:
            raise UserError(f"metrics port {port}: can't be had: {error.strerror}") from None
        Thread(target=self._server.serve_forever, name="exposition", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


Page = Callable[[str], tuple[HTTPStatus, str, bytes]]
"""Takes the request's Accept header; returns status, content type and body."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._everywhere = not host and socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if self._everywhere or ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        if self._everywhere:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # HTTPServer.server_bind would look our name up in DNS, which can block
        TCPServer.server_bind(self)


class _Handler(BaseHTTPRequestHandler):
    timeout = 10
    """Seconds: a client that sends nothing for so long is disconnected."""

    def answer(self, pages: dict[str, Page]) -> None:
        page = pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        status, content_type, body = page(self.headers.get("Accept", ""))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        log.debug(format, *args)


def _metrics_page(registry: CollectorRegistry) -> Page:
    def page(accept: str) -> tuple[HTTPStatus, str, bytes]:
        encode, content_type = choose_encoder(accept)
        return HTTPStatus.OK, content_type, encode(registry)

    return page


def _page_of(check: Check) -> Page:
    def page(accept: str) -> tuple[HTTPStatus, str, bytes]:
        del accept
        problem = check()
        status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
        return status, "text/plain; charset=utf-8", f"{problem or 'ok'}\n".encode()

    return page
