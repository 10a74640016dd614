"""One stream's analyzer as a program: flags, store, model, stream and pipeline, put together and ended in order."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import TypeVar

import cv2

from posture.analyzer.calibration import calibrate
from posture.analyzer.clearing import clear_topics
from posture.analyzer.log_lines import destinations
from posture.analyzer.pipeline import Pipeline
from posture.analyzer.pose import PoseEstimator
from posture.analyzer.progress import Progress
from posture.analyzer.subscriber import Stream
from posture.errors import UserError
from posture.pictures.base import Pictures, PicturesRefusedError, PicturesUnavailableError
from posture.pictures.opening import open_pictures
from posture.runtime import EXIT_OK, Stop, add_version_flag, keep_files_private, setup_logging
from posture.settings import streams
from posture.settings.flags import add_config_flag, settings_with_flags
from posture.settings.paths import database_url, path_of
from posture.settings.table import Analyzer, Database, Settings
from posture.store.base import Store, StoreRefusedError, StoreUnavailableError
from posture.store.opening import open_store
from posture.system import memory
from posture.system.backoff import Backoff
from posture.system.files import check_writable
from posture.wire.topics import Topics

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 10.0
SWITCH_S = 0.0005
"""The pose stage waits at most this long for the interpreter after each frame; the default of 5 ms is a quarter of
the time that the landmarker needs."""
ARENAS = 2
"""Heaps of the process: with eight, one for each thread, it grows by 60 MB in 20,000 frames."""
KEPT_BYTES = 8 << 20
"""Of each heap, for the next pictures: to ask for their pages anew takes 1 ms a frame at 640x480, 4 at 1280x720."""


def main(pi_id: str | None, argv: Sequence[str] | None = None) -> int:
    """Run a stream's analyzer until SIGTERM, or until a newer one takes the stream over.

    Args:
        pi_id: the stream; None: the one that the variable ``POSTURE_STREAM`` names.
        argv: the flags; None: those of the command line.

    Raises:
        UserError: settings, credentials or files are not as they must be.
    """
    camera = pi_id or f"${streams.VARIABLE}"
    parser = argparse.ArgumentParser(description=f"Analyse the posture in the pictures of camera {camera}.")
    add_version_flag(parser)
    add_config_flag(parser)
    parser.add_argument("--fail-fast", action="store_true", help="end if the broker or the store is away")
    parser.add_argument("--calibrate", action="store_true", help="record 6 s of sitting straight, then end")
    parser.add_argument("--clear-topics", action="store_true", help="of a stream that is gone, then end")
    parser.add_argument("--debug", action="store_true", help="log more")
    flags = parser.parse_args(argv)
    setup_logging(flags.debug)
    keep_files_private()
    sys.setswitchinterval(SWITCH_S)
    memory.bound_heaps(ARENAS)
    memory.keep_freed_memory(KEPT_BYTES)
    cv2.setNumThreads(1)  # its threads cost more than they gain on pictures as small as ours
    settings = settings_with_flags(flags)
    if pi_id is None:
        pi_id = streams.from_environment(os.environ, settings, gone=flags.clear_topics)
    stop = Stop()
    stop.install()
    if flags.clear_topics:
        return clear_topics(settings.mqtt, pi_id, stop)
    if flags.calibrate:
        return calibrate(settings, pi_id, stop)
    return analyse(settings, pi_id, stop, fail_fast=flags.fail_fast)


def analyse(settings: Settings, pi_id: str, stop: Stop, *, fail_fast: bool) -> int:
    """Open the store, load the model, serve the stream.

    Returns:
        The exit status.

    Raises:
        UserError: settings, credentials or files are not as they must be.
    """
    started = datetime.now(timezone.utc)
    options = settings.for_stream(pi_id)
    progress = Progress(path_of(options.progress_file) if options.progress_file else None)
    if options.quarantine:
        check_writable(path_of(options.quarantine_dir), "analyzer.quarantine_dir")
    if _answered(lambda: _open_pictures(options, pi_id), stop, progress, fail_fast) is None:
        return EXIT_OK
    store = _answered(lambda: _open_store(settings.database), stop, progress, fail_fast)
    if store is None:
        return EXIT_OK
    topics = Topics(pi_id, settings.mqtt.prefix)
    hides_others = options.pictures == "blurred_face" and (options.keep != "none" or options.preview)
    with PoseEstimator(path_of(options.model), options.delegate, all_in_every_frame=hides_others) as pose:
        about = {
            "host": socket.gethostname(),
            "pid": str(os.getpid()),
            "node": os.environ.get("NODE_NAME", ""),
            "delegate": pose.delegate,
            "delegate_asked": options.delegate,
        }
        stream = Stream(
            settings.mqtt,
            topics,
            stop,
            max_frames=options.buffer_frames,
            max_bytes=options.buffer_bytes,
            silent_after_s=options.silent_after_s,
            started=started,
            about=about,
            fail_fast=fail_fast,
        )
        pipeline = Pipeline(settings, topics, pose, store, stream, progress, stop.wake)
        log.info("stream %s: judged by rule set %s, on the %s", pi_id, options.rule_set, pose.delegate.upper())
        for line in destinations(settings, topics):
            log.info("%s", line)
        pipeline.start()
        try:
            ending = stream.run(pipeline)
        except StoreRefusedError as error:
            raise UserError(str(error)) from None
        finally:
            pipeline.close()
            log.info("account of %s: %s", pi_id, json.dumps(pipeline.account.as_dict()))
    store.close()
    log.info("ended: %s", ending.value)
    return EXIT_OK


def _open_pictures(options: Analyzer, pi_id: str) -> Pictures:
    """Return the pictures' store; if the settings keep pictures, it has taken one."""
    pictures = open_pictures(options, pi_id)
    if options.pictures != "none" and options.keep != "none":
        pictures.check()
    return pictures


def _open_store(database: Database) -> Store:
    """Return a store that has answered once."""
    if database.url.startswith("sqlite:") and "KUBERNETES_SERVICE_HOST" in os.environ and not database.shared:
        raise UserError(
            "database.url: SQLite on a node's own disk stays behind when the stream moves; accepted in a cluster: "
            "postgresql://..., https://... (Supabase), or database.shared: true for storage that all nodes share"
        )
    return open_store(database_url(database), key=database.supabase_key or None, timeout_s=database.timeout_s)


def _answered(ask: Callable[[], Answer], stop: Stop, progress: Progress, fail_fast: bool) -> Answer | None:
    """Return what a store answers, asking until it does; None if the stop came first."""
    backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
    while not stop.requested:
        progress.getting_on()
        try:
            return ask()
        except (StoreRefusedError, PicturesRefusedError) as error:
            raise UserError(str(error)) from None
        except (StoreUnavailableError, PicturesUnavailableError) as error:
            if fail_fast:
                raise UserError(str(error)) from None
            pause_s = backoff.next_s()
            log.warning("%s; next try in %.1f s", error, pause_s)
            stop.wait(pause_s)
    return None
