#!/usr/bin/env python3
"""KEDA's External Scaler: KEDA asks if the farm has room, the nodes' usage answers. Keeps the balancer running.

    python3 cpu_monitor_and_offload.py --once                        # what would be answered now
    python3 cpu_monitor_and_offload.py --listen 127.0.0.1:50051 --no-balancer --interval 2
    python3 cpu_monitor_and_offload.py --tls-cert tls.crt --tls-key tls.key --client-ca ca.crt
    python3 cpu_monitor_and_offload.py --insecure                    # plaintext, for a network that is trusted

Calls are answered from memory; one query every few seconds, for all nodes at once, renews it.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture.settings import loading, paths, table
from posture.settings.flags import flag_type

GPU_QUERIES = loading.GPU_QUERIES
"""Node -> instance and metric; edited in cluster.yaml."""

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from posture.errors import UserError
from posture.runtime import EXIT_FAILED, EXIT_OK, run_script, setup_logging
from posture.scaler.debounce import Debounce
from posture.scaler.metrics import ScalerCollector
from posture.scaler.refresher import Refresher, Usage
from posture.scaler.server import ScalerServer, check_exposure, split_listen
from posture.scaler.servicer import METRIC, Answers, Calls, ExternalScaler
from posture.scaler.supervisor import Supervisor
from posture.system.children import Child
from posture.system.probes import Exposition
from posture.usage.prometheus import Prometheus
from posture.usage.readings import UsageUnknownError

LAST_CALLS_S = 1.0
BALANCER_STOP_S = 3.0
"""Our whole stop takes less than five seconds."""
HANGS_AFTER_S = 5.0

log = logging.getLogger("scaler")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags; those that override a setting bear its name."""
    parser = argparse.ArgumentParser(description="Answer KEDA from the nodes' usage; keep the balancer running.")

    def setting(flag: str, name: str, metavar: str, about: str) -> None:
        kind = flag_type("scaler", name)
        parser.add_argument(flag, dest=name, type=kind, metavar=metavar, help=f"{about} (default: settings)")

    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (default: cluster.yaml here)")
    setting("--listen", "listen", "ADDRESS", "where KEDA asks: :port or host:port")
    setting("--tls-cert", "tls_cert", "FILE", "our certificate")
    setting("--tls-key", "tls_key", "FILE", "its private key")
    setting("--client-ca", "client_ca", "FILE", "only clients with a certificate of this authority are answered")
    parser.add_argument("--insecure", action="store_true", default=None, help="plaintext beyond this machine")
    setting("--metrics-port", "metrics_port", "PORT", "/metrics, /healthz and /readyz; 0: none")
    setting("--interval", "refresh_s", "S", "how often the usage is read")
    setting("--max-rpc-seconds", "max_rpc_s", "S", "how long a stream of answers may last")
    parser.add_argument("--no-balancer", action="store_true", help="gpu_balancer.py runs elsewhere, or not at all")
    parser.add_argument("--dry-run", action="store_true", help="the balancer only says what it would move")
    parser.add_argument("--once", action="store_true", help="read the usage once, show what would be answered, end")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser.parse_args(argv)


def read_settings(flags: argparse.Namespace) -> table.Settings:
    """Return the settings, with what the flags say of the scaler.

    Raises:
        UserError: they are not accepted.
    """
    settings = loading.load(flags.config, os.environ)
    if not settings.gpu_queries:
        file = flags.config or HERE / "cluster.yaml"
        raise UserError(f"{file}: GPU_QUERIES is empty; accepted: node: {{instance: host:port, metric: name}}")
    names = {entry.name for entry in dataclasses.fields(table.Scaler)}
    given = {name: value for name, value in vars(flags).items() if name in names and value is not None}
    return dataclasses.replace(settings, scaler=dataclasses.replace(settings.scaler, **given))


def balancer_command(flags: argparse.Namespace, settings: table.Settings) -> list[str]:
    """Return how the balancer is started.

    Raises:
        UserError: it isn't there.
    """
    script = paths.path_of(settings.scaler.balancer_script)
    if not script.is_file():
        raise UserError(f"scaler.balancer_script: {script} is no file; accepted: a program, or --no-balancer")
    command = [sys.executable, str(script)]
    if flags.config:
        command += ["--config", str(flags.config.resolve())]
    return command + [flag for flag, given in (("--dry-run", flags.dry_run), ("--debug", flags.debug)) if given]


def answers_of(settings: table.Settings) -> Answers:
    """Return the answers as they are before anything is known."""
    # a reading speaks for the time until the next one is due and has had its time to come
    trusted_s = settings.scaler.refresh_s + settings.prometheus.timeout_s
    return Answers(Debounce(settings.balancer.threshold, settings.scaler.stabilize_s, trusted_s))


def show_once(settings: table.Settings, prometheus: Prometheus) -> int:
    """Print each node's usage, and what KEDA would be told."""
    answers = answers_of(settings)
    usage = Usage(answers)
    usage.take(prometheus.sample())
    for node, found in usage.sampled.items():
        print(f"{node}: unknown" if isinstance(found, UsageUnknownError) else f"{node}: {found.value:.1f} %")
    debounce = answers.debounce
    print(f"{'Active' if debounce.active else 'inactive'}, {METRIC} {debounce.value:.1f}")
    return EXIT_OK if usage.valid_at is not None else EXIT_FAILED


class Service:
    """All parts, from start to end; made in the event loop.

    Before there is data the answer is Active. So the balancer, which runs from the first Active on, starts with us.

    Args:
        settings: all of them.
        prometheus: where the usage is read.
        balancer: the command that starts it; None: it runs elsewhere.
    """

    def __init__(self, settings: table.Settings, prometheus: Prometheus, balancer: Sequence[str] | None) -> None:
        self.settings = settings
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
        """Answer until SIGTERM or SIGINT, and return the exit status."""
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
        """Return what speaks against going on; called in a thread of the exposition."""
        turned = threading.Event()
        self._in_loop(turned.set)()
        return "" if turned.wait(HANGS_AFTER_S) else f"the event loop hasn't turned for {HANGS_AFTER_S:g} s"

    def is_unready(self) -> str:
        """Return what speaks against being asked. How old the usage is doesn't: the last answer holds."""
        return "" if self.ready else "the gRPC server is not up"

    def _in_loop(self, call: Callable[..., object]) -> Callable[..., object]:
        """Return a function for other threads, that calls this one in the event loop."""

        def hand_over(*arguments: object) -> None:
            # a loop that is closed belongs to a process that ends
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(call, *arguments)

        return hand_over


async def serve(settings: table.Settings, prometheus: Prometheus, balancer: Sequence[str] | None) -> int:
    """Answer until a signal, and return the exit status."""
    return await Service(settings, prometheus, balancer).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Answer KEDA until a signal."""
    flags = parse(argv)
    setup_logging(flags.debug)
    settings = read_settings(flags)
    prometheus = Prometheus(settings.prometheus, settings.gpu_queries)
    if flags.once:
        return show_once(settings, prometheus)
    check_exposure(settings.scaler, os.environ)
    balancer = None if flags.no_balancer else balancer_command(flags, settings)
    scaler = settings.scaler
    log.info(
        "answering on %s (%s) from %d nodes, read every %g s; threshold %g %%, Active holds for %g s; balancer: %s",
        scaler.listen,
        "mutual TLS" if scaler.client_ca else "TLS" if scaler.tls_cert else "plaintext",
        len(settings.gpu_queries),
        scaler.refresh_s,
        settings.balancer.threshold,
        scaler.stabilize_s,
        "none" if balancer is None else balancer[1],
    )
    return asyncio.run(serve(settings, prometheus, balancer))


if __name__ == "__main__":
    run_script(main)
