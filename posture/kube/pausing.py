"""Pausing a ScaledJob, so that KEDA creates no more Jobs of it, and resuming it."""

from __future__ import annotations

from posture.kube import kinds
from posture.kube.annotations import ALL_PATH, CLEARED, PAUSED, path_of, remove_operation, same_object
from posture.kube.client import KubeClient, Object
from posture.kube.objects import ScaledJob, name_of


def is_paused(scaled_job: Object) -> bool:
    """Return whether a ScaledJob is paused by its annotation."""
    return ScaledJob.read(scaled_job).paused


def set_paused(cluster: KubeClient, scaled_job: Object, paused: bool) -> None:
    """Pause or resume a ScaledJob; its Jobs run on.

    Args:
        cluster: where it is.
        scaled_job: as last read.
        paused: True to pause, False to resume.

    Raises:
        KubeError: the API server did not do it.
    """
    present = scaled_job["metadata"].get("annotations") or {}
    operations: list[Object] = [same_object(scaled_job["metadata"]["uid"])]
    if paused:
        operations += [] if present else [{"op": "add", "path": ALL_PATH, "value": {}}]
        operations.append({"op": "add", "path": path_of(PAUSED), "value": "true"})
    elif PAUSED in present:
        # what was cleared is there again when it runs
        operations += [remove_operation(name) for name in (PAUSED, CLEARED) if name in present]
    else:
        return
    cluster.patch(kinds.SCALED_JOB, name_of(scaled_job), operations)
