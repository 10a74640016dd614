"""Which streams run, and which don't and why: for how long, and what of it is new."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from posture.balancer.view import ClusterView
from posture.kube.annotations import STATE
from posture.kube.objects import ScaledJob
from posture.kube.troubles import Trouble
from posture.natural_order import some_of

RUNS = "Running"
"""First word of the annotation's value for a stream that runs; else it is the trouble's reason."""

LONGEST_MESSAGE = 400
"""Of a trouble in the annotation, in characters."""


@dataclass(frozen=True)
class Down:
    """A stream that does not run as it should."""

    trouble: Trouble
    since_s: float
    """When it was first seen so, in seconds since 1970 by the API server's clock."""
    lasts: bool
    """It is no moment of a start: seen twice, and what passes by itself has not."""


@dataclass(frozen=True)
class Change:
    """Something that is worth an Event."""

    stream: str
    down: Down | None
    """None: it runs again."""


class Health:
    """Compares each reading of the farm with the one before.

    Args:
        start_timeout_s: what passes by itself has passed after so many seconds.
    """

    def __init__(self, start_timeout_s: float) -> None:
        self._start_timeout_s = start_timeout_s
        self.down: Mapping[str, Down] = {}
        """The streams that don't run as they should."""
        self._places: Mapping[str, str | None] = {}
        self._told: dict[str, str] = {}
        """Stream -> the reason that was last told."""

    def see(self, view: ClusterView) -> list[Change]:
        """Take a reading of the whole farm; return what has changed for longer than a moment."""
        troubles = {stream: view.trouble(scaled_job) for stream, scaled_job in view.scaled_jobs.items()}
        self._places = {stream: view.place(scaled_job) for stream, scaled_job in view.scaled_jobs.items()}
        self.down = {
            stream: self._down(stream, trouble, view.taken_s)
            for stream, trouble in troubles.items()
            if trouble is not None
        }
        self._told = {stream: reason for stream, reason in self._told.items() if stream in troubles}
        changes = []
        for stream, down in self.down.items():
            if down.lasts and self._told.get(stream) != down.trouble.reason:
                self._told[stream] = down.trouble.reason
                changes.append(Change(stream, down))
        for stream in troubles:
            if stream in self._told and stream not in self.down:
                del self._told[stream]
                changes.append(Change(stream, None))
        return changes

    def _down(self, stream: str, trouble: Trouble, now_s: float) -> Down:
        before = self.down.get(stream)
        if before is None:
            return Down(trouble, now_s, lasts=False)
        lasts = not trouble.passing or now_s - before.since_s > self._start_timeout_s
        return Down(trouble, before.since_s, lasts)

    def state_text(self, scaled_job: ScaledJob) -> str:
        """Return what the annotation should say of a stream; what it says already, if nothing has changed."""
        stored = (scaled_job.annotations or {}).get(STATE, "")
        down = self.down.get(scaled_job.stream)
        if down is None:
            node = self._places.get(scaled_job.stream, scaled_job.node)
            return f"{RUNS} on {node}" if node else RUNS
        # messages of one and the same trouble differ in names of pods
        if not down.lasts or stored.split(" ", 1)[0] == down.trouble.reason:
            return stored
        since = datetime.datetime.fromtimestamp(down.since_s, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{down.trouble.reason} since {since}: {down.trouble.message[:LONGEST_MESSAGE]}"

    def summary(self) -> str:
        """Return the streams that don't run, in a few words; empty if all do."""
        down = self.down
        if not down:
            return ""
        return f"not running: {some_of(f'{stream} ({one.trouble.reason})' for stream, one in down.items())}"
