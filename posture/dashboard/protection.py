"""What every request must bear, and every answer has: sizes, origins, and the headers that browsers obey.

Written as plain ASGI, so that a feed that never ends passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from posture.system.addresses import without_port

MOST_BODY_BYTES = 4_096
"""No form and no command of the page is as large."""
TOO_LARGE = (413, f"accepted: up to {MOST_BODY_BYTES} bytes")
SAFE_METHODS = frozenset({"GET", "HEAD"})

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


class Protection:
    """Refuses requests that no page of ours makes, and adds the headers.

    Args:
        app: what is protected.
        hosts: names under which the page may be asked for; empty: any. Without a login only names of this machine
            are, since a stranger's page could lead a browser here under a name of its own (DNS rebinding).
        describe: makes the answer to a refused request: status and text.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], describe: Callable[[int, str], ASGIApp]) -> None:
        self._app, self._hosts, self._describe = app, hosts, describe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await self._describe(*refusal)(scope, receive, send_with_headers)
            return
        body = b""
        if scope["method"] not in SAFE_METHODS:
            taken = await _body(receive)
            if taken is None:
                await self._describe(*TOO_LARGE)(scope, receive, send_with_headers)
                return
            body = taken
            receive = _replay(body, receive)
        await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts and without_port(host.lower()) not in self._hosts:
            return 421, "this page is not served under that name; accepted: " + ", ".join(sorted(self._hosts))
        if scope["method"] in SAFE_METHODS:
            return None
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "the request comes from another page"
        if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return 403, "the request comes from another site"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 9 or int(length) > MOST_BODY_BYTES:
            return TOO_LARGE
        return None


async def _body(receive: Receive) -> bytes | None:
    """Return a request's body; None if it is too large, whatever its header says."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += bytes(message.get("body", b""))
        if len(body) > MOST_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a receive that gives the body once, and then what comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
