"""ScaledJobs as the farm has them, small and quick, for tests of what moves and scales them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

NAME = "posture-analyzer-scaledjob-{}"


def name_of(stream: str) -> str:
    return NAME.format(stream)


def labels_of_jobs(stream: str) -> dict[str, str]:
    """The label that KEDA gives to the Jobs and pods of a ScaledJob: the exact name, never a prefix."""
    return {"scaledjob.keda.sh/name": name_of(stream)}


def affinity(node: str) -> dict[str, Any]:
    """A hard affinity to one node."""
    expression = {"key": "gpu-node", "operator": "In", "values": [node]}
    terms = [{"matchExpressions": [expression]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def scaled_job(stream: str, node: str, scaler: str, polling_s: int = 1, **metadata: str) -> dict[str, Any]:
    """A ScaledJob of one stream on one node.

    Args:
        stream: such as ``pi1``.
        node: its first node.
        scaler: the External Scaler's ``host:port``.
        polling_s: how often KEDA asks.
        metadata: more of the trigger's.
    """
    labels = {
        "app.kubernetes.io/part-of": "posture-farm",
        "posture-farm/farm": "default",
        "posture-farm/stream": stream,
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledJob",
        "metadata": {"name": name_of(stream), "labels": labels},
        "spec": {
            "jobTargetRef": {
                "parallelism": 1,
                "completions": 1,
                "backoffLimit": 3,
                "podReplacementPolicy": "Failed",
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "affinity": affinity(node),
                        "restartPolicy": "Never",
                        "automountServiceAccountToken": False,
                        "terminationGracePeriodSeconds": 10,
                        "containers": [
                            {
                                "name": "analyzer",
                                "image": "posture-analyzer:test",
                                "command": ["sleep", "infinity"],
                                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                            }
                        ],
                    },
                },
            },
            "pollingInterval": polling_s,
            "minReplicaCount": 0,
            "maxReplicaCount": 1,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 1,
            "rollout": {"strategy": "gradual", "propagationPolicy": "foreground"},
            # what KEDA has to add it adds at once, and then takes up the ScaledJob twice, which may make two Jobs
            "scalingStrategy": {"strategy": "default"},
            "triggers": [{"type": "external", "metadata": {"scalerAddress": scaler, **metadata}}],
        },
    }


def is_ready(pod: Any) -> bool:
    """Whether a pod is Ready and nobody has deleted it."""
    conditions = (pod.status.conditions or []) if pod.status else []
    ready = any(condition.type == "Ready" and condition.status == "True" for condition in conditions)
    return ready and pod.metadata.deletionTimestamp is None


def ready_on(node: str) -> Callable[[Sequence[Any]], bool]:
    """A condition for pods: just one is there, and it is Ready on that node."""
    return lambda pods: [(pod.spec.nodeName, is_ready(pod)) for pod in pods] == [(node, True)]


def is_finished(job: Any) -> bool:
    """Whether a Job has completed or failed."""
    conditions = (job.status.conditions or []) if job.status else []
    return any(condition.type in {"Complete", "Failed"} and condition.status == "True" for condition in conditions)
