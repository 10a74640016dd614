"""Streams that run elsewhere than their affinity says: told and healed, not too often."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from posture.balancer.open_move import open_move_text
from posture.balancer.view import ClusterView
from posture.kube.affinity import nodes_named
from posture.kube.objects import ScaledJob
from posture.system.backoff import Backoff


@dataclass(frozen=True)
class Drift:
    """A stream whose next Job would not start where its present one is."""

    scaled_job: ScaledJob
    node: str
    """Where its Job is."""

    def __str__(self) -> str:
        """Return what is written, by whom, and what is so."""
        return f"{affinity_told(self.scaled_job)}, its Job is on {self.node}"


def affinity_told(scaled_job: ScaledJob) -> str:
    """Return in words what a stream's affinity names, and who wrote it."""
    named = nodes_named(scaled_job.pod_spec.get("affinity"))
    written = f"its affinity names {' or '.join(named)}" if named else "its affinity names no node"
    by = scaled_job.affinity_manager
    writer = f"written by {by}" if by else "who changed it is not recorded"
    return f"{written} ({writer})"


def drift_of(view: ClusterView, scaled_job: ScaledJob) -> Drift | None:
    """Return how a stream has drifted; None if it has not, or is being moved."""
    node = view.place(scaled_job)
    if node is None or node == scaled_job.node or open_move_text(scaled_job) is not None:
        return None
    return Drift(scaled_job, node)


class DriftWatch:
    """Says when a stream's drift is due to be told and healed: at most once a cooldown (R4).

    Who wrote the affinity, such as a GitOps controller, may write it again each time.

    Args:
        base_s: the first cooldown, in seconds; doubled with each further one of the stream.
        longest_s: no cooldown is longer.
        clock: a monotonic clock.
    """

    def __init__(self, base_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._base_s = base_s
        self._longest_s = longest_s
        self._clock = clock
        self._due_s: dict[str, float] = {}
        self._backoffs: dict[str, Backoff] = {}

    def is_due(self, stream: str) -> bool:
        """Say whether the stream's last drift was long enough ago; if so, the next cooldown begins now."""
        now_s = self._clock()
        if now_s < self._due_s.get(stream, now_s):
            return False
        backoff = self._backoffs.setdefault(stream, Backoff(self._base_s, self._longest_s))
        self._due_s[stream] = now_s + backoff.next_s()
        return True
