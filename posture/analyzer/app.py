"""One stream's analyzer: frames in, annotated pictures and rows out.

Four threads, one frame in each: decode -> pose -> verdict and drawing -> commit. Each stage hands on in order of
arrival; cv2 and the landmarker release the GIL, so the stages overlap. The landmarker sets the pace, so its stage
does nothing else. The commit stage writes pictures, then rows, and only then lets the stream acknowledge and
confirm to the camera.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import queue
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from posture.analyzer import drawing
from posture.analyzer.calibration import calibrate
from posture.analyzer.counts import Account
from posture.analyzer.pictures import PictureFolder, PicturesUnavailableError, Quarantine
from posture.analyzer.pose import PoseEstimator, View
from posture.analyzer.progress import Progress
from posture.analyzer.subscriber import Delivery, Stream
from posture.errors import UserError
from posture.runtime import EXIT_FAILED, EXIT_OK, Stop, setup_logging
from posture.settings import loading
from posture.settings.paths import path_of
from posture.settings.table import Analyzer, Database, Settings
from posture.store.base import Row, Store, StoreRefusedError, StoreUnavailableError
from posture.store.opening import open_store
from posture.verdict.backlog import Lateness
from posture.verdict.rule_sets import Baseline, Judge, Landmarks, Verdict
from posture.verdict.smoothing import StateTracker
from posture.wire import frame

log = logging.getLogger("analyzer")

SCHEMA_VERSION = 1
RECENT_IDS = 2_000
"""Ids remembered, so that a frame that comes again is not analysed again. The database stays the judge."""
HANDED_OVER = 200
"""So many frames after a start may have their rows already: an analyzer before us committed, and was gone before it
could acknowledge."""
STAGE_DEPTH = 2
"""Frames waiting between two stages: enough to overlap them, few enough to finish on SIGTERM."""
PRUNE_EVERY_S = 600.0
CLOSE_S = 10.0
"""After a stop's own time to drain: a write may still be waiting for its time-out."""
LAST_RETRY_S = 10.0
SWITCH_S = 0.0005
"""The pose stage waits at most this long for the interpreter after each frame; the default of 5 ms is a quarter of
the time that the landmarker needs."""
M_ARENA_MAX, ARENAS = -8, 2
"""glibc keeps freed memory apart for each thread: with eight arenas the process grows by 60 MB in 20,000 frames."""


@dataclass
class Item:
    """A frame on its way through the stages."""

    delivery: Delivery
    identity: frame.Identity
    again: bool = False
    """Seen before by this process: nothing to do but to acknowledge and confirm, in its turn."""
    picture: npt.NDArray[np.uint8] | None = None
    view: View | None = None
    landmarks: Landmarks | None = None
    verdict: Verdict = field(default_factory=lambda: unknown(""))
    quarantine: bytes | None = None
    jpeg: bytes | None = None
    row: Row | None = None
    messages: list[tuple[str, dict[str, Any], bool]] = field(default_factory=list)


def unknown(reason: str, rule_set: str = "") -> Verdict:
    """Return the verdict of a frame without one."""
    return Verdict("Unknown", reason, None, None, "", rule_set)


class Pipeline:
    """The stages between the stream and the disk."""

    def __init__(self, settings: Settings, pi_id: str, store: Store, stop: Stop, progress: Progress) -> None:
        self.pi_id = pi_id
        self.options: Analyzer = settings.for_stream(pi_id)
        self.account = Account()
        self.stream: Stream
        self._database: Database = settings.database
        self._store = store
        self._stop = stop
        self._progress = progress
        self._finished = self._finished_seen = 0
        self._store_away = False
        self._limits = frame.Limits(self.options.max_payload_bytes, self.options.max_pixels)
        baseline = None
        angles = self.options.baseline_neck_deg, self.options.baseline_body_deg
        if self.options.rule_set == "baseline" and any(angles):  # both 0: nobody has calibrated this stream
            baseline = Baseline(*angles)
        self._judge_landmarks = Judge(self.options.rule_set, self.options.camera_roll_deg, baseline).judge
        self._tracker = StateTracker(
            self.options.rule_set,
            baseline=baseline,
            bad_for=self.options.bad_for_s,
            cooldown=self.options.alert_cooldown_s,
        )
        self._state = ""
        self._lateness = Lateness(self.options.backlog_after_s)
        folder = path_of(self.options.pictures_dir) / f"analyzed_images_from_{pi_id}"
        days = self.options.pictures_keep_days
        self._pictures = PictureFolder(
            folder, self.options.pictures_max_bytes or None, days * 86_400 if days else None
        )
        self._quarantine = Quarantine(
            path_of(self.options.quarantine_dir) / f"quarantine_from_{pi_id}",
            self.options.quarantine_max_count,
            self.options.quarantine_max_bytes,
            self.options.quarantine,
        )
        self._processed_by = os.environ.get("NODE_NAME") or socket.gethostname()
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._last_tail = b""
        self._equal_in_a_row = 0
        self._boots: set[str] = set()
        self._next_prune = time.monotonic()
        self._draining = threading.Event()
        self._arrived: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._decoded: queue.Queue[Item | None] = queue.Queue(STAGE_DEPTH)
        self._seen: queue.Queue[Item | None] = queue.Queue(STAGE_DEPTH)
        self._drawn: queue.Queue[Item | None] = queue.Queue(STAGE_DEPTH)
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="stage")
        self._stages: list[Future[None]] = []
        self._handed_over = HANDED_OVER
        self._left = False
        """What is in hand is left to the broker: a stop came while the store was away."""
        # last: nothing may fail between the model's loading and its closing
        self.pose = PoseEstimator(path_of(self.options.model), self.options.delegate)

    def start(self) -> None:
        """Start the stages."""
        for stage in (self._decode_stage, self._pose_stage, self._verdict_stage, self._commit_stage):
            future = self._pool.submit(stage)
            future.add_done_callback(lambda _: self._stop.wake())
            self._stages.append(future)

    def deliver(self, delivery: Delivery) -> None:
        """Take a frame from the stream."""
        self.account.received += 1
        self._arrived.put(delivery)

    def check(self) -> None:
        """Raise what ended a stage, if anything did; else say whether the stages get on."""
        for stage in self._stages:
            if stage.done():
                stage.result()
        finished = self._finished
        if not self.stream.outstanding or finished != self._finished_seen or self._store_away:
            self._finished_seen = finished
            self._progress.getting_on()

    def drain(self) -> bool:
        """Drop what no stage has begun, finish the rest; True when all stages have ended."""
        if not self._draining.is_set():
            self._draining.set()
            self._arrived.put(None)
        return all(stage.done() for stage in self._stages)

    def close(self) -> None:
        """End the stages and release the model."""
        self.drain()
        done, _ = wait(self._stages, timeout=CLOSE_S)
        if len(done) == len(self._stages):
            self.pose.close()
            self._pool.shutdown()
            return
        log.error("a stage did not end within %g s; what it had in hand is left to the broker", CLOSE_S)
        logging.shutdown()
        os._exit(EXIT_FAILED)

    # The stages.

    def _decode_stage(self) -> None:
        while (delivery := self._arrived.get()) is not None and not self._draining.is_set():
            self._decoded.put(self._decode(delivery))
        self._decoded.put(None)

    def _decode(self, delivery: Delivery) -> Item:
        picture = frame.unwrap(delivery.payload)
        item = Item(delivery, frame.identify(picture, delivery.properties))
        item.again = item.identity.frame_id in self._recent
        self._recent[item.identity.frame_id] = None
        if len(self._recent) > RECENT_IDS:
            self._recent.popitem(last=False)
        self._watch_for_frozen_camera(picture)
        if item.again:
            return item
        waited = time.monotonic() - delivery.monotonic
        if 0 < self.options.expire_after_s < waited:
            item.verdict = unknown("expired", self.options.rule_set)
            return item
        try:
            item.picture = frame.decode(picture, self._limits, self.options.picture_max_width)
        except frame.UndecodableError as error:
            item.verdict = unknown(error.reason, self.options.rule_set)
            item.quarantine = delivery.payload
        else:
            item.view = self.pose.view(item.picture)
        return item

    def _watch_for_frozen_camera(self, picture: bytes) -> None:
        # our own comment, at the front, differs from frame to frame: what follows the last start of scan doesn't
        tail = picture[max(0, picture.rfind(b"\xff\xda")) :]
        self._equal_in_a_row = self._equal_in_a_row + 1 if tail == self._last_tail else 1
        self._last_tail = tail
        self.stream.camera_frozen = self._equal_in_a_row >= self.options.frozen_after

    def _pose_stage(self) -> None:
        while (item := self._decoded.get()) is not None:
            if item.view is not None:
                try:
                    item.landmarks = self.pose.detect(item.view, int(self._time_of(item)[0] * 1000))
                except (RuntimeError, ValueError, cv2.error) as error:
                    self._give_up(item, error)
            item.view = None
            self._seen.put(item)
        self._seen.put(None)

    def _give_up(self, item: Item, error: Exception) -> None:
        """One frame that the model or the rules can't take must not stop the stream for ever."""
        log.error("frame %s can't be analysed: %s", item.identity.frame_id, error)
        item.verdict = unknown("analysis_failed", self.options.rule_set)
        item.quarantine, item.picture = item.delivery.payload, None

    def _verdict_stage(self) -> None:
        while (item := self._seen.get()) is not None:
            if not item.again:
                self._judge(item)
            if item.row is not None and item.row.filename and item.picture is not None:
                item.jpeg = self._draw(item, item.picture)
            item.picture = None
            self._drawn.put(item)
        self._drawn.put(None)

    def _judge(self, item: Item) -> None:
        at, clock_id = self._time_of(item)
        if item.picture is not None:
            try:
                item.verdict = self._judge_landmarks(item.landmarks, at)
            except (RuntimeError, ValueError) as error:
                self._give_up(item, error)
        captured = item.identity.captured_at
        live = self._lateness.is_live(
            item.identity.boot_id or "",
            captured.timestamp() if captured else None,
            item.delivery.received_at.timestamp(),
        )
        change = self._tracker.update(item.verdict, at, clock_id=clock_id, live=live)
        entered = change.state is not None and change.state["state"] != self._state
        item.row = self._row(item, picture_kept=self._keeps_picture(item, entered))
        if change.state is not None:
            self._state = change.state["state"]
            item.messages.append((f"posture/{self.pi_id}/state", change.state, True))
        if change.alert is not None:
            item.messages.append((f"posture/{self.pi_id}/alert", change.alert, False))

    @staticmethod
    def _time_of(item: Item) -> tuple[float, str]:
        """Return the stream's own time of a frame in seconds, and the clock that it is by."""
        identity = item.identity
        if identity.captured_at is not None and identity.boot_id:
            return identity.captured_at.timestamp(), identity.boot_id
        return item.delivery.received_at.timestamp(), ""

    def _keeps_picture(self, item: Item, entered: bool) -> bool:
        if item.picture is None or self.options.pictures == "none" or self.options.keep == "none":
            return False
        return self.options.keep == "all" or entered

    def _row(self, item: Item, picture_kept: bool) -> Row:
        identity, verdict = item.identity, item.verdict
        return Row(
            pi_id=self.pi_id,
            frame_id=identity.frame_id,
            filename=f"{frame.safe_name(identity.frame_id)}.jpg" if picture_kept else "",
            received_time=item.delivery.received_at,
            analyzed_time=datetime.now(timezone.utc),
            captured_time=identity.captured_at,
            neck_angle=None if verdict.neck_angle is None else abs(verdict.neck_angle),
            body_angle=None if verdict.body_angle is None else abs(verdict.body_angle),
            posture_status=verdict.status,
            landmarks_detected=item.landmarks is not None,
            processed_by=self._processed_by,
            side=verdict.side,
            reason=verdict.reason,
            rule_set=self.options.rule_set,
            landmarks=_landmarks_json(item.landmarks) if self.options.landmarks else None,
            schema_version=SCHEMA_VERSION,
            seq=identity.seq,
            boot_id=identity.boot_id,
        )

    def _draw(self, item: Item, picture: npt.NDArray[np.uint8]) -> bytes:
        annotated = drawing.annotate(
            picture,
            item.landmarks,
            item.verdict,
            pi_id=self.pi_id,
            when=item.identity.captured_at or item.delivery.received_at,
            max_width=self.options.picture_max_width,
            pictures=self.options.pictures,
        )
        encoded, data = cv2.imencode(".jpg", annotated, [cv2.IMWRITE_JPEG_QUALITY, self.options.jpeg_quality])
        if not encoded:
            raise RuntimeError(f"frame {item.identity.frame_id}: the annotated picture can't be encoded")
        return bytes(data)

    def _commit_stage(self) -> None:
        batch: list[Item] = []
        due = 0.0
        while True:
            try:
                item = self._drawn.get(timeout=max(0.0, due - time.monotonic()) if batch else 5.0)
            except queue.Empty:
                self._commit(batch)
                batch = []
                continue
            if item is None:
                self._commit(batch)
                return
            if not batch:
                due = time.monotonic() + self._database.batch_s
            batch.append(item)
            if len(batch) >= self._database.batch_rows or time.monotonic() >= due:
                self._commit(batch)
                batch = []

    def _commit(self, batch: Sequence[Item]) -> None:
        """Make a batch durable, then settle it. Returns with nothing settled when stopped meanwhile."""
        rows = [item.row for item in batch if item.row is not None]
        if rows and not self._left:
            self._left = not self._persist(batch, rows)
        # nothing after a batch that was left may be settled, either: it may hold one of its frames once more
        if self._left:
            return
        if batch:
            ids = [item.identity.frame_id for item in batch]
            self.stream.publish(f"committed/{self.pi_id}", {"ids": ids})
        for item in batch:
            self.account.duplicate += item.again
            for topic, payload, retain in item.messages:
                self.stream.publish(topic, payload, retain=retain)
            self.stream.settled(item.delivery)
            self._finished += 1
        if (account := self.account.changed()) is not None:
            self.stream.publish(f"account/{self.pi_id}", {**account, "delegate": self.pose.delegate}, retain=True)
        if time.monotonic() >= self._next_prune:
            self._prune()

    def _persist(self, batch: Sequence[Item], rows: Sequence[Row]) -> bool:
        retry_s, said = 0.5, ""
        while True:
            try:
                self._leave_what_is_drawn(batch, rows)
                self._write_files(batch)
                self._take_up_boots(rows)
                inserted = self._store.write(rows)
            except (StoreUnavailableError, PicturesUnavailableError) as error:
                if str(error) != said:
                    log.warning("%s; frames wait unacknowledged, trying on", error)
                said = str(error)
                self._store_away = True
                self.stream.hold(True)
                # a stop that comes while the store is away leaves the frames to the broker
                if self._draining.wait(retry_s):
                    return False
                retry_s = min(2 * retry_s, LAST_RETRY_S)
                continue
            if said:
                log.info("the store is back")
                self._store_away = False
                self.stream.hold(False)
            self._count(rows, inserted)
            return True

    def _count(self, rows: Sequence[Row], inserted: set[str]) -> None:
        self._handed_over -= len(rows)
        for row in rows:
            if row.frame_id not in inserted:
                self.account.duplicate += 1
            elif not self.account.count(row):
                # late, or its number is not its own: with the next batch the database is asked again
                self._boots.discard(row.boot_id or "")

    def _leave_what_is_drawn(self, batch: Sequence[Item], rows: Sequence[Row]) -> None:
        """A row that is there keeps its picture, too: drawn anew it could say something else than the row."""
        if self._handed_over > 0:
            present = self._store.present(self.pi_id, [row.frame_id for row in rows])
            for item in batch:
                if item.identity.frame_id in present:
                    item.jpeg = None

    def _write_files(self, batch: Sequence[Item]) -> None:
        self._pictures.write_many(
            [(item.row.filename, item.jpeg) for item in batch if item.row is not None and item.jpeg is not None]
        )
        for item in batch:
            if item.quarantine is not None:
                self._quarantine.keep(frame.safe_name(item.identity.frame_id), item.quarantine)

    def _take_up_boots(self, rows: Sequence[Row]) -> None:
        """Before the first row of a camera's boot is written, ask the database what it has of it."""
        for boot_id in {row.boot_id for row in rows if row.boot_id} - self._boots:
            lowest, highest, distinct = self._store.sequences(self.pi_id, boot_id)
            # where old rows are deleted, those before the lowest were; elsewhere they never came
            first = (lowest or 0) if self._database.keep_days else 0
            self.account.follow(boot_id, highest, distinct, first=first)
            self._boots.add(boot_id)

    def _prune(self) -> None:
        self._next_prune = time.monotonic() + PRUNE_EVERY_S
        try:
            self._pictures.prune()
            if self._database.keep_days:
                self._store.prune(datetime.now(timezone.utc) - timedelta(days=self._database.keep_days))
        except (StoreUnavailableError, StoreRefusedError, PicturesUnavailableError) as error:
            log.warning("retention will be tried again: %s", error)


def _landmarks_json(landmarks: Landmarks | None) -> str | None:
    if landmarks is None:
        return None
    rounded = [[round(float(x), 1), round(float(y), 1), round(float(v), 2)] for x, y, v in landmarks.points]
    return json.dumps(rounded, separators=(",", ":"))


def main(pi_id: str, argv: Sequence[str] | None = None) -> int:
    """Run the analyzer of stream ``pi_id`` until SIGTERM, or until a newer one takes the stream over.

    Raises:
        UserError: settings, credentials or files are not as they must be.
    """
    parser = argparse.ArgumentParser(description=f"Analyse the posture in the pictures of camera {pi_id}.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (default: cluster.yaml here)")
    parser.add_argument("--fail-fast", action="store_true", help="end if the broker or the store is away")
    parser.add_argument("--calibrate", action="store_true", help="record 6 s of sitting straight, then end")
    parser.add_argument("--debug", action="store_true", help="log more")
    flags = parser.parse_args(argv)
    setup_logging(flags.debug)
    sys.setswitchinterval(SWITCH_S)
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, ARENAS)
    settings = loading.load(flags.config, os.environ)
    stop = Stop()
    stop.install()
    if flags.calibrate:
        return calibrate(settings, pi_id, stop)
    return analyse(settings, pi_id, stop, fail_fast=flags.fail_fast)


def analyse(settings: Settings, pi_id: str, stop: Stop, *, fail_fast: bool) -> int:
    """Open the store, load the model, serve the stream."""
    started = datetime.now(timezone.utc)
    progress_file = settings.for_stream(pi_id).progress_file
    progress = Progress(path_of(progress_file) if progress_file else None)
    store = _open_store(settings.database, stop, progress, fail_fast)
    if store is None:
        return EXIT_OK
    pipeline = Pipeline(settings, pi_id, store, stop, progress)
    options = pipeline.options
    about = {
        "host": socket.gethostname(),
        "pid": str(os.getpid()),
        "node": os.environ.get("NODE_NAME", ""),
        "delegate": pipeline.pose.delegate,
    }
    pipeline.stream = stream = Stream(
        settings.mqtt,
        pi_id,
        stop,
        pipeline.deliver,
        max_frames=options.buffer_frames,
        max_bytes=options.buffer_bytes,
        silent_after_s=options.silent_after_s,
        started=started,
        about=about,
        fail_fast=fail_fast,
    )
    log.info("stream %s: %s, %s", pi_id, options, settings.database)
    pipeline.start()
    try:
        ending = stream.run(pipeline.check, pipeline.drain)
    except StoreRefusedError as error:
        raise UserError(str(error)) from None
    finally:
        pipeline.close()
        log.info("account of %s: %s", pi_id, json.dumps(pipeline.account.as_dict()))
    store.close()
    log.info("ended: %s", ending.value)
    return EXIT_OK


def _open_store(database: Database, stop: Stop, progress: Progress, fail_fast: bool) -> Store | None:
    """Return a store that has answered once; None if the stop came first."""
    if database.url.startswith("sqlite:") and "KUBERNETES_SERVICE_HOST" in os.environ and not database.shared:
        raise UserError(
            "database.url: SQLite on a node's own disk stays behind when the stream moves; accepted in a cluster: "
            "postgresql://..., https://... (Supabase), or database.shared: true for storage that all nodes share"
        )
    url = database.url
    if url.startswith("sqlite:///"):
        url = "sqlite:///" + str(path_of(url.removeprefix("sqlite:///")))
    retry_s = 0.5
    while not stop.requested:
        progress.getting_on()
        try:
            return open_store(url, key=database.supabase_key or None, timeout_s=database.timeout_s)
        except StoreRefusedError as error:
            raise UserError(str(error)) from None
        except StoreUnavailableError as error:
            if fail_fast:
                raise UserError(str(error)) from None
            log.warning("%s; next try in %.1f s", error, retry_s)
            stop.wait(retry_s)
            retry_s = min(2 * retry_s, LAST_RETRY_S)
    return None
