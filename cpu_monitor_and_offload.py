#!/usr/bin/env python3
"""KEDA's External Scaler: KEDA asks if the farm has room, the nodes' usage answers. Keeps the balancer running.

    python3 cpu_monitor_and_offload.py --once                        # what would be answered now
    python3 cpu_monitor_and_offload.py --listen 127.0.0.1:50051 --no-balancer --interval 2
    python3 cpu_monitor_and_offload.py --tls-cert tls.crt --tls-key tls.key --client-ca ca.crt
    python3 cpu_monitor_and_offload.py --insecure                    # plaintext, for a network that is trusted

Calls are answered from memory; every few seconds one query for each signal, for all nodes at once, renews it.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("scheduler")

from posture.settings import loading, paths, table
from posture.settings.flags import (
    add_config_flag,
    add_setting_flag,
    config_arguments,
    edited_queries,
    settings_with_flags,
)

GPU_QUERIES = loading.GPU_QUERIES
"""Node -> {instance, signal} or {instance, metric}; edited in cluster.yaml."""

from posture.errors import UserError
from posture.runtime import add_version_flag, run_script, setup_logging
from posture.scaler.server import check_exposure
from posture.scaler.service import serve, show_once
from posture.usage.prometheus import Prometheus

log = logging.getLogger("scaler")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Answer KEDA from the nodes' usage; keep the balancer running.")
    add_version_flag(parser)

    def setting(flag: str, name: str, metavar: str, about: str) -> None:
        add_setting_flag(parser, flag, f"scaler.{name}", about, metavar=metavar)

    add_config_flag(parser)
    setting("--listen", "listen", "ADDRESS", "where KEDA asks: :port or host:port")
    setting("--tls-cert", "tls_cert", "FILE", "our certificate")
    setting("--tls-key", "tls_key", "FILE", "its private key")
    setting("--client-ca", "client_ca", "FILE", "only clients with a certificate of this authority are answered")
    setting("--client-name", "client_name", "NAME", "what its certificate must name (keda-operator)")
    add_setting_flag(parser, "--reflection", "scaler.reflection", "answer grpcurl's question which calls there are")
    add_setting_flag(parser, "--insecure", "scaler.insecure", "plaintext beyond this machine")
    setting("--metrics-port", "metrics_port", "PORT", "/metrics, /healthz and /readyz; 0: none")
    setting("--interval", "refresh_s", "S", "how often the usage is read")
    setting("--max-rpc-seconds", "max_rpc_s", "S", "how long a stream of answers may last")
    parser.add_argument("--no-balancer", action="store_true", help="gpu_balancer.py runs elsewhere, or not at all")
    parser.add_argument("--dry-run", action="store_true", help="the balancer only says what it would move")
    parser.add_argument("--once", action="store_true", help="read the usage once, show what would be answered, end")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser.parse_args(argv)


def read_settings(flags: argparse.Namespace) -> table.Settings:
    """Return the settings of file, environment and flags.

    Raises:
        UserError: they are not accepted.
    """
    settings = settings_with_flags(flags)
    if not settings.gpu_queries:
        file = flags.config or HERE / "cluster.yaml"
        raise UserError(f"{file}: GPU_QUERIES is empty; accepted: node: {{instance: host:port, metric: name}}")
    return settings


def balancer_command(flags: argparse.Namespace, settings: table.Settings) -> list[str]:
    """Return how the balancer is started.

    Raises:
        UserError: it isn't there.
    """
    script = paths.path_of(settings.scaler.balancer_script)
    if not script.is_file():
        raise UserError(f"scaler.balancer_script: {script} is no file; accepted: a program, or --no-balancer")
    command = [sys.executable, str(script), *config_arguments(flags.config)]
    return command + [flag for flag, given in (("--dry-run", flags.dry_run), ("--debug", flags.debug)) if given]


def main(argv: Sequence[str] | None = None) -> int:
    """Answer KEDA until a signal."""
    flags = parse(argv)
    setup_logging(flags.debug)
    settings = read_settings(flags)
    prometheus = Prometheus(settings.prometheus, settings.gpu_queries, context=settings.kubernetes.context)
    if flags.once:
        return show_once(settings, prometheus)
    prometheus.follow(edited_queries(flags, settings))
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
