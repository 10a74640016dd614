"""Four stages between the stream and the disk, each in a thread of its own.

intake -> pose -> judging -> commit. Each stage hands on in order of arrival; cv2 and the landmarker release the
GIL, so the stages overlap. The landmarker sets the pace, so its stage does nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime

from posture.analyzer.attempts import Attempts
from posture.analyzer.commands import Commands
from posture.analyzer.commit import Committer
from posture.analyzer.counts import Account
from posture.analyzer.delivery import Acknowledger, Delivery
from posture.analyzer.intake import Intake
from posture.analyzer.item import Failures, Item
from posture.analyzer.judging import Judging
from posture.analyzer.log_lines import EveryMinute
from posture.analyzer.measuring import Measuring
from posture.analyzer.pose import PoseEstimator
from posture.analyzer.progress import Progress
from posture.runtime import EXIT_FAILED
from posture.settings.paths import path_of
from posture.settings.table import Settings
from posture.store.base import MEASURED, Store, StoreRefusedError
from posture.system.memory import give_back_freed_memory
from posture.wire.frame import Identity
from posture.wire.topics import Topics

log = logging.getLogger(__name__)

STAGE_DEPTH = 2
"""Frames waiting between two stages: enough to overlap them, few enough to finish on SIGTERM."""
BACKLOG = 2 * STAGE_DEPTH
"""More frames in hand are a backlog; once it is worked off, the memory that it took goes back to the system."""
CLOSE_S = 10.0
"""How long the stages may take to end after the stream has drained: a write may be waiting for its time-out."""


class Pipeline:
    """The stages of one stream.

    Args:
        settings: all settings.
        topics: the stream's name and topics.
        pose: the landmarker; it stays open until the stages have ended.
        store: where rows go.
        stream: acknowledges and publishes.
        progress: is told while the stages get on.
        wake: called from a stage's thread when that stage has ended, so that :meth:`check` is called soon.

    Attributes:
        account: what became of every frame.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        pose: PoseEstimator,
        store: Store,
        stream: Acknowledger,
        progress: Progress,
        wake: Callable[[], None],
    ) -> None:
        options = settings.for_stream(topics.pi_id)
        self.account = Account(passed_over=stream.passed_over)
        self._pose = pose
        self._stream = stream
        self._progress = progress
        self._wake = wake
        self._draining = threading.Event()
        self._attempts = Attempts(
            path_of(options.quarantine_dir) / f"attempts_of_{topics.pi_id}", stream, topics.suspects
        )
        self._failures = Failures(options.rule_set)
        self._intake = Intake(options, pose, stream, self._failures, self._attempts)
        self._judging = Judging(options, topics)
        self._measuring = Measuring(
            pose,
            # not where a row couldn't say so, nor where pictures must hide whoever is there at the moment
            reuse=options.reuse_still and MEASURED in store.columns and not pose.all_in_every_frame,
            settled=lambda: self._judging.settled,
        )
        self._topics = topics
        self._commands = Commands(options, topics, self._judging, stream, self.account)
        self._committer = Committer(
            options, settings.database, topics, store, stream, self.account, pose.delegate, self._draining
        )
        self._every_minute = EveryMinute(topics.pi_id, self.account)
        self._finished_seen = self._most_in_hand = 0
        self._arrived: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="stage")
        self._stages: list[Future[None]] = []

    def start(self) -> None:
        """Start the stages."""
        decoded, seen, drawn = (queue.Queue[Item | None](STAGE_DEPTH) for _ in range(3))
        self._start(self._decode, decoded)
        self._start(self._find_landmarks, decoded, seen)
        self._start(self._judge, seen, drawn)
        self._start(self._committer.run, drawn)

    def _start(self, stage: Callable[..., None], *queues: queue.Queue[Item | None]) -> None:
        future = self._pool.submit(self._run, stage, *queues)
        future.add_done_callback(lambda _: self._wake())
        self._stages.append(future)

    def _run(self, stage: Callable[..., None], *queues: queue.Queue[Item | None]) -> None:
        """Run a stage; what ends it is in the log at once, whatever becomes of the other stages."""
        try:
            stage(*queues)
        except StoreRefusedError:  # one line at the end of the process says it
            raise
        except Exception:
            log.exception("stage %s has ended; so does the process", stage.__name__.strip("_"))
            raise

    def deliver(self, delivery: Delivery) -> None:
        """Take a frame from the stream."""
        self.account.received += 1
        self.account.malformed += delivery.malformed
        self._arrived.put(delivery)

    def command(self, payload: bytes, *, retained: bool) -> None:
        """Obey an operator's command."""
        self._commands.obey(payload, retained=retained)

    def recall(self, topic: str, payload: bytes) -> None:
        """Take up what an analyzer before this one has left at the broker."""
        self._commands.recall(topic, payload)

    def camera_silent(self, since: datetime) -> None:
        """Say so in the state, in place of what the last frame said."""
        self._stream.publish(self._topics.state, self._judging.silent(since), retain=True)

    def check(self) -> None:
        """Report progress, if there is any or none is due. Raises the exception that ended a stage, if one did."""
        for stage in self._stages:
            if stage.done():
                stage.result()
        self._commands.check()
        self._every_minute.check(self._judging.said, self._stream.outstanding, self._committer.store_away)
        outstanding = self._stream.outstanding
        self._most_in_hand = max(self._most_in_hand, outstanding)
        if not outstanding and self._most_in_hand > BACKLOG:
            self._most_in_hand = 0
            give_back_freed_memory()
        finished = self._committer.finished
        if not outstanding or finished != self._finished_seen or self._committer.store_away:
            self._finished_seen = finished
            self._progress.getting_on()

    def drain(self) -> bool:
        """Drop what no stage has begun, finish the rest; True when all stages have ended."""
        if not self._draining.is_set():
            self._draining.set()
            self._arrived.put(None)
        return all(stage.done() for stage in self._stages)

    def close(self) -> None:
        """End the stages. If one of them does not end, the process does: its frames are left to the broker."""
        self.drain()
        self._attempts.release()
        done, _ = wait(self._stages, timeout=CLOSE_S)
        if len(done) == len(self._stages):
            self._pool.shutdown()
            self._attempts.close()
            return
        log.error("a stage did not end within %g s; what it had in hand is left to the broker", CLOSE_S)
        logging.shutdown()
        os._exit(EXIT_FAILED)

    # The stages. None at the end of a queue says that nothing follows. An exception over one
    # frame gives up that frame: it would come again, and end each process that gets it.

    def _decode(self, decoded: queue.Queue[Item | None]) -> None:
        while (delivery := self._arrived.get()) is not None and not self._draining.is_set():
            try:
                item = self._intake.take(delivery)
            except Exception:  # noqa: BLE001 - as said above
                digest = hashlib.sha256(delivery.payload).hexdigest()
                item = Item(delivery, Identity(digest), digest)
                self._failures.give_up(item, "opened")
            decoded.put(item)
        decoded.put(None)

    def _find_landmarks(self, decoded: queue.Queue[Item | None], seen: queue.Queue[Item | None]) -> None:
        while (item := decoded.get()) is not None:
            if item.view is not None:
                began_s = time.monotonic()
                try:
                    self._measuring.measure(item, item.view)
                    if self._attempts.alone:
                        self._pose.finish()
                except Exception:  # noqa: BLE001 - as said above
                    self._failures.give_up(item, "analyzed")
                item.analysis_s = time.monotonic() - began_s
            item.view = None
            seen.put(item)
        seen.put(None)

    def _judge(self, seen: queue.Queue[Item | None], drawn: queue.Queue[Item | None]) -> None:
        while (item := seen.get()) is not None:
            try:
                self._judging.judge(item)
            except Exception:  # noqa: BLE001 - as said above
                self._failures.give_up(item, "judged")
                self._judging.pass_over(item)
            self._attempts.end(item.digest)
            drawn.put(item)
        drawn.put(None)
