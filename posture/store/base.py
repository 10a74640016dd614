"""Rows: one interface, three stores. SQLite is embedded; PostgreSQL and Supabase are shared by the nodes.

A write is idempotent (unique is pi_id with frame_id) and durable when it returns. An error that time can heal is
``StoreUnavailableError``; one that a person must heal is ``StoreRefusedError``. Neither ever acknowledges anything.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import Protocol, TypeAlias

TABLE = "posture_log"
CHUNK_ROWS = 500
CHUNK_BYTES = 1_000_000
"""One statement or request carries at most this many rows, and about this many bytes of text."""
MAX_KEY_BYTES = 512
"""Of a text that is indexed: PostgreSQL refuses index entries of 2704 bytes and more."""
KEYS = ("pi_id", "frame_id", "boot_id", "measured_frame_id")
"""Columns that are indexed, or hold what is indexed elsewhere."""
INTEGER_BITS = {"seq": 63, "schema_version": 31}
URL_SETTING = "POSTURE_DATABASE_URL"
ACCEPTED_URLS = "sqlite:///path, postgresql://user:password@host:port/database, or https://project (Supabase)"

Value: TypeAlias = "str | float | int | datetime | None"
Key: TypeAlias = "tuple[Value, Value]"
"""Of a row: pi_id and frame_id, as they are stored."""


class StoreUnavailableError(Exception):
    """The store is away or can't take more now: try again later."""


class StoreRefusedError(Exception):
    """Authentication, policy or schema: retrying changes nothing. Names the setting."""


@dataclass(frozen=True)
class Row:
    """One frame. Times are UTC; angles are magnitudes in degrees; ``filename`` is empty if no picture is kept."""

    pi_id: str
    frame_id: str
    filename: str
    received_time: datetime
    analyzed_time: datetime
    captured_time: datetime | None
    neck_angle: float | None
    body_angle: float | None
    posture_status: str
    landmarks_detected: bool
    processed_by: str
    side: str
    reason: str
    rule_set: str
    landmarks: str | None
    """JSON, see ``posture.verdict.stored_landmarks``."""
    schema_version: int
    seq: int | None
    boot_id: str | None
    picture_sha256: str | None = None
    """Of the camera's picture without its stamp, in hex: tells a frame sent twice from another one of its id."""
    no_picture: str = ""
    """Why ``filename`` is empty, one of NO_PICTURE; empty if it is not."""
    measured_frame_id: str | None = None
    """The earlier frame whose landmarks count again, for nothing has moved; None: this one was measured itself."""


COLUMNS = [entry.name for entry in fields(Row)]
MINUTES_TABLE = "posture_minutes"
STATES = ("good", "bad", "unknown", "away")
"""Of a frame: its verdict; ``unknown`` where somebody was seen and there is none, ``away`` where nobody was. A
frame that could not be read is in no state, but its minute is there."""
MINUTE_KEY = ("pi_id", "minute")
MINUTE_COLUMNS = (
    *MINUTE_KEY,
    *(f"{state}_seconds" for state in STATES),
    *(f"{state}_frames" for state in STATES),
    *("neck_frames", "body_frames", "neck_sum", "body_sum"),
)
"""Of the table of minutes, which questions about days and months are answered from.

``minute`` counts from 1970, UTC, by the time of capture, or of receipt where the camera has no time or a wrong one.
``..._seconds`` is a set of 60 bits, the highest one for second 0: those in which there was such a frame, so that
the order in which frames arrive does not matter. ``..._frames`` are numbers of frames; the sums of angles, in
degrees, are over those that have one.
"""
NO_PICTURE = ("unchanged", "keep_none", "pictures_none", "not_decoded")
"""The state had not changed (keep: changes); the settings keep none; nothing was decoded, as ``reason`` says."""
DIGEST = "picture_sha256"
MEASURED = "measured_frame_id"
LATER_COLUMNS = {
    DIGEST: "another picture under a known id is taken for one that comes again",
    "no_picture": "a row does not say why it has no picture",
    MEASURED: "every frame is measured, whatever analyzer.reuse_still says",
}
"""Columns that a table of an earlier version lacks, and serves without where we can't change it, with what follows;
the oldest first."""


def says_what_lacks(columns: Sequence[str]) -> str:
    """Return the line about a table without these of LATER_COLUMNS."""
    follows = "; ".join(f"it has no column {name}, so {LATER_COLUMNS[name]}" for name in columns)
    return f"{TABLE}: {follows}; run deploy/schema/schema.sql there"


class Store(Protocol):
    """Where rows go. One caller at a time; any number of processes.

    Attributes:
        columns: those of COLUMNS that its table has.
    """

    columns: Sequence[str]

    def write(self, rows: Sequence[Row]) -> set[str]:
        """Insert rows that are not there yet, durably; return the frame ids of those that this store object wrote.

        A row counts as written by it, too, when an attempt before committed it and only the answer was lost.

        Raises:
            StoreUnavailableError: try again; doing so is harmless.
            StoreRefusedError: a person must act.
        """

    def digests(self, pi_id: str, frame_ids: Sequence[str]) -> dict[str, str | None]:
        """Return, for those of a stream's frames that have a row, their ``picture_sha256``."""

    def counts(self, pi_id: str) -> dict[str, int]:
        """Return rows of a stream by posture_status; Supabase knows of Good, Bad and Unknown only."""

    def sequences(self, pi_id: str, boot_id: str) -> tuple[int | None, int | None, int]:
        """Return (lowest, highest, number) of the sequence numbers of a camera's boot that have a row.

        A number that two frames share counts once.
        """

    def prune(self, older_than: datetime) -> int:
        """Delete rows received before, the oldest first, for about one time-out at most; return how many.

        It goes in small steps, so that writers never wait long; a later call goes on.
        """

    def delete(self, pi_id: str) -> int:
        """Delete all rows of a stream, and so its minutes; return how many rows. In small steps, like ``prune``."""

    def close(self) -> None:
        """Release the connection."""


def cleaned(row: Row) -> dict[str, Value]:
    """Return the row's values as every store can take them: one invalid value must not block a batch for ever."""
    values: dict[str, Value] = {}
    for name in COLUMNS:
        value = getattr(row, name)
        if isinstance(value, str):
            value = clean_key(value) if name in KEYS else clean_text(value)
        elif isinstance(value, datetime):
            value = _in_utc(value)
        elif (isinstance(value, float) and not math.isfinite(value)) or not _fits(name, value):
            value = None
        values[name] = value
    return values


def _fits(column: str, value: float | None) -> bool:
    bits = INTEGER_BITS.get(column)
    return bits is None or value is None or -1 << bits <= value < 1 << bits


def clean_text(text: str) -> str:
    """Return text without what stores refuse: NUL (PostgreSQL) and halves of surrogate pairs (all)."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def clean_key(text: str) -> str:
    """Return text for an index: clean and short. Different texts stay different, by their hash where changed."""
    clean = clean_text(text)
    if clean == text and len(text.encode()) <= MAX_KEY_BYTES:
        return text
    return f"{clean[:100]}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _in_utc(moment: datetime) -> datetime | None:
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:  # within hours of the years 1 and 9999, from a camera's odd clock
        return None


def as_text(moment: datetime) -> str:
    """Return a moment in ISO 8601, in UTC and to the microsecond."""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")


def chunks(values: Sequence[dict[str, Value]]) -> Iterator[list[dict[str, Value]]]:
    """Split rows into what one statement or request may carry."""
    chunk: list[dict[str, Value]] = []
    size = 0
    for row in values:
        length = sum(len(value) for value in row.values() if isinstance(value, str))
        if chunk and (len(chunk) == CHUNK_ROWS or size + length > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += length
    if chunk:
        yield chunk


def key_of(values: dict[str, Value]) -> Key:
    """Return what makes a row unique."""
    return values["pi_id"], values["frame_id"]


class RemoteStore(ABC):
    """A store behind a network, where an answer can get lost after the commit.

    Rows of an attempt that failed are unsure. When they turn out to be there at the next attempt, the time at which
    they were analysed and by whom tell whether that attempt wrote them or another process did.
    """

    def __init__(self) -> None:
        self._unsure: set[Key] = set()

    def write(self, rows: Sequence[Row]) -> set[str]:
        """See ``Store.write``."""
        # in one order, so that two writers of the same rows never deadlock
        values = sorted((cleaned(row) for row in rows), key=lambda row: (str(row["pi_id"]), str(row["frame_id"])))
        written: set[Key] = set()
        unsure_before = set(self._unsure)
        self._unsure.update(map(key_of, values))
        for chunk in chunks(values):
            inserted = self._insert(chunk)
            unsure = [row for row in chunk if key_of(row) in unsure_before and key_of(row) not in inserted]
            written |= inserted | (self._written_before(unsure) if unsure else set())
        self._unsure.clear()
        return {row.frame_id for row in rows if (clean_key(row.pi_id), clean_key(row.frame_id)) in written}

    @abstractmethod
    def _insert(self, chunk: list[dict[str, Value]]) -> set[Key]:
        """Insert and commit rows that are not there yet; return the keys of those."""

    @abstractmethod
    def _written_before(self, chunk: list[dict[str, Value]]) -> set[Key]:
        """Return the keys of those rows that are there with the same analyzed_time and processed_by."""


def same_attempt(row: dict[str, Value], analyzed_time: datetime | None, processed_by: object) -> bool:
    """Return whether a stored row is this one, and not another analysis of the same frame."""
    return row["analyzed_time"] == analyzed_time and row["processed_by"] == processed_by
