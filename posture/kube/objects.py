"""What the balancer reads in the objects of a farm: small dataclasses made from the API's JSON. Pure.

Times are seconds since 1970 by the cluster's clocks.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posture.kube.affinity import NODE_LABEL, node_of
from posture.kube.annotations import PAUSED, is_pinned
from posture.kube.labels import FARM, SCALED_JOB, STREAM

CANNOT_START = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""Reasons of a waiting container after which kubelet only tries again."""

NOT_FOREIGN = frozenset({"foregroundDeletion", "orphan"})
"""Finalizers of a Job by which Kubernetes itself does what its deletion asked for."""

PULLING = frozenset({"ContainerCreating", "PodInitializing"})
"""Troubles that pass when the image has arrived."""

DEFAULT_POLLING_S = 30
"""KEDA's, for a ScaledJob without pollingInterval."""

NOT_PAUSED = frozenset({"0", "f", "F", "false", "False", "FALSE"})
"""Values of KEDA's annotation that don't pause; it takes any other, also a misspelled one, for true."""


def seconds(timestamp: str | None) -> float | None:
    """Return a timestamp of the API in seconds since 1970; None if there is none."""
    if not timestamp:
        return None
    return datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def name_of(body: Mapping[str, Any]) -> str:
    """Return an object's name."""
    return str(body["metadata"]["name"])


def _conditions(body: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["type"]: item for item in (body.get("status") or {}).get("conditions") or []}


def _holds(conditions: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    return conditions.get(name, {}).get("status") == "True"


def _against(condition: Mapping[str, Any]) -> str:
    """Return the message of a condition that doesn't hold."""
    return " ".join(str(condition.get("message") or "").split()) if condition.get("status") == "False" else ""


@dataclass(frozen=True)
class ScaledJob:
    """One stream's ScaledJob: where it should run, and what KEDA says about it."""

    name: str
    stream: str
    uid: str
    generation: int
    node: str | None
    """The node that its affinity requires; None if it requires none."""
    annotations: Mapping[str, str] | None
    """None: it has no annotations at all, which a JSON Patch has to know."""
    pod_spec: Mapping[str, Any] = field(repr=False)
    polling_interval_s: float = DEFAULT_POLLING_S
    ready: bool = False
    active: bool = False
    paused: bool = False
    last_active_s: float | None = None
    """When KEDA last changed its stamp lastActiveTime, by the API server's clock; None: never."""
    affinity_manager: str = ""
    """The field manager that last wrote the affinity; empty where that is not recorded."""
    complaint: str = ""
    """What KEDA has against it, while it is not Ready."""
    farm: str = ""
    """Whose stream it is."""

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> ScaledJob:
        """Take what we need from the API's object."""
        metadata, spec = body["metadata"], body.get("spec") or {}
        conditions = _conditions(body)
        pod_spec = (((spec.get("jobTargetRef") or {}).get("template")) or {}).get("spec") or {}
        annotations = metadata.get("annotations")
        # KEDA's condition Paused may stay True after the annotation is gone and it goes on, as seen with 2.20.2
        paused = str((annotations or {}).get(PAUSED, "false")) not in NOT_PAUSED
        return cls(
            name=metadata["name"],
            stream=(metadata.get("labels") or {}).get(STREAM) or metadata["name"],
            uid=metadata["uid"],
            generation=metadata["generation"],
            node=node_of(pod_spec.get("affinity")),
            annotations=annotations,
            pod_spec=pod_spec,
            polling_interval_s=float(spec.get("pollingInterval") or DEFAULT_POLLING_S),
            ready=_holds(conditions, "Ready"),
            active=_holds(conditions, "Active"),
            paused=paused,
            last_active_s=_stamped_s(body),
            affinity_manager=_manager_of(metadata, "spec", "jobTargetRef", "template", "spec", "affinity"),
            complaint=_against(conditions.get("Ready", {})),
            farm=(metadata.get("labels") or {}).get(FARM) or "",
        )

    @property
    def pinned(self) -> bool:
        """Say whether a person wants the stream to stay where it is."""
        return is_pinned(self.annotations)


def _manager_of(metadata: Mapping[str, Any], *path: str) -> str:
    """Return the field manager that last wrote something at or below a path."""
    writers = [
        (str(entry.get("time") or ""), str(entry.get("manager") or ""))
        for entry in metadata.get("managedFields") or []
        if _owns(entry.get("fieldsV1"), path)
    ]
    return max(writers, default=("", ""))[1]


def _owns(fields: Any, path: Sequence[str]) -> bool:
    for step in path:
        fields = fields.get(f"f:{step}") if isinstance(fields, Mapping) else None
    return fields is not None


def _stamped_s(body: Mapping[str, Any]) -> float | None:
    """Return when status.lastActiveTime last changed, by the API server's clock.

    The stamp itself is by KEDA's clock, which may be wrong by hours.
    """
    stamp = seconds((body.get("status") or {}).get("lastActiveTime"))
    entries = body["metadata"].get("managedFields")
    if stamp is None or not entries:
        return stamp
    times = [
        seconds(entry.get("time"))
        for entry in entries
        if _owns(entry.get("fieldsV1"), ("status", "lastActiveTime"))
    ]
    return max((time_s for time_s in times if time_s is not None), default=None)


@dataclass(frozen=True)
class Job:
    """One Job that KEDA has made."""

    name: str
    uid: str
    scaled_job: str
    created_s: float
    node: str | None
    """The node that its template requires: where it runs, or would run."""
    finished: bool = False
    """Complete or Failed; KEDA counts any other as running, also one that is being deleted."""
    deleting: bool = False
    suspended: bool = False
    """No pods are made for it."""
    held_by: tuple[str, ...] = ()
    """Finalizers of others: a deleted Job stays until they let it go."""
    owner_uid: str = ""
    """Of the ScaledJob that KEDA made it for: a name may be another one's by now."""

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Job:
        """Take what we need from the API's object."""
        metadata = body["metadata"]
        conditions = _conditions(body)
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            scaled_job=_owner(metadata, "ScaledJob"),
            created_s=seconds(metadata["creationTimestamp"]) or 0.0,
            node=node_of(body["spec"]["template"]["spec"].get("affinity")),
            finished=_holds(conditions, "Complete") or _holds(conditions, "Failed"),
            deleting="deletionTimestamp" in metadata,
            suspended=bool(body["spec"].get("suspend")),
            owner_uid=_owner(metadata, "ScaledJob", "uid"),
            held_by=tuple(name for name in metadata.get("finalizers") or [] if name not in NOT_FOREIGN),
        )


@dataclass(frozen=True)
class Pod:
    """One pod of such a Job."""

    name: str
    uid: str
    scaled_job: str
    job_uid: str
    host: str
    """The Node object that it is bound to; empty while it is not."""
    phase: str
    ready_since_s: float | None = None
    deleting: bool = False
    trouble: str = ""
    """Why it doesn't start, or how it ended; empty where there is nothing to say."""
    trouble_since_s: float = 0.0
    pulling: bool = False
    """Bound to a node, and no container has run yet: its image may be on the way."""
    created_s: float = 0.0
    why: str = ""
    """Kubernetes' own words about the trouble, where it has some."""
    status: int | None = None
    """The exit status of a container that has ended: the first that is not 0."""
    ended: str = ""
    """How a pod that has failed ended, in Kubernetes' own word (OOMKilled, Error, Evicted), with that status."""

    @property
    def alive(self) -> bool:
        """Say whether it runs, or is to run; one that is being deleted does until it has ended."""
        return self.phase in {"Pending", "Running"}

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Pod:
        """Take what we need from the API's object."""
        metadata, spec, status = body["metadata"], body["spec"], body.get("status") or {}
        conditions = _conditions(body)
        deleting = "deletionTimestamp" in metadata
        ready = _holds(conditions, "Ready") and not deleting
        trouble, since_s = _trouble(status, conditions)
        created_s = seconds(metadata["creationTimestamp"]) or 0.0
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            scaled_job=(metadata.get("labels") or {}).get(SCALED_JOB, ""),
            job_uid=_owner(metadata, "Job", "uid"),
            host=spec.get("nodeName") or "",
            phase=str(status.get("phase", "Pending")),
            ready_since_s=seconds(conditions["Ready"].get("lastTransitionTime")) if ready else None,
            deleting=deleting,
            trouble=trouble,
            # a node's own clock may be wrong: nothing has happened to a pod before it was there
            trouble_since_s=max(since_s or 0.0, created_s),
            pulling=trouble in PULLING,
            created_s=created_s,
            why=_words(status, conditions),
            status=_exit_status(status),
            ended=_end(status),
        )


def _owner(metadata: Mapping[str, Any], kind: str, key: str = "name") -> str:
    for owner in metadata.get("ownerReferences") or []:
        if owner["kind"] == kind:
            return str(owner[key])
    return ""


def _containers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _trouble(status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]) -> tuple[str, float | None]:
    """Return why a pod doesn't start, and since when; no time means since it was created."""
    phase = status.get("phase", "Pending")
    if phase == "Failed":
        ends = [_ended_s(container) for container in _containers(status)]
        return str(status.get("reason") or "Failed"), max((end for end in ends if end is not None), default=None)
    if conditions.get("PodScheduled", {}).get("status") == "False":
        return str(conditions["PodScheduled"].get("reason") or "Unschedulable"), None
    reasons = [_waiting(container) for container in _containers(status)]
    for reason in reasons:
        if reason in CANNOT_START:
            return reason, None
    if phase == "Pending" and conditions.get("PodScheduled", {}).get("status") == "True":
        return "ContainerCreating", None
    starts = _started_s(status)
    # none runs in the moment between a container's end and its pod's
    if phase == "Running" and starts and not _holds(conditions, "Ready") and not _was_ready(starts, conditions):
        return "NotReady", max(starts)
    return "", None


def _words(status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what Kubernetes says of a pod that doesn't run."""
    scheduled = conditions.get("PodScheduled", {})
    unscheduled = [str(scheduled.get("message", ""))] if scheduled.get("status") == "False" else []
    states = [container.get("state") or {} for container in _containers(status)]
    details = [state.get("waiting") or state.get("terminated") or {} for state in states]
    told = [str(status.get("message") or ""), *unscheduled, *(str(one.get("message") or "") for one in details)]
    return next((" ".join(text.split()) for text in told if text), "")


def _exit_status(status: Mapping[str, Any]) -> int | None:
    states = [container.get("state") or {} for container in status.get("containerStatuses") or []]
    codes = [int(state["terminated"].get("exitCode", 0)) for state in states if "terminated" in state]
    return next((code for code in codes if code), codes[0] if codes else None)


def _end(status: Mapping[str, Any]) -> str:
    if status.get("phase") != "Failed":
        return ""
    ends = [(one.get("state") or {}).get("terminated") or {} for one in status.get("containerStatuses") or []]
    end = next((one for one in ends if one.get("exitCode")), {})
    reason = str(status.get("reason") or end.get("reason") or "Failed")
    return f"{reason}, status {end['exitCode']}" if end else reason


def _ended_s(container: Mapping[str, Any]) -> float | None:
    return seconds(((container.get("state") or {}).get("terminated") or {}).get("finishedAt"))


def _waiting(container: Mapping[str, Any]) -> str:
    return str(((container.get("state") or {}).get("waiting") or {}).get("reason", ""))


def _was_ready(starts: Sequence[float], conditions: Mapping[str, Mapping[str, Any]]) -> bool:
    """Say whether a pod has lost its readiness; one that never had it has been so since its containers started."""
    lost = seconds(conditions.get("Ready", {}).get("lastTransitionTime"))
    return lost is not None and any(lost > start for start in starts)


def _started_s(status: Mapping[str, Any]) -> list[float]:
    """Return when the containers that run were started; an image that had to be pulled was here by then."""
    starts = [
        seconds(((container.get("state") or {}).get("running") or {}).get("startedAt"))
        for container in status.get("containerStatuses") or []
    ]
    return [start for start in starts if start is not None]


@dataclass(frozen=True)
class Node:
    """One node of the cluster that carries the label ``gpu-node``."""

    host: str
    """The name of the Node object."""
    name: str
    """The label's value: the node's name in GPU_QUERIES and in affinities."""
    ready: bool
    cordoned: bool
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...]
    """Those with the effect NoSchedule or NoExecute."""
    allocatable: Mapping[str, str]

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Node:
        """Take what we need from the API's object."""
        metadata, spec = body["metadata"], body.get("spec") or {}
        own_labels = metadata.get("labels") or {}
        return cls(
            host=metadata["name"],
            name=own_labels.get(NODE_LABEL, ""),
            # one that is being deleted is as good as gone
            ready=_holds(_conditions(body), "Ready") and "deletionTimestamp" not in metadata,
            cordoned=bool(spec.get("unschedulable")),
            labels=own_labels,
            taints=tuple(
                taint for taint in spec.get("taints") or [] if taint["effect"] in {"NoSchedule", "NoExecute"}
            ),
            allocatable=(body.get("status") or {}).get("allocatable") or {},
        )
