"""Why a stream does not run as it should, in Kubernetes' own words where it has some. Pure.

A ScaledJob that is Ready and Active says only that KEDA would make a Job. Whether the stream runs is in its Jobs
and pods, and why a Job gets no pod only in the Events about it.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from posture.kube.objects import Job, Pod, ScaledJob
from posture.natural_order import some_of

STEADY_S = 60.0
"""An analyzer whose predecessor ended within so many seconds has to outlive it."""

NO_POD_MADE = "FailedCreate"
"""The Job controller's reason for a Job whose pod the API server does not take."""

AT_LEAST_S = 5.0
"""Times of the API server are whole seconds: so much has to be outlived at any rate."""


@dataclass(frozen=True)
class Complaint:
    """A warning of Kubernetes about a Job."""

    reason: str
    message: str
    last_s: float
    """When it was last given, in seconds since 1970 by the API server's clock."""


@dataclass(frozen=True)
class Trouble:
    """Why a stream does not run as it should."""

    reason: str
    """A word in CamelCase: Kubernetes' own where it has one."""
    message: str
    """The same for people, in one line."""
    passing: bool = False
    """It belongs to every start, and passes by itself; if it stays it is a trouble all the same."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def trouble_of(
    scaled_job: ScaledJob,
    jobs: Sequence[Job],
    pods: Sequence[Pod],
    complaints: Mapping[str, Complaint],
    now_s: float,
) -> Trouble | None:
    """Return what is wrong with a stream; None if one pod of it is Ready, and stays.

    Args:
        scaled_job: the stream's.
        jobs: its Jobs.
        pods: its pods.
        complaints: uid of a Job -> the newest warning about it.
        now_s: by the API server's clock, in seconds since 1970.
    """
    alive = [pod for pod in pods if pod.alive and not pod.deleting]
    ready = [pod for pod in alive if pod.ready_since_s is not None]
    if len(alive) > 1:
        names = some_of(pod.name for pod in alive)
        return Trouble("TooManyPods", f"{len(alive)} pods at once, of which one takes the other's frames: {names}")
    if ready:
        return _unsteady(ready[0], pods, now_s)
    unfinished = [job for job in jobs if not job.finished]
    if not unfinished:
        return _without_job(scaled_job)
    job = max(unfinished, key=lambda one: (not one.deleting, one.created_s))
    return _of_job(job, alive, complaints.get(job.uid), [pod for pod in pods if pod.job_uid == job.uid])


def _of_job(job: Job, alive: Sequence[Pod], complaint: Complaint | None, made: Sequence[Pod]) -> Trouble:
    """Return what is wrong with a Job that has no pod that is Ready.

    A pod that was made since, and has ended, shows that a complaint is over.
    """
    if job.deleting and job.held_by:
        return Trouble("JobHeld", f"Job {job.name} is deleted, and held by the finalizer {', '.join(job.held_by)}")
    if job.deleting:
        return Trouble("JobEnding", f"Job {job.name} is going", passing=True)
    if job.suspended:
        return Trouble("JobSuspended", f"Job {job.name} is suspended")
    if alive:
        return _of_pod(alive[0])
    if complaint is not None and all(pod.created_s < complaint.last_s for pod in made):
        return Trouble(complaint.reason, complaint.message)
    return Trouble("NoPod", f"Job {job.name} has no pod yet", passing=True)


def _without_job(scaled_job: ScaledJob) -> Trouble:
    if scaled_job.paused:
        return Trouble("Paused", "KEDA has been told to make no Job")
    if not scaled_job.ready:
        return Trouble(
            "NotReady", f"KEDA does not accept the ScaledJob: {scaled_job.complaint or 'it gives no reason'}"
        )
    if not scaled_job.active:
        return Trouble("NotActive", "KEDA makes no Job: the scaler says that every node is full, or is not reached")
    return Trouble("NoJob", "KEDA makes a Job at its next poll", passing=True)


def _of_pod(pod: Pod) -> Trouble:
    place = f"on {pod.host}" if pod.host else "nowhere yet"
    words = f"pod {pod.name} is {pod.phase} {place}" + (f": {pod.why}" if pod.why else "")
    return Trouble(pod.trouble or "PodNotReady", words, passing=pod.pulling or not pod.trouble)


def _unsteady(current: Pod, pods: Sequence[Pod], now_s: float) -> Trouble | None:
    """Return that a stream's analyzer keeps ending, if it does.

    Pods are compared by their creation, all by the API server's clock; ends are by the clocks of nodes.
    """
    ended = [pod for pod in pods if pod.phase in {"Succeeded", "Failed"} and pod.created_s < current.created_s]
    if not ended:
        return None
    last = max(ended, key=operator.attrgetter("created_s"))
    after_s = current.created_s - last.created_s
    if after_s > STEADY_S or now_s - current.created_s > max(after_s, AT_LEAST_S):
        return None
    status = "" if last.status is None else f" with status {last.status}"
    return Trouble(
        "KeepsEnding", f"pod {last.name} ended{status}, and {after_s:.0f} s after its start came the next"
    )
