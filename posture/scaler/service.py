"""The External Scaler as a whole: its parts, put together, started and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from posture.runtime import EXIT_FAILED, EXIT_OK
from posture.scaler.debounce import Debounce
from posture.scaler.metrics import ScalerCollector
from posture.scaler.refresher import Refresher, Usage
from posture.scaler.server import ScalerServer
from posture.scaler.servicer import METRIC, Answers, Calls, ExternalScaler
from posture.scaler.supervisor import Supervisor
from posture.settings import table
from posture.system.addresses import split_listen
from posture.system.children import Child
from posture.system.probes import Exposition
from posture.usage.prometheus import Prometheus
from posture.usage.readings import UsageUnknownError

LAST_CALLS_S = 1.0
"""At the end, calls in progress may take so long."""
BALANCER_STOP_S = 3.0
"""At the end, the balancer may take so long; with LAST_CALLS_S the scaler stops in less than five seconds."""
HANGS_AFTER_S = 5.0
"""An event loop that has run nothing for so long hangs."""


def answers_of(settings: table.Settings) -> Answers:
    """Return the answers as they are before the first reading."""
    # a reading counts until the next one is due, and for as long as the query for that may take
    trusted_s = settings.scaler.refresh_s + settings.prometheus.timeout_s
    return Answers(Debounce(settings.balancer.threshold, settings.scaler.stabilize_s, trusted_s))


def show_once(settings: table.Settings, prometheus: Prometheus) -> int:
    """Print each node's usage and what KEDA would be answered.

    Returns:
        The exit status: EXIT_FAILED if no node's usage is known.
    """
    answers = answers_of(settings)
    usage = Usage(answers)
    usage.take(prometheus.sample())
    for node, found in usage.sampled.items():
        print(f"{node}: unknown" if isinstance(found, UsageUnknownError) else f"{node}: {found.value:.1f} %")
    debounce = answers.debounce
    print(f"{'Active' if debounce.active else 'inactive'}, {METRIC} {debounce.value:.1f}")
    return EXIT_OK if usage.valid_at is not None else EXIT_FAILED


class Service:
    """gRPC server, refresher, metrics and supervisor; must be created in the running event loop.

    The balancer is to run from the first Active on. Before there is data the answer is Active, so it is started
    at once.

    Args:
        settings: all settings.
        prometheus: where the usage is read.
        balancer: the command that starts the balancer; None: it runs elsewhere.
    """

    def __init__(self, settings: table.Settings, prometheus: Prometheus, balancer: Sequence[str] | None) -> None:
        self.stopping = asyncio.Event()
        self.ready = False
        self.loop = asyncio.get_running_loop()
        scaler, registry = settings.scaler, CollectorRegistry()
        self.answers = answers_of(settings)
        usage, calls = Usage(self.answers), Calls(registry, scaler.max_tracked)
        self.refresher = Refresher(
            prometheus.sample, scaler.refresh_s, self._in_loop(usage.take), self._in_loop(self.stopping.set)
        )
        self.server = ScalerServer(scaler, ExternalScaler(self.answers, calls, scaler.max_rpc_s))
        self.supervisor = None
        if balancer is not None:
            self.supervisor = Supervisor(lambda: Child("balancer", balancer, None), scaler.backoff_max_s)
        registry.register(ScalerCollector(usage, self.answers, calls, self.supervisor))
        for collector in (ProcessCollector, PlatformCollector):
            collector(registry=registry)
        if scaler.metrics_port:
            host = split_listen(scaler.listen)[0]
            Exposition(host, scaler.metrics_port, registry, self.is_unhealthy, self.is_unready)

    async def run(self) -> int:
        """Answer until SIGTERM or SIGINT, and return the exit status.

        Raises:
            UserError: the address can't be listened on.
        """
        asked = False

        def on_signal() -> None:
            nonlocal asked
            asked = True
            self.stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, on_signal)
        await self.server.start()
        self.ready = True
        self.refresher.start()
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self.stopping.wait())]
        if self.supervisor is not None:
            tasks.append(asyncio.create_task(self.supervisor.run()))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await self._stop()
        await asyncio.gather(*tasks[1:])
        return EXIT_OK if asked else EXIT_FAILED

    async def _stop(self) -> None:
        self.ready = False
        self.answers.close()
        ends = [self.server.stop(LAST_CALLS_S)]
        if self.supervisor is not None:
            ends.append(self.supervisor.stop(BALANCER_STOP_S))
        await asyncio.gather(*ends)

    def is_unhealthy(self) -> str:
        """Return why this process should be restarted, empty if it should not; called in a thread of /healthz."""
        turned = threading.Event()
        self._in_loop(turned.set)()
        return "" if turned.wait(HANGS_AFTER_S) else f"the event loop hasn't turned for {HANGS_AFTER_S:g} s"

    def is_unready(self) -> str:
        """Return why no calls can be answered yet, empty if they can be. Old usage is no reason not to answer."""
        return "" if self.ready else "the gRPC server is not up"

    def _in_loop(self, call: Callable[..., object]) -> Callable[..., object]:
        """Return a function that has ``call`` run in the event loop, for use in other threads."""

        def hand_over(*arguments: object) -> None:
            # RuntimeError: the loop is closed, so the process is about to end
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(call, *arguments)

        return hand_over


async def serve(settings: table.Settings, prometheus: Prometheus, balancer: Sequence[str] | None) -> int:
    """Answer KEDA until a signal, and return the exit status.

    Args:
        settings: all settings.
        prometheus: where the usage is read.
        balancer: the command that starts the balancer; None: it runs elsewhere.

    Raises:
        UserError: the address can't be listened on, or a certificate is not accepted.
    """
    return await Service(settings, prometheus, balancer).run()
