#!/usr/bin/env python3
"""Publish a camera's pictures to the farm: a webcam, picamera2, a video or a folder of pictures.

    python3 publish_images.py --pi-id pi1 --source 0 --broker mqtt://192.0.2.10:1883
    python3 publish_images.py --pi-id pi1 --source picamera --fps 5
    python3 publish_images.py --pi-id pi1 --source rtsp://192.0.2.20/stream
    python3 publish_images.py --pi-id pi2 --source samples/side_walk.mp4 --loop --limit 300

Each frame waits in a spool on this machine's disk until the analyzer has confirmed its row.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("camera")

from posture.camera.publisher import Publisher
from posture.camera.sources import open_source
from posture.camera.spool import Memory, Spool, Waiting
from posture.errors import UserError
from posture.runtime import (
    EXIT_FAILED,
    EXIT_OK,
    Stop,
    add_version_flag,
    keep_files_private,
    run_script,
    setup_logging,
)
from posture.settings import parsers
from posture.settings.flags import (
    add_config_flag,
    add_setting_flag,
    at_least_0,
    positive,
    settings_with_flags,
    whole,
)
from posture.system import native_output
from posture.wire import mqtt

MEMORY_BYTES = 64_000_000
"""Bounds the frames that wait with --no-spool, in bytes."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Publish a camera's pictures over MQTT; none is lost on the way.")
    add_version_flag(parser)
    parser.add_argument("--pi-id", required=True, help="the stream's name, such as pi1")
    parser.add_argument(
        "--source",
        default="0",
        help="a webcam's number or device, picamera, a camera's rtsp:// or http:// address, a video, a picture, "
        "or a folder of them (default: 0)",
    )
    about = "mqtt://host:port or mqtts://host:port"
    add_setting_flag(parser, "--broker", "mqtt.url", about, metavar="URL", complete=mqtt.with_scheme)
    add_setting_flag(parser, "--prefix", "mqtt.prefix", "the farm's topic prefix")
    add_config_flag(parser)
    parser.add_argument("--fps", type=positive, default=5.0, help="frames a second (default: 5)")
    parser.add_argument("--loop", action="store_true", help="start a video or folder again at its end")
    parser.add_argument("--limit", type=whole, metavar="N", help="end after N frames")
    parser.add_argument(
        "--tilt", type=at_least_0, default=0.0, metavar="DEG", help="tilt slowly to and fro, so far"
    )
    add_setting_flag(parser, "--ca-file", "mqtt.ca_file", "who signed the broker's certificate", metavar="FILE")
    add_setting_flag(parser, "--cert", "mqtt.cert_file", "our certificate, where the broker asks", metavar="FILE")
    add_setting_flag(parser, "--key", "mqtt.key_file", "its private key", metavar="FILE")
    parser.add_argument("--spool", type=Path, metavar="DIR", help="where frames wait (default: spool/<pi-id> here)")
    parser.add_argument("--no-spool", action="store_true", help="frames wait in memory, for the broker alone")
    parser.add_argument("--no-fsync", action="store_true", help="spare the disk; a power cut costs the last frames")
    parser.add_argument("--spool-bytes", type=whole, default=1_000_000_000, help="the oldest go beyond this (1 GB)")
    parser.add_argument("--spool-age", type=positive, default=86_400.0, metavar="S", help="older ones go (86400 s)")
    parser.add_argument(
        "--receipt-timeout", type=positive, default=30.0, metavar="S", help="then sent again (30 s)"
    )
    parser.add_argument(
        "--drain", type=at_least_0, default=30.0, metavar="S", help="wait for receipts at the end (30 s)"
    )
    parser.add_argument("--fail-fast", action="store_true", help="end if the broker or the camera is away")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON: what became of the frames")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser.parse_args(argv)


def progress(publisher: Publisher, waiting: Waiting) -> Callable[..., None]:
    """Return a function that prints the progress: in place on a terminal, else once a minute, for a log."""
    terminal = sys.stderr.isatty()
    shown_at = time.monotonic()

    def show(last: bool = False) -> None:
        nonlocal shown_at
        if not last and time.monotonic() - shown_at < (0.5 if terminal else 60.0):
            return
        shown_at = time.monotonic()
        line = (
            f"captured {publisher.captured}, sent {publisher.sent} ({publisher.resent} again), "
            f"confirmed {publisher.receipted}, waiting {len(waiting)}, dropped {waiting.dropped}"
        )
        end = "" if terminal and not last else "\n"
        print(f"\r{line}" if terminal else line, end=end, file=sys.stderr, flush=True)

    return show


def main(argv: Sequence[str] | None = None) -> int:
    """Publish until the source ends, the limit is reached, or a signal comes."""
    flags = parse(argv)
    native_output.hold_back()
    setup_logging(flags.debug)
    keep_files_private()
    if not parsers.PI_ID.fullmatch(flags.pi_id):
        raise UserError(f"--pi-id {flags.pi_id!r} is no stream's name; accepted: a-z, 0-9 and -, up to 32")
    settings = settings_with_flags(flags)
    stop = Stop()
    frames = open_source(
        flags.source,
        loop=flags.loop,
        tilt_deg=flags.tilt,
        camera=settings.camera,
        fail_fast=flags.fail_fast,
        given_up=lambda: stop.requested,
    )
    stop.install()
    waiting: Waiting
    if flags.no_spool:
        waiting = Memory(min(flags.spool_bytes, MEMORY_BYTES), flags.spool_age)
    else:
        folder = flags.spool or HERE / "spool" / flags.pi_id
        waiting = Spool(folder, flags.spool_bytes, flags.spool_age, sync=not flags.no_fsync)
    publisher = Publisher(
        settings.mqtt,
        flags.pi_id,
        waiting,
        stop,
        receipts=not flags.no_spool,
        receipt_timeout_s=flags.receipt_timeout,
        fail_fast=flags.fail_fast,
    )
    show = progress(publisher, waiting)
    all_gone = publisher.run(frames, fps=flags.fps, limit=flags.limit, drain_s=flags.drain, show=show)
    show(last=True)
    report(publisher, waiting, as_json=flags.json)
    waiting.close()
    if publisher.source_error is not None:
        raise publisher.source_error
    return EXIT_OK if all_gone and not waiting.dropped and not waiting.set_aside else EXIT_FAILED


def report(publisher: Publisher, waiting: Waiting, *, as_json: bool) -> None:
    """Print what became of the frames."""
    if as_json:
        result = {
            "captured": publisher.captured,
            "sent": publisher.sent,
            "resent": publisher.resent,
            "acknowledged": publisher.acknowledged,
            "receipted": publisher.receipted,
            "refused_receipts": publisher.refused_receipts,
            "dropped": waiting.dropped,
            "set_aside": waiting.set_aside,
            "in_spool": len(waiting),
            "boot_id": publisher.boot_id,
        }
        print(json.dumps(result), flush=True)
    if waiting.dropped:
        print(f"{waiting.dropped} frames were dropped: the spool was full, or they were too old", file=sys.stderr)
    if waiting.set_aside:
        print(
            f"{waiting.set_aside} frames were set aside: each ended the connection to the broker", file=sys.stderr
        )
    if not len(waiting):
        return
    if isinstance(waiting, Spool):
        what = "have no receipt yet; they stay in the spool and are sent again"
    else:
        what = "were not acknowledged by the broker, and are lost"
    print(f"{len(waiting)} frames {what}", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
