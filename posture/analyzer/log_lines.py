"""What an operator reads in the log: where rows and pictures go, and once a minute how it goes."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timezone
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from posture.analyzer.counts import Account
from posture.settings.paths import path_of, pictures_of, quarantine_of
from posture.settings.picture_store import bucket_address
from posture.settings.table import Analyzer, Settings
from posture.wire.topics import Topics

log = logging.getLogger(__name__)

EVERY_S = 60.0
KINDS = {
    "photo": "photographs, with faces",
    "blurred_face": "photographs with heads made coarse",
    "skeleton": "drawings, no pixel of the camera",
}


def destinations(settings: Settings, topics: Topics) -> list[str]:
    """Return, in plain words and without any credential, where rows and pictures of a stream go."""
    options = settings.for_stream(topics.pi_id)
    lines = [f"rows go to {_store(settings.database.url)}{_days(settings.database.keep_days, 'rows')}"]
    if options.pictures == "none" or options.keep == "none":
        lines.append("no pictures are kept")
    else:
        lines.append(f"pictures go to {_pictures(options, topics.pi_id)}: {_kept(options)}")
    if options.preview and options.pictures != "none":
        lines.append(f"small pictures ({KINDS[options.pictures]}) go to {topics.picture} at the broker")
    if options.quarantine and options.pictures == "photo":
        folder = quarantine_of(options, topics.pi_id)
        lines.append(f"frames that can't be read go to {folder}: the last {options.quarantine_max_count}")
    return lines


def _store(url: str) -> str:
    if url.startswith("sqlite:"):
        return f"SQLite in {path_of(url.removeprefix('sqlite:///'))}"
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    if parts.scheme.startswith("http"):
        return f"Supabase at {address}"
    return f"PostgreSQL at {address}, database {parts.path.strip('/') or 'of the user'}"


def _pictures(options: Analyzer, pi_id: str) -> str:
    folder = pictures_of(options, pi_id)
    return f"{bucket_address(options.pictures_url)}/{folder.name}" if options.pictures_url else str(folder)


def _kept(options: Analyzer) -> str:
    which = "of every frame"
    if options.keep == "changes":
        which = "at changes of the state, at alerts, and one a minute (analyzer.keep: all keeps every one)"
    bounds = _days(options.pictures_keep_days, "pictures")
    if options.pictures_bound is not None:
        bounds += f"; beyond {options.pictures_bound / 1e9:g} GB the oldest are deleted"
    return f"{KINDS[options.pictures]}, {which}{bounds or '; nothing is deleted'}"


def _days(days: float, what: str) -> str:
    return f"; {what} older than {days:g} days are deleted" if days else ""


class EveryMinute:
    """Logs one line a minute.

    Args:
        pi_id: the stream.
        account: what became of its frames.
        every_s: what a minute is.
    """

    def __init__(self, pi_id: str, account: Account, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._pi_id = pi_id
        self._account = account
        self._since = time.monotonic()
        self._rows = 0

    def check(self, state: dict[str, Any] | None, waiting: int, store_away: bool) -> None:
        """Log the line if it is due; cheap enough to be called often.

        Args:
            state: the stream's, as it was told last.
            waiting: frames in hand.
            store_away: the store can't be reached.
        """
        elapsed = time.monotonic() - self._since
        if elapsed < self._every_s:
            return
        frames, self._rows = self._account.rows - self._rows, self._account.rows
        delays, self._account.delays = self._account.delays, []
        self._since = time.monotonic()
        parts = [
            f"{frames} frames in {elapsed:.0f} s ({frames / elapsed:.1f}/s)",
            f"missing {self._account.missing}",
        ]
        if delays:
            parts.append(f"{median(delays):.1f} s from the camera to the row")
        if store_away:
            parts.append(f"the store is away, {waiting} frames wait")
        parts.append(_told(state))
        log.info("%s: %s", self._pi_id, ", ".join(parts))


def _told(state: dict[str, Any] | None) -> str:
    if state is None:
        return "no state yet"
    since = datetime.fromisoformat(state["since"]).astimezone(timezone.utc)
    reason = f" ({state['reason']})" if state["reason"] else ""
    return f"{state['state']}{reason} since {since:%H:%M:%S} UTC"
