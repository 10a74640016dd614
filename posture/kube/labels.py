"""The labels by which the farm recognizes its own objects, and the one that KEDA puts on its Jobs. Pure."""

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


def of_farm(farm: str) -> dict[str, str | None]:
    """Return the selector of everything that belongs to a farm."""
    return {PART_OF: OURS, FARM: farm}


def of_streams(farm: str) -> dict[str, str | None]:
    """Return the selector of a farm's ScaledJobs, Jobs and analyzers' pods."""
    return {**of_farm(farm), STREAM: None}


def of_all_streams() -> dict[str, str | None]:
    """Return the selector of every farm's ScaledJobs, Jobs and analyzers' pods."""
    return {PART_OF: OURS, FARM: None, STREAM: None}
