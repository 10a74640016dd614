"""Who asks, and what they may: viewers look, operators also command and delete.

Three ways: nobody logs in where only this machine reaches the page; a file of users; or a proxy that has let them
in and names them in a header, which counts from the proxy's own addresses alone.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from posture.dashboard.passwords import Users
from posture.dashboard.protection import SAFE_METHODS
from posture.errors import UserError
from posture.settings.paths import path_of
from posture.settings.table import Dashboard
from posture.system.addresses import is_loopback, split_listen

TOKEN_HEADER = "x-csrf-token"  # noqa: S105 - a name
OPEN_PATHS = ("/login", "/static/", "/healthz")
MOST_NAME = 64


@dataclass(frozen=True)
class Who:
    """Somebody who may look.

    Attributes:
        name: for people; empty where nobody logs in.
        operator: may command and delete, too.
    """

    name: str
    operator: bool


class Gate(Protocol):
    """One of the three ways in."""

    key: str
    """By which sessions are signed."""
    users: Users | None
    """Who may log in here; None where that is done elsewhere, or not at all."""

    def who(self, connection: HTTPConnection) -> Who | None:
        """Return who asks; None: nobody who may look."""


class ThisMachine:
    """Whoever is on this machine is its operator."""

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(32)
        self.users: Users | None = None

    def who(self, connection: HTTPConnection) -> Who | None:
        """See ``Gate``."""
        del connection
        return Who("", operator=True)


class Login:
    """A file of users.

    Args:
        users: the file.
        session_s: a session ends after so many seconds.
    """

    def __init__(self, users: Users, session_s: float) -> None:
        self.key, self._session_s = users.key, session_s
        self._file = users
        self.users: Users | None = users

    def who(self, connection: HTTPConnection) -> Who | None:
        """See ``Gate``."""
        session: dict[str, Any] = connection.session
        user = self._file.find(str(session.get("user", "")))
        began = session.get("at", 0.0)
        if user is None or session.get("stamp") != user.stamp or not 0 <= time.time() - began < self._session_s:
            return None
        return Who(user.name, operator=user.role == "operator")


class Proxy:
    """A proxy that has let them in.

    Args:
        header: names the user.
        addresses: the proxy's.
        operators: the users who may command.
    """

    def __init__(
        self,
        header: str,
        addresses: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network],
        operators: frozenset[str],
    ) -> None:
        self.key = secrets.token_urlsafe(32)
        self.users: Users | None = None
        self._header, self._addresses, self._operators = header, addresses, operators

    def who(self, connection: HTTPConnection) -> Who | None:
        """See ``Gate``."""
        given = connection.headers.getlist(self._header)
        if len(given) != 1 or not given[0].strip() or not self._is_proxy(connection):
            return None
        name = given[0].strip()
        return Who(name[:MOST_NAME], operator=name in self._operators)

    def _is_proxy(self, connection: HTTPConnection) -> bool:
        try:
            address = ipaddress.ip_address(connection.client.host if connection.client else "")
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._addresses)


def gate_of(settings: Dashboard) -> Gate:
    """Return the way in that the settings name.

    Raises:
        UserError: they name none for a page that other machines reach, or two; or the file of users can't be read.
    """
    if settings.users_file and settings.proxy_header:
        raise UserError("dashboard.users_file and dashboard.proxy_header are both set; accepted: one of them")
    if bool(settings.proxy_header) != bool(settings.proxy_addresses):
        raise UserError(
            "dashboard.proxy_header and dashboard.proxy_addresses: accepted: both or neither, since whoever "
            "reaches the page could send the header"
        )
    if settings.users_file:
        return Login(Users(path_of(settings.users_file)), settings.session_h * 3600)
    if settings.proxy_header:
        networks = [ipaddress.ip_network(part.strip()) for part in settings.proxy_addresses.split(",") if part]
        operators = frozenset(name.strip() for name in settings.proxy_operators.split(",") if name.strip())
        return Proxy(settings.proxy_header, networks, operators)
    if is_loopback(split_listen(settings.listen)[0]):
        return ThisMachine()
    raise UserError(
        f"dashboard.listen: {settings.listen} is reached from other machines, and anybody there could look; "
        "accepted: dashboard.users_file (python3 dashboard.py --add-user NAME), or dashboard.proxy_header with "
        "dashboard.proxy_addresses, or an address of this machine alone, such as 127.0.0.1:8470"
    )


def token_of(connection: HTTPConnection) -> str:
    """Return what each command of this browser must bear; made where there is none."""
    session: dict[str, Any] = connection.session
    return str(session.setdefault("token", secrets.token_urlsafe(24)))


def has_token(connection: HTTPConnection, given: str) -> bool:
    """Return whether a command bears what it must."""
    token = str(connection.session.get("token", ""))
    return bool(token) and hmac.compare_digest(token.encode(), given.encode())


class Access:
    """Lets through who may; puts who it is into ``request.state.who``.

    Args:
        app: what is behind it; sessions are before it.
        gate: the way in.
        refuse: makes the answer to one who may not: status and why.
        again: makes a page that asks for itself again.
    """

    def __init__(
        self,
        app: ASGIApp,
        gate: Gate,
        refuse: Callable[[HTTPConnection, int, str], Response],
        again: Callable[[], Response],
    ) -> None:
        self._app, self._gate, self._refuse, self._again = app, gate, refuse, again

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        who = self._gate.who(connection)
        connection.state.who = who
        answer = self._answer(connection, scope["method"], who)
        await (answer or self._app)(scope, receive, send)

    def _answer(self, connection: HTTPConnection, method: str, who: Who | None) -> Response | None:
        """Return what is answered in place of the page; None: the page is."""
        path = connection.url.path
        if path.startswith(OPEN_PATHS):
            return None
        if who is None:
            return self._not_known(connection, path)
        if method in SAFE_METHODS:
            return None
        if not has_token(connection, connection.headers.get(TOKEN_HEADER, "")):
            return self._refuse(connection, 403, "the request lacks this page's token; load the page again")
        if path != "/logout" and not who.operator:
            return self._refuse(connection, 403, "this needs the operator's role")
        return None

    def _not_known(self, connection: HTTPConnection, path: str) -> Response:
        if self._gate.users is None:
            return self._refuse(connection, 403, "only users whom the proxy names may look")
        if path.startswith("/api/"):
            return self._refuse(connection, 401, "log in first")
        if connection.headers.get("sec-fetch-site") == "cross-site":
            return self._again()  # the cookie is strict: it does not come with a link on another page
        query = f"?{connection.url.query}" if connection.url.query else ""
        return RedirectResponse(f"/login?next={quote(path + query, safe='')}", 303)
