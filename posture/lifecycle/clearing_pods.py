"""Pods that clear what the broker retains of streams that are gone.

Only a stream's analyzer may write its topics, and only its pod has the user, the certificates and the network for
that. So the pod that clears them is the analyzer's own, with another flag.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping

from posture.errors import FailedError
from posture.kube import affinity, kinds, labels, ownership
from posture.kube.client import KubeClient, Object
from posture.kube.errors import ConflictError
from posture.kube.objects import Pod, name_of
from posture.runtime import Stop

FLAG = "--clear-topics"
LOOK_EVERY_S = 1.0
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def clear(cluster: KubeClient, scaled_jobs: Mapping[str, Object], timeout_s: float, stop: Stop) -> dict[str, str]:
    """Clear the retained topics of streams whose analyzers have ended.

    Args:
        cluster: where.
        scaled_jobs: stream -> its ScaledJob, whose Job is gone.
        timeout_s: how long it may take.
        stop: cuts the waiting short.

    Returns:
        Stream -> why its topics could not be cleared.

    Raises:
        KubeError: the API server did not do it.
        FailedError: the stop was requested.
    """
    selector = {labels.STREAM: scaled_jobs.keys()}
    deadline = time.monotonic() + timeout_s
    failures: dict[str, str] = {}
    pods: list[Object] = []
    waiting: dict[str, str] = {}
    try:
        for stream, scaled_job in scaled_jobs.items():
            pods.append(_create(cluster, pod_of(scaled_job), deadline, stop))
            waiting[str(pods[-1]["metadata"]["uid"])] = stream
        while waiting:
            found = {str(item["metadata"]["uid"]): item for item in cluster.list(kinds.POD, selector)}
            late = time.monotonic() > deadline
            for uid, stream in list(waiting.items()):
                end = _end(found[uid]) if uid in found else "its pod is gone"
                if end is None and late:
                    read = Pod.read(found[uid])
                    words = f": {read.trouble} {read.why}".rstrip() if read.trouble else ""
                    end = f"its pod has not ended after {timeout_s:g} s{words}"
                if end is not None:
                    del waiting[uid]
                    failures.update({stream: end} if end else {})
            if stop.requested:
                raise FailedError(f"interrupted while topics of {', '.join(waiting.values())} were cleared")
            if waiting:
                stop.wait(LOOK_EVERY_S)
    finally:
        for pod in pods:
            cluster.delete(kinds.POD, name_of(pod), uid=pod["metadata"]["uid"])
    return failures


def _create(cluster: KubeClient, pod: Object, deadline: float, stop: Stop) -> Object:
    """Create a pod as soon as the one of an earlier run, which may still be ending, is gone."""
    while True:
        late = time.monotonic() > deadline
        try:
            return cluster.create(kinds.POD, pod)
        except ConflictError:
            if late or stop.requested:
                raise
        stop.wait(LOOK_EVERY_S)


def pod_of(scaled_job: Object) -> Object:
    """Return the pod that clears the topics of a ScaledJob's stream, on any node that analyzers may run on."""
    template = copy.deepcopy(scaled_job["spec"]["jobTargetRef"]["template"])
    owner = scaled_job["metadata"]
    spec = template["spec"]
    spec["affinity"] = affinity.with_any_node(spec.get("affinity"))
    spec["restartPolicy"] = "Never"
    container = spec["containers"][0]
    container["args"] = [FLAG]
    # what it says last is why it fails
    container["terminationMessagePolicy"] = "FallbackToLogsOnError"
    for probe in _PROBES:
        container.pop(probe, None)
    farm, stream = (owner["labels"][name] for name in (labels.FARM, labels.STREAM))
    # with the same labels and annotations: network policies and service meshes go by them
    metadata = {**(template.get("metadata") or {}), "name": ownership.named_for(f"posture-clear-{stream}", farm)}
    return {"apiVersion": kinds.POD.api, "kind": kinds.POD.name, "metadata": metadata, "spec": spec}


def _end(pod: Object) -> str | None:
    """Return why its analyzer's container has failed; empty: it has done its work; None: it has not ended."""
    name = pod["spec"]["containers"][0]["name"]
    status = pod.get("status") or {}
    for one in status.get("containerStatuses") or []:
        ended = (one.get("state") or {}).get("terminated")
        if one["name"] == name and ended is not None:
            said = " ".join(str(ended.get("message") or "").split()[-60:])
            return "" if ended["exitCode"] == 0 else said or f"it ended with status {ended['exitCode']}"
    return str(status.get("message") or "its pod has failed") if status.get("phase") == "Failed" else None
