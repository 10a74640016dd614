#!/usr/bin/env python3
"""Show Prometheus how busy this node is: posture_gpu_usage_percent, posture_cpu_usage_percent, memory.

    python3 gpu_exporter.py --once                  # print what can be read here, and what was tried
    python3 gpu_exporter.py                         # serve http://<node>:9101/metrics until SIGTERM or Ctrl-C

Runs on every node: Jetsons (sysfs), NVIDIA's other GPUs (NVML), and machines without a GPU.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("exporter")

from prometheus_client.registry import CollectorRegistry

from posture.errors import UserError
from posture.exporter.exposition import NodeCollector
from posture.exporter.jetson import JetsonGpu
from posture.exporter.nvml import NvmlGpu
from posture.exporter.sampler import EACH_S, WINDOW_S, Figures, Sampler
from posture.runtime import EXIT_FAILED, EXIT_OK, Stop, add_version_flag, run_script, setup_logging
from posture.system.probes import Exposition

log = logging.getLogger("gpu_exporter")

ONCE_S = 1.0
"""How long ``--once`` looks."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Show Prometheus how busy this node's GPU and processors are.")
    add_version_flag(parser)
    parser.add_argument("--listen", type=address, default=("", 9101), metavar="[HOST]:PORT", help="default: :9101")
    for name in ("proc", "sys"):
        about = f"where the node's is mounted (default: /{name})"
        parser.add_argument(f"--{name}", type=Path, default=Path(f"/{name}"), metavar="DIR", help=about)
    parser.add_argument("--once", action="store_true", help="print what can be read, and what was tried")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser.parse_args(argv)


def address(text: str) -> tuple[str, int]:
    """Parse ``[host]:port``.

    Raises:
        argparse.ArgumentTypeError: it isn't one.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not accepted; accepted: [HOST]:PORT, such as :9101")
    return host, int(port)


def report(figures: Figures, problems: dict[str, str]) -> str:
    """Return the figures for a person to read."""
    found = {
        "GPU": (figures.gpu_percent, "{:.1f} %"),
        "CPU": (figures.cpu_percent, "{:.1f} %"),
        "memory available": (figures.memory_available, "{:,} bytes"),
        "memory pressure": (figures.memory_pressure_percent, "{:.1f} %"),
    }
    lines = [f"{what:17} {shape.format(value)}" for what, (value, shape) in found.items() if value is not None]
    if figures.gpu_source:
        lines.append(f"{'GPU read from':17} {figures.gpu_source}")
    lines += [f"{what:17} can't be read; tried: {why}" for what, why in problems.items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal, or print once."""
    flags = parse(argv)
    setup_logging(flags.debug)
    for mounted in (flags.proc, flags.sys):
        if not mounted.is_dir():
            raise UserError(f"{mounted} is no folder; accepted: where the node's /proc and /sys are mounted")
    stop = Stop()
    stop.install()
    sampler = Sampler(flags.proc, [JetsonGpu(flags.sys), NvmlGpu()])
    if flags.once:
        logging.disable()
        for _ in range(round(ONCE_S / EACH_S) + 1):
            sampler.sample()
            stop.wait(EACH_S)
        figures = sampler.figures()
        print(report(figures, sampler.problems))
        return EXIT_OK if figures.read_at is not None else EXIT_FAILED
    registry = CollectorRegistry()
    registry.register(NodeCollector(sampler))
    host, port = flags.listen

    def healthy() -> str:
        figures = sampler.figures()
        nothing = figures.gpu_percent is None and figures.cpu_percent is None
        return f"neither GPU nor CPU could be read in the last {WINDOW_S:g} s" if nothing else ""

    sampler.sample()
    Exposition(host, port, registry, lambda: "", healthy)
    log.info("http://%s:%d/metrics", host or "0.0.0.0", port)  # noqa: S104 - where it can be asked
    while not stop.requested:
        sampler.sample()
        stop.wait(EACH_S)
    return EXIT_OK


if __name__ == "__main__":
    run_script(main)
