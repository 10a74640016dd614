"""The scaler's gRPC server within the test's process, with readings that the test decides."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from scaler_process import ANSWER_S, Certificates
from servers import free_port

from posture.scaler.debounce import Debounce
from posture.scaler.server import ScalerServer
from posture.scaler.servicer import Answers, Calls, ExternalScaler
from posture.settings.table import Scaler

WINDOW_S = 120.0


class RunningServer:
    """The server with its own event loop in a thread; what the answers are told comes from the test."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Scaler(listen=f"127.0.0.1:{free_port()}", **settings)
        self.address = self.settings.listen
        self.registry = CollectorRegistry()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._now = 0.0
        self.run(self._start())

    async def _start(self) -> None:
        self.answers = Answers(Debounce(50.0, WINDOW_S, WINDOW_S))
        self.calls = Calls(self.registry, self.settings.max_tracked)
        self.server = ScalerServer(self.settings, ExternalScaler(self.answers, self.calls, self.settings.max_rpc_s))
        await self.server.start()

    def run(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(ANSWER_S)

    def observe(self, usage: dict[str, float], after: float = 1.0) -> None:
        """A reading so many seconds after the last one."""

        async def take() -> None:
            self._now += after
            self.answers.observe(usage, self._now)

        self.run(take())

    def close(self) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_S)
        self._loop.close()

    async def _close(self, last_calls_s: float = 0.2) -> None:
        self.answers.close()
        await self.server.stop(last_calls_s)


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code()


def tls_settings(certificates: Certificates, *, mutual: bool = True) -> dict[str, str]:
    cert, key = certificates.issue("server")
    settings = {"tls_cert": str(cert), "tls_key": str(key)}
    return settings | ({"client_ca": str(certificates.ca)} if mutual else {})
