"""The External Scaler as a whole, within this process."""

from __future__ import annotations

import asyncio
import threading

import pytest
from driven_exporter import gpu_queries
from scaler_process import ANSWER_S

from posture.scaler import service
from posture.settings import table
from posture.usage.prometheus import Prometheus


def test_an_event_loop_that_hangs_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = table.Settings(scaler=table.Scaler(metrics_port=0), gpu_queries=gpu_queries("a", "b"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def make() -> service.Service:
        prometheus = Prometheus(settings.prometheus, settings.gpu_queries)
        return service.Service(settings, prometheus, None)

    made = asyncio.run_coroutine_threadsafe(make(), loop).result(ANSWER_S)
    monkeypatch.setattr(service, "HANGS_AFTER_S", ANSWER_S)
    assert made.is_unhealthy() == ""
    released = threading.Event()
    loop.call_soon_threadsafe(released.wait)
    monkeypatch.setattr(service, "HANGS_AFTER_S", 0.2)
    assert made.is_unhealthy() == "the event loop hasn't turned for 0.2 s"
    released.set()
    asyncio.run_coroutine_threadsafe(made.server.stop(0), loop).result(ANSWER_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(ANSWER_S)
    loop.close()
