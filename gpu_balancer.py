#!/usr/bin/env python3
"""Move streams off overloaded nodes, at most one from each in a loop, until no node is over the threshold.

    python3 gpu_balancer.py                                  # until SIGTERM or Ctrl-C
    python3 gpu_balancer.py --dry-run --once --explain       # what it would do now, and why not more
    python3 gpu_balancer.py --policy readme --threshold 60

The cluster is the kubeconfig's (KUBECONFIG), or the one that this pod runs in.
"""

import argparse
import contextlib
import dataclasses
import logging
import random
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("scheduler")

from prometheus_client import CollectorRegistry, ProcessCollector

from posture.balancer.loop import Balancer
from posture.balancer.metrics import BalancerMetrics
from posture.errors import UserError
from posture.kube import client, errors
from posture.runtime import Stop, add_version_flag, run_script, setup_logging
from posture.settings import loading, table
from posture.settings.flags import add_config_flag, add_setting_flag, edited_queries, settings_with_flags
from posture.system import recorded_processes
from posture.system.probes import Exposition
from posture.usage.prometheus import Prometheus

log = logging.getLogger("gpu_balancer")

GPU_QUERIES = loading.GPU_QUERIES
"""Node -> {instance, signal} or {instance, metric}: where its usage is read. Edited in cluster.yaml."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Move streams off overloaded nodes.")
    add_version_flag(parser)

    def setting(flag: str, name: str, about: str, metavar: str | None = None) -> None:
        add_setting_flag(parser, flag, f"balancer.{name}", about, metavar=metavar)

    setting("--policy", "policy", "guarded or readme")
    setting("--threshold", "threshold", "a node above it is overloaded", "PERCENT")
    setting("--window", "window_s", "average over so many seconds", "S")
    setting("--sample-interval", "sample_interval_s", "seconds between samples", "S")
    setting("--interval", "interval_s", "seconds between windows", "S")
    add_config_flag(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
    parser.add_argument("--once", action="store_true", help="one loop; ends when its moves are done")
    parser.add_argument("--explain", action="store_true", help="print every veto with its numbers")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser.parse_args(argv)


def load_settings(flags: argparse.Namespace) -> table.Settings:
    """Return the settings of file, environment and flags.

    Raises:
        UserError: some are not accepted, or GPU_QUERIES is empty.
    """
    settings = settings_with_flags(flags)
    if not settings.gpu_queries:
        raise UserError(
            "GPU_QUERIES is empty: no node's usage is known; accepted: at least one node in cluster.yaml"
        )
    return settings


def main(argv: Sequence[str] | None = None) -> int:
    """Balance until a signal, or once."""
    flags = parse(argv)
    setup_logging(flags.debug)
    settings = load_settings(flags)
    stop = Stop()
    stop.install()

    def wait(seconds: float) -> None:
        stop.wait(seconds)
        if stop.requested:
            raise errors.UnreachableError("asked to stop while the API server did not answer")

    balancer = dataclasses.asdict(settings.balancer)
    log.info("%s%s", " ".join(f"{key}={value}" for key, value in balancer.items()), " dry-run" * flags.dry_run)
    registry = CollectorRegistry()
    metrics = BalancerMetrics(registry, settings.kubernetes.farm)
    ProcessCollector(registry=registry)
    folder = recorded_processes.folder_of(settings.kubernetes.namespace, settings.kubernetes.farm)
    stays = not (flags.dry_run or flags.once)
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(client.connect(settings.kubernetes, wait=wait))
        # pods become Ready by the API server's clock
        prometheus = Prometheus(
            settings.prometheus, settings.gpu_queries, cluster.now, context=settings.kubernetes.context
        )
        prometheus.follow(edited_queries(flags, settings))
        if stays:
            stack.enter_context(recorded_processes.recorded("balancer", folder))
        if stays and settings.balancer.metrics_port:
            host, port = settings.balancer.metrics_host, settings.balancer.metrics_port
            Exposition(host, port, registry, lambda: "", lambda: "")
        return Balancer(
            settings,
            cluster,
            prometheus,
            stop,
            random.Random(),  # noqa: S311 - it breaks ties
            metrics,
            dry_run=flags.dry_run,
            show_all=flags.explain,
        ).run(once=flags.once)


if __name__ == "__main__":
    run_script(main)
