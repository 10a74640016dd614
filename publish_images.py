#!/usr/bin/env python3
"""Publish a camera's pictures to the farm: a webcam, picamera2, a video or a folder of pictures.

    python3 publish_images.py --pi-id pi1 --source 0 --broker mqtt://192.0.2.10:1883
    python3 publish_images.py --pi-id pi1 --source picamera --fps 5
    python3 publish_images.py --pi-id pi2 --source samples/side_walk.mp4 --loop --limit 300

Each frame waits in a spool on this machine's disk until the analyzer has confirmed its row.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import config, mqtt
from posture.errors import UserError
from posture.publisher import Publisher
from posture.runtime import EXIT_FAILED, EXIT_OK, Stop, run_script, setup_logging
from posture.sources import open_source
from posture.spool import Spool


def positive(text: str) -> float:
    """Parse a number above 0."""
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise ValueError
    return number


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Publish a camera's pictures over MQTT; none is lost on the way.")
    parser.add_argument("--pi-id", required=True, help="the stream's name, such as pi1")
    parser.add_argument(
        "--source", default="0", help="a webcam's number, picamera, a video, or a folder (default: 0)"
    )
    parser.add_argument("--broker", metavar="URL", help="mqtt://host:port or mqtts://host:port (default: settings)")
    parser.add_argument("--prefix", help="the farm's topic prefix (default: settings)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (default: cluster.yaml here)")
    parser.add_argument("--fps", type=positive, default=5.0, help="frames a second (default: 5)")
    parser.add_argument("--loop", action="store_true", help="start a video or folder again at its end")
    parser.add_argument("--limit", type=int, metavar="N", help="end after N frames")
    parser.add_argument("--tilt", type=float, default=0.0, metavar="DEG", help="tilt the picture slowly to and fro")
    parser.add_argument("--spool", type=Path, metavar="DIR", help="where frames wait (default: spool/<pi-id> here)")
    parser.add_argument("--spool-bytes", type=int, default=1_000_000_000, help="the oldest go beyond this (1 GB)")
    parser.add_argument("--spool-age", type=positive, default=86_400.0, metavar="S", help="older ones go (86400 s)")
    parser.add_argument(
        "--receipt-timeout", type=positive, default=30.0, metavar="S", help="then sent again (30 s)"
    )
    parser.add_argument(
        "--drain", type=float, default=30.0, metavar="S", help="wait for receipts at the end (30 s)"
    )
    parser.add_argument("--fail-fast", action="store_true", help="end if the broker is away")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON: what became of the frames")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser.parse_args(argv)


def progress(publisher: Publisher, spool: Spool) -> Callable[[], None]:
    """Return a function that shows how far we are: in place on a terminal, else every five seconds."""
    terminal = sys.stderr.isatty()
    shown_at = time.monotonic()

    def show() -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at < (0.5 if terminal else 5.0):
            return
        shown_at = time.monotonic()
        line = (
            f"captured {publisher.captured}, sent {publisher.sent} ({publisher.resent} again), "
            f"confirmed {publisher.receipted}, waiting {len(spool)}, dropped {spool.dropped}"
        )
        print(f"\r{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    return show


def main(argv: Sequence[str] | None = None) -> int:
    """Publish until the source ends, the limit is reached, or a signal."""
    flags = parse(argv)
    setup_logging(flags.debug)
    if not config.PI_ID.fullmatch(flags.pi_id):
        raise UserError(f"--pi-id {flags.pi_id!r} is no stream's name; accepted: a-z, 0-9 and -, up to 32")
    overrides = {
        name: value for name, value in (("url", flags.broker), ("prefix", flags.prefix)) if value is not None
    }
    settings = dataclasses.replace(config.load(flags.config, os.environ).mqtt, **overrides)
    if flags.broker is not None:
        broker = mqtt.parse_broker(flags.broker)
        settings = dataclasses.replace(settings, url=str(broker))
    frames = open_source(flags.source, loop=flags.loop, tilt_deg=flags.tilt)
    stop = Stop()
    stop.install()
    spool = Spool(flags.spool or HERE / "spool" / flags.pi_id, flags.spool_bytes, flags.spool_age)
    publisher = Publisher(
        settings, flags.pi_id, spool, stop, receipt_timeout_s=flags.receipt_timeout, fail_fast=flags.fail_fast
    )
    show = progress(publisher, spool)
    all_confirmed = publisher.run(frames, fps=flags.fps, limit=flags.limit, drain_s=flags.drain, show=show)
    result = {
        "captured": publisher.captured,
        "sent": publisher.sent,
        "resent": publisher.resent,
        "receipted": publisher.receipted,
        "dropped": spool.dropped,
        "in_spool": len(spool),
        "boot_id": publisher.boot_id,
    }
    if flags.json:
        print(json.dumps(result))
    if not all_confirmed:
        print(
            f"{len(spool)} frames have no receipt yet; they stay in the spool and are sent again", file=sys.stderr
        )
    return EXIT_OK if all_confirmed and not spool.dropped else EXIT_FAILED


if __name__ == "__main__":
    run_script(main)
