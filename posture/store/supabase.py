"""Rows in Supabase, by its own client: REST upserts that ignore duplicates."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from postgrest.types import CountMethod, ReturnMethod

from posture.store.base import (
    COLUMNS,
    DIGEST,
    LATER_COLUMNS,
    TABLE,
    Key,
    RemoteStore,
    StoreRefusedError,
    StoreUnavailableError,
    Value,
    as_text,
    clean_key,
    key_of,
    same_attempt,
    says_what_lacks,
)
from posture.store.supabase_connection import SupabaseConnection, moment_of

log = logging.getLogger(__name__)

SEQUENCES = f"{TABLE}_sequences"
"""A function of schema.sql: REST alone can't count different values."""
STATUSES = ("Good", "Bad", "Unknown")
PRUNE_ROWS = 1_000
KEYS_IN_A_URL = 20
"""Proxies refuse addresses of more than some kilobytes."""

UNDEFINED_COLUMN = "42703"


class SupabaseStore(RemoteStore):
    """Supabase's REST interface.

    Args:
        url: the project's address, ``https://...``.
        key: its secret key; row level security shuts the public one out.
        timeout_s: bound of connecting, sending, and each wait for bytes, in seconds.

    Raises:
        StoreUnavailableError: it does not answer now.
        StoreRefusedError: it refuses the key, or has no table that we can use.
    """

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s
        self._connection = SupabaseConnection(url, key, timeout_s)
        self._call = self._connection.call
        self.columns: Sequence[str] = COLUMNS
        try:
            self._try_columns()
        except (StoreUnavailableError, StoreRefusedError):
            self.close()
            raise
        if lacking := [name for name in LATER_COLUMNS if name not in self.columns]:
            log.warning("database %s: %s", self._connection.name, says_what_lacks(lacking))

    def _try_columns(self) -> None:
        try:
            self._call(lambda: self._select(*self.columns).limit(1).retry(False).execute().data)
        except StoreRefusedError:
            later = [name for name in LATER_COLUMNS if name in self.columns]
            if self._connection.error.get("code") != UNDEFINED_COLUMN or not later:
                raise
            # the newest first: its answer names one column, however many are lacking
            self.columns = [name for name in self.columns if name != later[-1]]
            self._try_columns()

    def _select(self, *columns: str) -> Any:
        return self._table().select(",".join(columns))

    def _table(self) -> Any:
        return self._connection.client.table(TABLE)

    def _insert(self, chunk: list[dict[str, Value]]) -> set[Key]:
        body = [
            {
                name: as_text(value) if isinstance(value, datetime) else value
                for name, value in row.items()
                if name in self.columns
            }
            for row in chunk
        ]

        def upsert() -> Any:
            request = self._table().upsert(
                body, on_conflict="pi_id,frame_id", ignore_duplicates=True, returning=ReturnMethod.representation
            )
            return request.select("pi_id,frame_id").execute().data

        return {(row["pi_id"], row["frame_id"]) for row in self._call(upsert)}

    def _written_before(self, chunk: list[dict[str, Value]]) -> set[Key]:
        written: set[Key] = set()
        for start in range(0, len(chunk), KEYS_IN_A_URL):
            rows = {key_of(row): row for row in chunk[start : start + KEYS_IN_A_URL]}
            query = self._table().select("pi_id,frame_id,analyzed_time,processed_by")
            query = query.in_("pi_id", sorted({str(pi_id) for pi_id, _ in rows}))
            query = query.in_("frame_id", [frame_id for _, frame_id in rows]).retry(False)
            for found in self._call(lambda: query.execute().data):  # noqa: B023 - called before the loop goes on
                row = rows.get((found["pi_id"], found["frame_id"]))
                if row is not None and same_attempt(row, moment_of(found["analyzed_time"]), found["processed_by"]):
                    written.add(key_of(row))
        return written

    def digests(self, pi_id: str, frame_ids: Sequence[str]) -> dict[str, str | None]:
        """See ``Store.digests``."""
        ids = {clean_key(frame_id): frame_id for frame_id in frame_ids}
        columns = [name for name in ("frame_id", DIGEST) if name in self.columns]
        found: dict[str, str | None] = {}
        for start in range(0, len(ids), KEYS_IN_A_URL):
            query = self._select(*columns).eq("pi_id", clean_key(pi_id))
            query = query.in_("frame_id", list(ids)[start : start + KEYS_IN_A_URL]).retry(False)
            rows = self._call(lambda: query.execute().data)  # noqa: B023 - called before the loop goes on
            found.update({ids[row["frame_id"]]: row.get(DIGEST) for row in rows})
        return found

    def counts(self, pi_id: str) -> dict[str, int]:
        """See ``Store.counts``."""
        counted = {status: self._count(pi_id=clean_key(pi_id), posture_status=status) for status in STATUSES}
        return {status: number for status, number in counted.items() if number}

    def sequences(self, pi_id: str, boot_id: str) -> tuple[int | None, int | None, int]:
        """See ``Store.sequences``."""
        keys = {"of_pi_id": clean_key(pi_id), "of_boot_id": clean_key(boot_id)}
        (row,) = self._call(lambda: self._connection.client.rpc(SEQUENCES, keys).execute().data)
        return row["low"], row["high"], row["number"]

    def _count(self, **equal: str) -> int:
        query = self._table().select("pi_id", count=CountMethod.exact).match(equal)
        return int(self._call(lambda: query.limit(1).retry(False).execute().count))

    def prune(self, older_than: datetime) -> int:
        """See ``Store.prune``."""
        deadline = time.monotonic() + self._timeout_s
        end = as_text(older_than)
        total = 0
        while True:
            # in steps: one request for all would meet the server's own time-out
            limit = self._end_of_step(end)
            total += self._delete_before(limit) or self._delete_before(end)
            if limit == end or time.monotonic() > deadline:
                return total

    def _delete_before(self, limit: str) -> int:
        request = self._table().delete(count=CountMethod.exact, returning=ReturnMethod.minimal)
        return int(self._call(lambda: request.lt("received_time", limit).execute().count))

    def _end_of_step(self, limit: str) -> str:
        """Return the time before which PRUNE_ROWS rows were received; ``limit`` if there are fewer before that."""
        query = self._table().select("received_time").lt("received_time", limit).order("received_time")
        rows = self._call(lambda: query.range(PRUNE_ROWS, PRUNE_ROWS).retry(False).execute().data)
        return str(rows[0]["received_time"]) if rows else limit

    def delete(self, pi_id: str) -> int:
        """See ``Store.delete``."""
        total = 0
        stream = {"pi_id": clean_key(pi_id)}
        while True:
            query = self._table().select("received_time").match(stream).order("received_time")
            step = self._call(lambda: query.range(PRUNE_ROWS, PRUNE_ROWS).retry(False).execute().data)  # noqa: B023
            request = self._table().delete(count=CountMethod.exact, returning=ReturnMethod.minimal).match(stream)
            if step and step[0]["received_time"] is not None:
                request = request.lte("received_time", step[0]["received_time"])
            total += int(self._call(lambda: request.execute().count))  # noqa: B023
            if not step:
                return total

    def close(self) -> None:
        """See ``Store.close``."""
        self._connection.close()
