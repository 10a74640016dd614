"""The history that an address names."""

from __future__ import annotations

from pathlib import Path

from posture.history.questions import History
from posture.history.sqlite import SqliteReader
from posture.store.base import ACCEPTED_URLS, URL_SETTING, StoreRefusedError
from posture.system.addresses import origin


def open_history(url: str, *, key: str | None = None, timeout_s: float = 10.0) -> History:
    """Open the database that ``url`` names, to be asked.

    Args:
        url: as ``posture.store.opening.open_store`` takes it; an SQLite file must be there.
        key: Supabase's secret key.
        timeout_s: bound of one question, in seconds.

    Raises:
        StoreUnavailableError: it can't be opened now.
        StoreRefusedError: it never will be, like this.
    """
    scheme, colon, _ = url.partition("://")
    # psycopg and Supabase's client take 25 MB each: only who uses one loads it
    if scheme in ("postgresql", "postgres") and colon:
        from posture.history.postgres import PostgresReader  # noqa: PLC0415

        return History(PostgresReader(url, timeout_s))
    if scheme in ("https", "http") and colon:
        if not key:
            raise StoreRefusedError(
                f"POSTURE_SUPABASE_KEY is not set; accepted: the secret key of the project at {origin(url)}"
            )
        from posture.history.supabase import SupabaseReader  # noqa: PLC0415

        return History(SupabaseReader(url, key, timeout_s))
    path = url.removeprefix("sqlite:///")
    if not path or "://" in path:
        raise StoreRefusedError(
            f"{URL_SETTING}: {origin(url)!r} names no store that we know; accepted: {ACCEPTED_URLS}"
        )
    return History(SqliteReader(Path(path), timeout_s))
