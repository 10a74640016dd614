"""The labels and annotations by which the farm knows what is its own, and what KEDA puts on its Jobs."""

from __future__ import annotations

PART_OF = "app.kubernetes.io/part-of"
OURS = "posture-farm"
"""Every object of ours has this value of PART_OF."""

FARM = "posture-farm/farm"
"""Which farm: two may share a namespace."""

STREAM = "posture-farm/stream"
"""Which stream; on a ScaledJob, its Jobs and their pods."""

SCALED_JOB = "scaledjob.keda.sh/name"
"""KEDA's, on a Job and its pods: the exact name of the ScaledJob."""

PAUSED = "autoscaling.keda.sh/paused"
"""KEDA's annotation; ``"true"``: it makes no Job."""

MOVE = "posture-farm/move"
"""The balancer's annotation of a ScaledJob while a move of it is open: the move as JSON."""

HISTORY = "posture-farm/history"
"""The balancer's: what it must remember of a stream when it starts again, as JSON."""

PINNED = "posture-farm/pinned"
"""A person's; ``"true"``: the stream is never moved."""


def of_farm(farm: str) -> dict[str, str | None]:
    """Return the selector of everything that belongs to a farm."""
    return {PART_OF: OURS, FARM: farm}


def of_streams(farm: str) -> dict[str, str | None]:
    """Return the selector of a farm's ScaledJobs, Jobs and analyzers' pods."""
    return {**of_farm(farm), STREAM: None}
