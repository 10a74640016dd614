"""The login page, and how somebody gets a session."""

from __future__ import annotations

import asyncio
import logging
import time
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from posture.dashboard import pages, passwords
from posture.dashboard.access import Gate, has_token, token_of
from posture.dashboard.attempts import Attempts
from posture.system.untrusted import shown

log = logging.getLogger(__name__)

MOST_WAITING = 8
"""Logins whose passwords are being compared, or wait for that; further ones are sent away."""


class LoggingIn:
    """The pages ``/login`` and ``/logout``.

    Args:
        gate: the way in.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._by_name = Attempts(free=4)
        # an office may be behind one address
        self._by_address = Attempts(free=40)
        # one at a time: a comparison takes 32 MB and a fifth of a second
        self._comparing = asyncio.Lock()
        self._waiting = 0

    async def show(self, request: Request) -> Response:
        """Answer with the form."""
        next_page = _own_page(request.query_params.get("next", "/"))
        if self._gate.users is None or request.state.who is not None:
            return RedirectResponse(next_page, 303)
        return pages.login(token_of(request), next_page)

    async def log_in(self, request: Request) -> Response:
        """Take the form."""
        users = self._gate.users
        if users is None:
            raise HTTPException(404, "nobody logs in here")
        try:
            fields = dict(parse_qsl((await request.body()).decode(), max_num_fields=10))
        except ValueError:  # not UTF-8, or too many fields
            raise HTTPException(400, "that is no form of ours") from None
        name, password = fields.get("name", ""), fields.get("password", "")
        next_page = _own_page(fields.get("next", "/"))
        if not has_token(request, fields.get("token", "")):
            # another tab has logged in, or the cookie is too old; or another page has sent this
            complaint = "The form was too old. Please try again."
            return pages.login(token_of(request), next_page, name=name, complaint=complaint, status=403)
        address = request.client.host if request.client else ""
        tries = [(self._by_name, f"{address} {name[:64]}"), (self._by_address, address)]
        wait_s = max(attempts.wait_s(key, time.monotonic()) for attempts, key in tries)
        if wait_s > 0 or self._waiting >= MOST_WAITING:
            complaint = f"Too many attempts. Try again in {max(1, round(wait_s))} s."
            page = pages.login(token_of(request), next_page, name=name, complaint=complaint, status=429)
            page.headers["Retry-After"] = str(max(1, round(wait_s)))
            return page
        user = users.find(name)
        right = await self._matches(user or passwords.NOBODY, password)
        if user is None or not right:
            for attempts, key in tries:
                attempts.failed(key, time.monotonic())
            log.warning("login as %s from %s refused", shown(name, 64), address)
            complaint = "Name or password is wrong."
            return pages.login(token_of(request), next_page, name=name, complaint=complaint, status=401)
        for attempts, key in tries:
            attempts.succeeded(key)
        # what was in the cookie before is not to be of use to who has put it there
        request.session.clear()
        request.session.update(user=user.name, stamp=user.stamp, at=time.time())
        token_of(request)
        log.info("%s has logged in from %s as %s", user.name, address, user.role)
        return RedirectResponse(next_page, 303)

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        request.session.clear()
        return RedirectResponse("/login", 303)

    async def _matches(self, user: passwords.User, password: str) -> bool:
        if len(password) > passwords.MOST_PASSWORD:
            return False
        self._waiting += 1
        try:
            async with self._comparing:
                return await asyncio.to_thread(passwords.matches, user, password)
        finally:
            self._waiting -= 1


def _own_page(path: str) -> str:
    """Return a path of ours; anything that leads elsewhere becomes the first page."""
    plain = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if plain else "/"
