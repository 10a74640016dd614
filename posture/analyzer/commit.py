"""The last stage: pictures, then rows, then the acknowledgement. Nothing is acknowledged that is not on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from posture.analyzer.counts import Account
from posture.analyzer.delivery import Acknowledger
from posture.analyzer.item import Item
from posture.analyzer.reused_ids import tell_apart, with_another_name
from posture.pictures.base import PicturesUnavailableError
from posture.pictures.opening import open_pictures
from posture.pictures.quarantine import Quarantine
from posture.settings.paths import quarantine_of
from posture.settings.table import Analyzer, Database
from posture.store.base import Row, Store, StoreRefusedError, StoreUnavailableError
from posture.system.backoff import Backoff
from posture.system.said_once import SaidOnce
from posture.system.untrusted import shown
from posture.wire import frame
from posture.wire.preview import Preview
from posture.wire.receipts import receipt
from posture.wire.topics import Topics

log = logging.getLogger(__name__)

BOOTS_AT_ONCE, BOOT_EVERY_S, MOST_BOOTS = 20, 3.0, 1000
"""Boots of the camera whose rows the database is asked for: at once, then one in so much time, and at most. A
camera has few, but a stranger can make up one for each frame, and each costs a question."""
PRUNE_EVERY_S = 600.0
IDLE_S = 5.0
"""Without frames, the account and the retention are looked after this often."""
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 10.0


class Committer:
    """Makes frames durable in batches, and settles them in order of arrival.

    Args:
        options: the stream's settings.
        database: how large a batch may grow, how long it may wait, and how long rows are kept.
        topics: the stream's topics, for receipts and the account.
        store: where rows go.
        stream: acknowledges and publishes.
        account: what became of every frame; ``received`` is counted by the caller.
        delegate: what the landmarker runs on, for the account.
        draining: set once the analyzer is asked to stop.

    Attributes:
        finished: frames settled so far.
        store_away: the store can't be reached now, so that no progress can be made.
    """

    def __init__(
        self,
        options: Analyzer,
        database: Database,
        topics: Topics,
        store: Store,
        stream: Acknowledger,
        account: Account,
        delegate: str,
        draining: threading.Event,
    ) -> None:
        self.finished = 0
        self.store_away = False
        self._database = database
        self._topics = topics
        self._store = store
        self._stream = stream
        self._account = account
        self._delegate = delegate
        self._draining = draining
        self._pictures = open_pictures(options, topics.pi_id)
        self._quarantine = quarantine_folder(options, topics.pi_id)
        self._boots: set[str] = set()
        self._questions = float(BOOTS_AT_ONCE)
        self._questions_at = time.monotonic()
        self._said = SaidOnce(log)
        self._left = False
        """A stop came while the store was away: what is in hand is left to the broker."""
        self._next_prune = time.monotonic()

    def run(self, drawn: queue.Queue[Item | None]) -> None:
        """Commit what the queue brings, in batches, until it brings None."""
        ended = False
        while not ended:
            batch, ended = self._gather(drawn)
            self.commit(batch)

    def _gather(self, drawn: queue.Queue[Item | None]) -> tuple[list[Item], bool]:
        """Return the next batch, and whether it is the last one.

        A batch waits for frames that are being analyzed, for ``batch_s`` at most; a lone frame waits for nobody.
        """
        batch: list[Item] = []
        due = time.monotonic() + IDLE_S
        while len(batch) < self._database.batch_rows:
            follows = not batch or self._account.received - self.finished > len(batch)
            try:
                item = drawn.get(timeout=max(0.0, due - time.monotonic())) if follows else drawn.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return batch, True
            if not batch:
                due = time.monotonic() + self._database.batch_s
            batch.append(item)
        return batch, False

    def commit(self, batch: Sequence[Item]) -> None:
        """Make a batch durable, then settle it. Returns with nothing settled when stopped meanwhile."""
        if not self._left and any(item.row is not None for item in batch):
            self._left = not self._persist(batch)
        # Nothing after a batch that was left may be settled, either: it may repeat one of its frames.
        if self._left:
            return
        if batch:
            self._stream.publish(
                self._topics.committed,
                receipt([(item.identity.frame_id, item.digest) for item in batch]),
            )
        for item in batch:
            self._account.duplicate += item.again
            self._account.analysis_s += item.analysis_s
            self._account.ignored.update(item.identity.ignored)
            for topic, payload, retain in item.messages:
                self._stream.publish(topic, payload, retain=retain)
            if item.preview is not None and item.row is not None:
                self._stream.show(self._topics.picture, _preview_of(item.row).into(item.preview))
            self._stream.settled(item.delivery)
            self.finished += 1
        if (account := self._account.changed()) is not None:
            self._stream.publish(self._topics.account, {**account, "delegate": self._delegate}, retain=True)
        if time.monotonic() >= self._next_prune:
            self._prune()

    def _persist(self, batch: Sequence[Item]) -> bool:
        """Write pictures and rows, trying on while one of them is away; return False if a stop came first.

        Raises:
            StoreRefusedError: the store takes no row of ours, not even one without what its sender chose.
        """
        backoff, said = Backoff(FIRST_RETRY_S, LAST_RETRY_S), ""
        while True:
            try:
                self._write(batch)
            except (StoreUnavailableError, PicturesUnavailableError) as error:
                if str(error) != said:
                    log.warning("%s; frames wait unacknowledged, trying on", error)
                said = str(error)
                self.store_away = True
                self._stream.hold(True)
                # a stop that comes while the store is away leaves the frames to the broker
                if self._draining.wait(backoff.next_s()):
                    return False
                continue
            except StoreRefusedError as error:
                if len(batch) > 1:  # one of them may be at fault, and the others are to be written
                    return all(self._persist([item]) for item in batch)
                if not _make_plain(batch[0]):
                    raise
                # a database of another encoding has no letters for some ids
                self._account.ignored["id"] += 1
                self._said.warning(
                    f"{error}; a frame is stored with its id hashed, and without boot and time", "refused"
                )
                continue
            if said:
                log.info("the store is back")
                self.store_away = False
                self._stream.hold(False)
            return True

    def _write(self, batch: Sequence[Item]) -> None:
        self._tell_apart(batch)
        _name_measured(batch)
        rows = [item.row for item in batch if item.row is not None]
        self._write_files(batch)
        self._take_up_boots(rows)
        self._count(rows, self._store.write(rows))

    def _count(self, rows: Sequence[Row], inserted: set[str]) -> None:
        for row in rows:
            if row.frame_id not in inserted:
                self._account.duplicate += 1
            elif not self._account.count(row):
                # late, or its number is not its own: with the next batch the database is asked again
                self._boots.discard(row.boot_id or "")

    def _tell_apart(self, batch: Sequence[Item]) -> None:
        """Give what shares its id, or its picture's name, with something else one of its own."""
        for item, row in tell_apart(batch, lambda ids: self._store.digests(self._topics.pi_id, ids)):
            self._account.reused_ids += 1
            name = shown(item.identity.frame_id)
            self._said.warning(
                f"frame id {name} was used for two pictures; both are kept: {shown(row.frame_id)}", "reused"
            )
        for item in batch:
            if (
                item.row is not None
                and item.jpeg is not None
                and item.content
                and self._pictures.has_another(item.row.filename, item.content)
            ):
                item.row = with_another_name(item.row, item.content)

    def _write_files(self, batch: Sequence[Item]) -> None:
        self._pictures.write_many(
            [(item.row.filename, item.jpeg) for item in batch if item.row is not None and item.jpeg is not None]
        )
        for item in batch:
            if item.quarantine is not None:
                self._quarantine.keep(frame.safe_name(item.identity.frame_id), item.quarantine)

    def _take_up_boots(self, rows: Sequence[Row]) -> None:
        """Before the first row of a camera's boot is written, ask the database which rows it has of that boot."""
        for boot_id in {row.boot_id for row in rows if row.boot_id} - self._boots:
            if not self._may_ask():
                self._said.warning(
                    "boot ids come faster than a camera can start; some frames won't be missed", "boots"
                )
                return
            lowest, highest, distinct = self._store.sequences(self._topics.pi_id, boot_id)
            # where old rows are deleted, those before the lowest were; elsewhere they never came
            first = (lowest or 0) if self._database.keep_days else 0
            self._account.follow(boot_id, highest, distinct, first=first)
            self._boots.add(boot_id)

    def _may_ask(self) -> bool:
        now = time.monotonic()
        self._questions = min(self._questions + (now - self._questions_at) / BOOT_EVERY_S, BOOTS_AT_ONCE)
        self._questions_at = now
        if self._questions < 1 or self._account.boots >= MOST_BOOTS:
            return False
        self._questions -= 1
        return True

    def _prune(self) -> None:
        self._next_prune = time.monotonic() + PRUNE_EVERY_S
        try:
            self._pictures.prune()
            if self._database.keep_days:
                self._store.prune(datetime.now(timezone.utc) - timedelta(days=self._database.keep_days))
        except (StoreUnavailableError, StoreRefusedError, PicturesUnavailableError) as error:
            log.warning("retention will be tried again: %s", error)


def _name_measured(batch: Sequence[Item]) -> None:
    """Let rows name the frame whose landmarks they have as its own row does, which may have got another id."""
    for item in batch:
        if item.row is not None and item.measured is not None and item.measured.row is not None:
            item.row = dataclasses.replace(item.row, measured_frame_id=item.measured.row.frame_id)


def _preview_of(row: Row) -> Preview:
    return Preview(
        id=row.frame_id,
        at=(row.captured_time or row.received_time).isoformat(timespec="milliseconds"),
        status=row.posture_status,
        reason=row.reason,
        neck=None if row.neck_angle is None else round(row.neck_angle, 1),
        body=None if row.body_angle is None else round(row.body_angle, 1),
        rule_set=row.rule_set,
    )


def _make_plain(item: Item) -> bool:
    """Take from a frame's row what its sender chose; return False if that is done already."""
    row = item.row
    if row is None:
        return False
    digest = hashlib.sha256(item.identity.frame_id.encode("utf-8", "surrogatepass")).hexdigest()
    if row.frame_id == digest:
        return False
    item.row = dataclasses.replace(row, frame_id=digest, captured_time=None, seq=None, boot_id=None)
    return True


def quarantine_folder(options: Analyzer, pi_id: str) -> Quarantine:
    """Return the folder of a stream's payloads that could not be analyzed."""
    return Quarantine(
        quarantine_of(options, pi_id),
        options.quarantine_max_count,
        options.quarantine_max_bytes,
        # a setting that keeps the camera's pixels from the disk keeps those of a damaged frame from it, too
        options.quarantine and options.pictures == "photo",
    )
