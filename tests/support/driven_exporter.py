"""A fake GPU exporter for many nodes that a test drives, for a real Prometheus to scrape.

    exporter = GpuExporter()
    exporter.set("jetson-1", 42)
    server = PrometheusServer(folder, exporter.targets("jetson-1", "jetson-2"))

Each node is a target of its own: the address is the exporter's, a parameter of the URL names the node, and the
label ``instance`` is one that the node's own exporter would have.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from posture.settings.table import GpuQuery

METRIC = "gpu_usage_percent"
SCRAPED_S = 30.0


def instance_of(node: str) -> str:
    """The label that Prometheus gives a node's exporter."""
    return f"{node}.test:9100"


def gpu_queries(*nodes: str, metric: str = METRIC) -> dict[str, GpuQuery]:
    """GPU_QUERIES of these nodes."""
    return {node: GpuQuery(instance_of(node), metric) for node in nodes}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A Prometheus that is killed in the middle of a scrape is no error of ours."""


class GpuExporter:
    """Answers scrapes on a free port. A node that was never set, or is down, answers 503: its target is down."""

    def __init__(self) -> None:
        self._pages: dict[str, str] = {}
        self._scrapes: Counter[str] = Counter()
        self._untaken: set[str] = set()
        self._scraped = threading.Condition()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                exporter._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def set(self, node: str, usage: float | str, /, metric: str = METRIC, **labels: str) -> None:
        """Show this usage from now on."""
        inner = ",".join(f'{name}="{value}"' for name, value in labels.items())
        self.show(node, f"{metric}{{{inner}}} {usage}")

    def show(self, node: str, *lines: str) -> None:
        """Show exactly these lines of Prometheus' text format from now on."""
        with self._scraped:
            self._pages[node] = "\n".join(lines) + "\n"

    def down(self, node: str) -> None:
        """Fail this node's scrapes from now on."""
        with self._scraped:
            self._pages.pop(node, None)

    def wait_for_scrapes(self, node: str, count: int = 2) -> None:
        """Wait for so many further scrapes. Before a second one begins, the first one's samples are stored.

        One that follows a scrape that has given up on us does not count: that one has stored nothing.
        """
        deadline = time.monotonic() + SCRAPED_S
        with self._scraped:
            wanted = self._scrapes[node] + count
            while self._scrapes[node] < wanted:
                assert self._scraped.wait(deadline - time.monotonic()), f"{node} was not scraped in {SCRAPED_S:g} s"

    def targets(self, *nodes: str) -> list[dict[str, Any]]:
        """Prometheus' static_configs for these nodes."""
        return [
            {"targets": [self.address], "labels": {"instance": instance_of(node), "__param_node": node}}
            for node in nodes
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        (node,) = parse_qs(urlsplit(request.path).query)["node"]
        with self._scraped:
            page = self._pages.get(node)
            self._scrapes[node] += node not in self._untaken
            self._untaken.add(node)
            self._scraped.notify_all()
        if page is None:
            request.send_error(503)
        else:
            request.send_response(200)
            request.send_header("Content-Type", "text/plain; version=0.0.4")
            request.send_header("Content-Length", str(len(page.encode())))
            request.end_headers()
            request.wfile.write(page.encode())
        # who has read it all closes the connection; one that was closed before is reset, and raises here or above
        if not request.connection.recv(1):
            with self._scraped:
                self._untaken.discard(node)
