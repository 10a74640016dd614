"""The store that an address names."""

from __future__ import annotations

from pathlib import Path

from posture.store.base import ACCEPTED_URLS, URL_SETTING, Store, StoreRefusedError
from posture.system.addresses import origin


def open_store(url: str, *, key: str | None = None, timeout_s: float = 10.0) -> Store:
    """Open the store that ``url`` names, see that it answers, and add the columns that its table lacks.

    Args:
        url: ``sqlite:///path``, ``postgresql://...`` or ``https://...`` (Supabase); no scheme is an SQLite path.
        key: Supabase's secret key.
        timeout_s: bound of one request or statement, in seconds.

    Raises:
        StoreUnavailableError: it can't be opened now.
        StoreRefusedError: it never will be, like this.
    """
    scheme, colon, _ = url.partition("://")
    # psycopg and Supabase's client take 25 MB each: only who uses one loads it
    if scheme in ("postgresql", "postgres") and colon:
        from posture.store.postgres import PostgresStore  # noqa: PLC0415

        return PostgresStore(url, timeout_s)
    if scheme in ("https", "http") and colon:
        if not key:
            raise StoreRefusedError(
                f"POSTURE_SUPABASE_KEY is not set; accepted: the secret key of the project at {origin(url)}"
            )
        from posture.store.supabase import SupabaseStore  # noqa: PLC0415

        return SupabaseStore(url, key, timeout_s)
    path = url.removeprefix("sqlite:///")
    if not path or "://" in path:
        raise StoreRefusedError(
            f"{URL_SETTING}: {origin(url)!r} names no store that we know; accepted: {ACCEPTED_URLS}"
        )
    from posture.store.sqlite import SqliteStore  # noqa: PLC0415

    return SqliteStore(Path(path), timeout_s)
