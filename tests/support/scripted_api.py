"""An API server of Kubernetes that answers what a test says."""

from __future__ import annotations

import dataclasses
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from posture.kube.client import KubeClient


@dataclasses.dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: Mapping[str, str]


@dataclasses.dataclass
class Answer:
    status: int
    body: Any
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


class ScriptedServer:
    """Gives its answers one after the other, the last one for ever; None closes the connection.

    Args:
        tls: speak TLS.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.answers: list[Answer | None] = []
        self.answer: Callable[[Request], Answer | None] | None = None
        """Decides instead of ``answers``."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.address = f"127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        query = {name: value for name, (value,) in parse_qs(parts.query).items()}
        request = Request(handler.command, parts.path, query, body, handler.headers)
        self.requests.append(request)
        if self.answer is not None:
            answer = self.answer(request)
        else:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            handler.connection.close()
            return
        content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        handler.send_response_only(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


def write_kubeconfig(path: Path, address: str, cluster: Mapping[str, Any] | None = None, **user: Any) -> Path:
    body = {
        "clusters": [{"name": "one", "cluster": {"server": f"http://{address}", **(cluster or {})}}],
        "users": [{"name": "one", "user": user or {"token": "secret"}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "current-context": "one",
    }
    path.write_text(yaml.safe_dump(body))
    return path


class PatientClient:
    """A client whose pauses between attempts are noted instead of waited for."""

    def __init__(self, client: KubeClient, pauses: list[float]) -> None:
        self.client = client
        self.pauses = pauses


def status(code: int, message: str) -> Answer:
    return Answer(code, {"kind": "Status", "code": code, "message": message})
