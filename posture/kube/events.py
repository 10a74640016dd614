"""Kubernetes Events on a ScaledJob: ``kubectl describe scaledjob`` shows its moves."""

from __future__ import annotations

import datetime
import time

from posture.kube import kinds, labels
from posture.kube.client import KubeClient, Object
from posture.kube.objects import ScaledJob

COMPONENT = "posture-balancer"


def create(cluster: KubeClient, scaled_job: ScaledJob, reason: str, message: str) -> None:
    """Create an Event.

    Args:
        cluster: where the ScaledJob lives.
        scaled_job: what it is about.
        reason: a word in CamelCase.
        message: for people.

    Raises:
        KubeError: the API server did not take it.
    """
    now = datetime.datetime.fromtimestamp(cluster.now(), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    body: Object = {
        "apiVersion": kinds.EVENT.api,
        "kind": kinds.EVENT.name,
        "metadata": {
            # the time keeps events of the same second in order
            "name": f"{scaled_job.name}.{time.time_ns():x}",
            "namespace": cluster.namespace,
            "labels": {labels.PART_OF: labels.OURS, labels.STREAM: scaled_job.stream},
        },
        "involvedObject": {
            "apiVersion": kinds.SCALED_JOB.api,
            "kind": kinds.SCALED_JOB.name,
            "name": scaled_job.name,
            "namespace": cluster.namespace,
            "uid": scaled_job.uid,
        },
        "reason": reason,
        "message": message,
        "type": "Normal",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
    }
    cluster.create(kinds.EVENT, body)
