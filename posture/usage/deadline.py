"""HTTP requests that end in time, whatever the server does.

requests' own time-out starts again with every byte: a server that sends one a second holds a request up for ever,
in the TLS handshake, the status line, the headers or the body.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class _Adapter(HTTPAdapter):
    """One connection; ``tls`` decides who is trusted and who we are, where it is given."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=self._tls, **options)

    def cert_verify(self, *arguments: Any, **options: Any) -> None:
        if self._tls is None:
            super().cert_verify(*arguments, **options)  # type: ignore[no-untyped-call]


class DeadlineSession(requests.Session):
    """A session whose connection can be cut while it is in use. For one thread at a time.

    Args:
        tls: whom to trust, and our certificate; None: as requests does it.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._connected: socket.socket | None = None
        """A second handle of the connection: TLS takes the first one away from who opened it."""
        self._late = threading.Event()
        """Set once the time of the block that uses the connection is up."""
        note = self._note

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return note(super()._new_conn())

        class WithTls(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return note(super()._new_conn())

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = WithTls

        adapter = _Adapter(tls)
        adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[threading.Event]:
        """Cut the connection if what is in the block takes longer.

        Args:
            seconds: from now on.

        Yields:
            An event that is set once the time is up.
        """
        late = self._late = threading.Event()
        timer = threading.Timer(seconds, self._cut, [late])
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    def close(self) -> None:
        """Close the connection."""
        super().close()
        self._forget()

    def _note(self, connected: socket.socket) -> socket.socket:
        self._forget()
        self._connected = connected.dup()
        if self._late.is_set():  # before there was a connection to be cut
            self._cut(self._late)
        return connected

    def _forget(self) -> None:
        if self._connected is not None:
            self._connected.close()

    def _cut(self, late: threading.Event) -> None:
        late.set()
        if self._connected is not None:
            with contextlib.suppress(OSError):
                self._connected.shutdown(socket.SHUT_RDWR)
