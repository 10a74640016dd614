"""A connection to Supabase's REST interface, by Supabase's own client; its errors say what to do."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
from postgrest.exceptions import APIError
from supabase import Client, ClientOptions, SupabaseException, create_client

from posture.store.base import ACCEPTED_URLS, URL_SETTING, StoreRefusedError, StoreUnavailableError
from posture.system.addresses import is_loopback, origin

KEY_SETTING = "POSTURE_SUPABASE_KEY"
REFUSED_KEY = ("42501", "PGRST301", "PGRST302", "PGRST303")
HEALING_CLASSES = ("08", "25", "40", "53", "55", "57", "58")
"""Classes of SQLSTATE that time heals: connection, read-only, rolled back, resources, locks, operator, system."""
SCHEMA_CLASSES = ("22", "23", "42", "54")
HEALING_STATUS = (408, 409, 425, 429)


class SupabaseConnection:
    """Requests to one project.

    Args:
        url: the project's address, ``https://...``.
        key: its secret key; row level security shuts the public one out.
        timeout_s: bound of connecting, sending, and each wait for bytes, in seconds.

    Attributes:
        name: the project's address, for messages.
        client: composes requests, which ``call`` sends.
        error: what the last answer said of its error, if it was one.

    Raises:
        StoreRefusedError: the client can't use address and key.
    """

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        self.name = origin(url)
        self._turn = threading.Lock()
        self._status = 0
        self.error: dict[str, Any] = {}
        # a redirected POST would become a GET, whose rows would read as written: so none is followed
        self._http = httpx.Client(
            timeout=timeout_s, follow_redirects=False, event_hooks={"response": [self._remember_status]}
        )
        options = ClientOptions(httpx_client=self._http, auto_refresh_token=False, persist_session=False)
        key = key.strip()
        try:
            if not key.isascii() or not key.isprintable():
                raise SupabaseException("no key")
            place = httpx.URL(url)
            if place.scheme != "https" and not is_loopback(place.host):
                self.close()
                raise StoreRefusedError(
                    f"{URL_SETTING}: {self.name} would get {KEY_SETTING} unencrypted; accepted: https://..., "
                    "and http:// to this machine alone"
                )
            self.client: Client = create_client(url, key, options)
        except (SupabaseException, ValueError, httpx.InvalidURL):
            self.close()
            raise StoreRefusedError(
                f"{URL_SETTING}, {KEY_SETTING}: Supabase's client can't use them; accepted: {ACCEPTED_URLS}, "
                "and the project's secret key"
            ) from None

    def _remember_status(self, response: httpx.Response) -> None:
        """Keep what the client's own error leaves out: the status always, and in older versions the code."""
        self._status, self.error = response.status_code, {}
        if not response.is_success:
            with contextlib.suppress(ValueError):
                answer = json.loads(response.read())
                self.error = answer if isinstance(answer, dict) else {}

    def call(self, request: Callable[[], Any]) -> Any:
        """Send a request; return what of the answer it picks, which is a list of rows or a number.

        Raises:
            StoreUnavailableError: try again later.
            StoreRefusedError: a person must act.
        """
        with self._turn:
            return self._call(request)

    def _call(self, request: Callable[[], Any]) -> Any:
        try:
            answer = request()
        except APIError:
            raise self._failure(str(self.error.get("code") or "")) from None
        except httpx.HTTPError as error:
            text = " ".join(f"{type(error).__name__} {error}".split())
            raise StoreUnavailableError(f"database {self.name}: {text}") from None
        if not isinstance(answer, (list, int)):
            # the page of some proxy in between, with a status that says all is well
            raise StoreUnavailableError(
                f"database {self.name}: what answers with status {self._status} is not Supabase"
            )
        return answer

    def _failure(self, code: str) -> StoreUnavailableError | StoreRefusedError:
        status = self._status
        text = f"{self.error.get('message') or 'status'} ({code or status})"
        state = code[:2] if len(code) == 5 else ""
        if state in HEALING_CLASSES:
            return StoreUnavailableError(f"database {self.name}: {text}")
        if status in (401, 403) or code in REFUSED_KEY:
            return StoreRefusedError(
                f"{KEY_SETTING}: {self.name} refuses it: {text}; accepted: the project's secret key"
            )
        if status == 402:
            return StoreRefusedError(
                f"{URL_SETTING}: {self.name} refuses us: its quota is used up or its bill is open: {text}"
            )
        if 300 <= status < 400:
            return StoreRefusedError(
                f"{URL_SETTING}: {self.name} redirects us ({status}); accepted: the address there"
            )
        if state not in SCHEMA_CLASSES and (status >= 500 or status in HEALING_STATUS):
            return StoreUnavailableError(f"database {self.name}: {text}")
        return StoreRefusedError(
            f"{URL_SETTING}: {self.name} can't take our rows: {text}; run deploy/schema/schema.sql there"
        )

    def close(self) -> None:
        """Close it."""
        self._http.close()


def moment_of(text: str) -> datetime:
    """Return a time as PostgreSQL writes it in JSON: without the zeros at the end, which Python 3.10 wants."""
    seconds, point, rest = text.partition(".")
    if not point:
        return datetime.fromisoformat(text)
    fraction, offset = rest[:-6], rest[-6:]
    return datetime.fromisoformat(f"{seconds}.{fraction:0<6}{offset}")
