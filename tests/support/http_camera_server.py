"""An IP camera that speaks HTTP: a stream of JPEGs, or one picture a request; digest or basic authentication."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

Answer = Callable[[BaseHTTPRequestHandler], None]
NONCE = "0123456789abcdef"


class HttpCamera:
    """A camera at ``http://127.0.0.1:<port>``.

    Args:
        answer: writes what a request gets.
        user: whom it serves; nobody in particular, if empty.
        password: of that user.
        digest: asks for digest instead of basic authentication.
        port: where it listens; 0: where it likes.

    Attributes:
        requests: how many came that it has answered with pictures.
        schemes: by which the clients have said who they are.
    """

    def __init__(
        self, answer: Answer, *, user: str = "", password: str = "", digest: bool = False, port: int = 0
    ) -> None:
        self.requests = 0
        self.schemes: list[str] = []
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if user and not camera._knows(self.headers.get("Authorization", ""), user, password, digest):
                    self.send_response(401)
                    digest_ask = f'Digest realm="camera", nonce="{NONCE}", qop="auth", algorithm=MD5'
                    self.send_header("WWW-Authenticate", digest_ask if digest else 'Basic realm="camera"')
                    self.end_headers()
                    return
                camera.requests += 1
                answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> HttpCamera:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _knows(self, authorization: str, user: str, password: str, digest: bool) -> bool:
        scheme, _, rest = authorization.partition(" ")
        if scheme:
            self.schemes.append(scheme)
        if not digest:
            return scheme == "Basic" and base64.b64decode(rest).decode() == f"{user}:{password}"
        given = {name: quoted or bare for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^, ]+))', rest)}
        if scheme != "Digest" or given["username"] != user or given["nonce"] != NONCE:
            return False
        who, what = md5(f"{user}:camera:{password}"), md5(f"GET:{given['uri']}")
        return given["response"] == md5(f"{who}:{NONCE}:{given['nc']}:{given['cnonce']}:auth:{what}")


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()  # noqa: S324 - the standard's


def snapshot(picture: bytes, kind: str = "image/jpeg", status: int = 200) -> Answer:
    """Answer with one picture."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(picture)))
        request.end_headers()
        request.wfile.write(picture)

    return answer


def stream(parts: Callable[[], Iterator[bytes]], boundary: str = "frame") -> Answer:
    """Answer with what ``parts`` yields, boundaries and headers included, until it ends or nobody listens."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={boundary}")
        request.end_headers()
        try:
            for part in parts():
                request.wfile.write(part)
                request.wfile.flush()
        except OSError:
            return

    return answer


def part(picture: bytes, *, length: bool = True, boundary: bytes = b"--frame", junk: bytes = b"") -> bytes:
    """One part of a stream."""
    picture = junk + picture
    headers = b"Content-Type: image/jpeg\r\n" + (b"Content-Length: %d\r\n" % len(picture) if length else b"")
    return boundary + b"\r\n" + headers + b"\r\n" + picture + b"\r\n"
