#!/usr/bin/env python3
"""The whole analysis path on this machine: a broker, a camera, two analyzers, SQLite and the dashboard.

python3 run_local.py                                # the sample clip, 30 seconds; the second stream is tilted
python3 run_local.py --source 0                     # a webcam, as stream pi1 alone
python3 run_local.py --source walk.mp4 --limit 200  # 200 frames of a video, for each stream

Everything it makes lies in one new folder, local-run/<time>. Ends with status 1 if a frame was lost.
"""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("local")

from posture.camera.sources import is_camera, open_source
from posture.demo.run import ANALYZERS, Options, Run, free_port, page_port, report
from posture.errors import UserError
from posture.runtime import EXIT_FAILED, EXIT_OK, Stop, add_version_flag, run_script
from posture.settings import loading
from posture.settings.flags import add_config_flag, positive
from posture.system.terminal import Screen

DEFAULT_DURATION_S = 30.0


def default_clip() -> str:
    """Return the sample clip.

    Raises:
        UserError: there is none.
    """
    clips = sorted((HERE / "samples").glob("*.mp4"))
    if not clips:
        raise UserError(f"{HERE / 'samples'}: no clip there; give --source")
    return str(clips[0])


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Run broker, camera and analyzers on this machine.")
    add_version_flag(parser)
    parser.add_argument("--source", help="as for publish_images.py (default: the clip)")
    parser.add_argument("--fps", type=positive, default=10.0, help="frames a second and stream (default: 10)")
    parser.add_argument(
        "--duration",
        type=positive,
        metavar="S",
        help="end after so long (default: 30 s, or when --limit is reached)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="end after N frames of each stream")
    parser.add_argument("--output", type=Path, metavar="DIR", help="a new folder (default: local-run/<time>)")
    add_config_flag(parser)
    parser.add_argument("--embedded-broker", action="store_true", help="don't use Mosquitto, even if it is here")
    flags = parser.parse_args(argv)
    if flags.limit is not None and flags.limit < 1:
        raise UserError(f"--limit {flags.limit}: accepted: a whole number of at least 1")
    if flags.duration is None:
        flags.duration = DEFAULT_DURATION_S if flags.limit is None else math.inf
    return flags


def make_folder(output: Path | None) -> Path:
    """Return the folder of this run, new and empty.

    Raises:
        UserError: it can't be made, or has something in it.
    """
    folder = output or HERE / "local-run" / datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    folder = folder.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise UserError(f"--output {folder}: {error.strerror}; accepted: a folder that can be made") from None
    if taken:
        raise UserError(f"--output {folder}: has something in it; accepted: a new or empty folder")
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Run until --duration, --limit or Ctrl-C; then print what became of every frame."""
    flags = parse(argv)
    live = flags.source is not None and is_camera(flags.source)
    if flags.source is None:
        flags.source = default_clip()
    elif not live:
        if not Path(flags.source).exists():
            raise UserError(f"--source {flags.source}: there is no such file or folder")
        flags.source = str(Path(flags.source).resolve())
    # a camera is opened by its own program only: some can't be opened again at once
    open_source(flags.source, loop=True)
    # report wrong settings before anything starts
    loading.load(flags.config, os.environ)
    folder = make_folder(flags.output)
    stop = Stop()
    stop.install()
    # a webcam can be opened only once, so there is one stream
    pi_ids = ["pi1"] if live else list(ANALYZERS)
    options = Options(
        flags.source, flags.fps, flags.duration, flags.limit, flags.config, embedded_broker=flags.embedded_broker
    )
    screen = Screen(sys.stdout.isatty())
    run = Run(options, folder, stop, screen, pi_ids, free_port(), page_port=page_port())
    print(f"dashboard: http://127.0.0.1:{run.page_port}/ (while this runs)", flush=True)
    until = f"{flags.duration:g} s" if flags.limit is None else f"{flags.limit} frames of each stream"
    print(f"running for {until} in {folder} (Ctrl-C ends it sooner)")
    failure = ""
    try:
        run.serve()
    except UserError as error:
        failure = str(error)
    finally:
        run.end()
    lost = report(run)
    if failure:
        print(f"error: {failure}", file=sys.stderr)
    return EXIT_FAILED if lost or failure else EXIT_OK


if __name__ == "__main__":
    run_script(main)
