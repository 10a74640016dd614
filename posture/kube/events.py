"""Kubernetes Events: ours, which ``kubectl describe scaledjob`` shows, and others' warnings about Jobs."""

from __future__ import annotations

import datetime
import time

from posture.kube import kinds, labels
from posture.kube.client import KubeClient, Object
from posture.kube.objects import ScaledJob, seconds
from posture.kube.troubles import Complaint

COMPONENT = "posture-balancer"


LONGEST_MESSAGE = 1024
"""The API server refuses a longer one."""


def create(cluster: KubeClient, scaled_job: ScaledJob, reason: str, message: str, *, warning: bool = False) -> None:
    """Create an Event.

    Args:
        cluster: where the ScaledJob lives.
        scaled_job: what it is about.
        reason: a word in CamelCase.
        message: for people.
        warning: something is wrong.

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
        "message": message[:LONGEST_MESSAGE],
        "type": "Warning" if warning else "Normal",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
    }
    cluster.create(kinds.EVENT, body)


def complaints_about_jobs(cluster: KubeClient) -> dict[str, Complaint]:
    """Return uid of a Job -> the newest warning about it, such as why it gets no pod.

    Raises:
        KubeError: the API server did not answer.
    """
    about_jobs = {"involvedObject.kind": kinds.JOB.name, "type": "Warning"}
    found = sorted(cluster.list(kinds.EVENT, fields=about_jobs), key=_last_seen)
    return {
        event["involvedObject"].get("uid", ""): Complaint(
            str(event.get("reason") or "Warning"),
            " ".join(str(event.get("message") or "").split()),
            seconds(_last_seen(event)) or 0.0,
        )
        for event in found
    }


def _last_seen(event: Object) -> str:
    """Return when an Event last happened, as a text that sorts by time."""
    series = event.get("series") or {}
    return str(
        event.get("lastTimestamp")
        or series.get("lastObservedTime")
        or event.get("eventTime")
        or event["metadata"]["creationTimestamp"]
    )
