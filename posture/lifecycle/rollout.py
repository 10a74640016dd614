"""ScaledJobs into the cluster: new ones where the plan says, those that exist as an upgrade, one stream at a time.

What exists keeps the node that the cluster has it on: placing is done once, after that it is the balancer's.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from posture.errors import FailedError
from posture.kube import errors, kinds, labels, ownership
from posture.kube.client import KubeClient, Object
from posture.kube.objects import Job, Pod, ScaledJob, name_of
from posture.kube.pausing import is_paused, set_paused
from posture.runtime import Stop

REVISION = "posture-farm/revision"
"""Annotation of a pod template: what it was made from, its node apart."""
ATTEMPTS = 5
LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class StreamState:
    """How far a stream is.

    Attributes:
        stream: its name.
        node: where the cluster wants it.
        active: whether KEDA calls its ScaledJob active.
        current: whether an unfinished Job of the present revision is there.
        ready: whether that Job's pod is Ready on that node.
        words: the same for people.
    """

    stream: str
    node: str
    active: bool = False
    current: bool = False
    ready: bool = False
    words: str = "no ScaledJob yet"

    @property
    def runs(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.active and self.ready


@dataclass
class Rollout:
    """Applies ScaledJobs and waits for their streams.

    Attributes:
        cluster: where.
        farm: whose ScaledJobs.
        timeout_s: how long one stream may take to be Ready.
        stop: cuts the waiting short.
        show: takes the table's lines whenever it was looked at.
        scaler_address: where KEDA should find the scaler, for who has to look why it does not.
    """

    cluster: KubeClient
    farm: str
    timeout_s: float
    stop: Stop
    show: Callable[[Sequence[str]], None]
    scaler_address: str = ""

    def apply(self, manifest: Object) -> Object:
        """Create or change one ScaledJob; one that exists keeps its affinity, and goes on if it was paused.

        Raises:
            KubeError: the API server did not take it, or a ScaledJob of that name is not this farm's.
        """
        name = name_of(manifest)
        for attempt in range(1, ATTEMPTS + 1):
            body = with_revision(manifest)
            live = ownership.find(self.cluster, kinds.SCALED_JOB, name, self.farm)
            if live is not None:
                keep_affinity(body, live)
            try:
                # the balancer may move the stream between our reading and our writing: that is a conflict
                applied = ownership.apply_to(self.cluster, kinds.SCALED_JOB, body, live, self.farm)
            except errors.ConflictError:
                if attempt == ATTEMPTS:
                    raise
                continue
            if is_paused(applied):
                set_paused(self.cluster, applied, False)
            return applied
        raise AssertionError("unreachable")

    def replace_outdated(self, stream: str) -> bool:
        """Delete a stream's Job that was made from an older revision, and wait until its successor is Ready.

        Returns:
            Whether there was one.

        Raises:
            KubeError: the API server did not do it.
            FailedError: the successor does not become Ready.
        """
        scaled_job, jobs, _ = self._look()[stream]
        outdated = [job for job in jobs if is_unfinished(job) and not is_current(job, scaled_job)]
        # one that is already being deleted is a move's, and its successor will be of the present revision
        for job in outdated:
            if "deletionTimestamp" not in job["metadata"]:
                self.cluster.delete(kinds.JOB, name_of(job), uid=job["metadata"]["uid"], propagation="Foreground")
        if outdated:
            self.wait_for([stream])
        return bool(outdated)

    def wait_for(self, streams: Sequence[str]) -> None:
        """Wait until these streams run, showing how far they are.

        Raises:
            KubeError: the API server does not answer.
            FailedError: one doesn't run in time, or the stop was requested.
        """
        deadline = time.monotonic() + self.timeout_s
        while True:
            found = self._look()
            states = [state_of(stream, *found[stream]) if stream in found else StreamState(stream, "-")
                      for stream in streams]  # fmt: skip
            self.show(table(states))
            late = [state for state in states if not state.runs]
            if not late:
                return
            if self.stop.requested:
                raise FailedError("interrupted while waiting for " + ", ".join(state.stream for state in late))
            if time.monotonic() > deadline:
                told = "\n".join(f"  {state.stream}: {state.words}" for state in late)
                if not any(state.active for state in states):
                    told += f"\n  does KEDA reach the scaler at {self.scaler_address}? (firewall, --scaler-address)"
                raise FailedError(
                    f"not running after {self.timeout_s:g} s:\n{told}\n"
                    f"  see kubectl -n {self.cluster.namespace} describe scaledjob,pod -l {labels.STREAM}"
                )
            self.stop.wait(LOOK_EVERY_S)

    def _look(self) -> dict[str, tuple[Object, list[Object], list[Object]]]:
        """Return each stream's ScaledJob with its Jobs and pods: those that it owns, by exact name and uid."""
        selector = labels.of_streams(self.farm)
        scaled_jobs = self.cluster.list(kinds.SCALED_JOB, labels.of_farm(self.farm))
        jobs, pods = self.cluster.list(kinds.JOB, selector), self.cluster.list(kinds.POD, selector)
        found = {}
        for scaled_job in scaled_jobs:
            own = [job for job in jobs if is_owned_by(job, scaled_job)]
            theirs = [pod for pod in pods if any(is_owned_by(pod, job) for job in own)]
            found[ScaledJob.read(scaled_job).stream] = (scaled_job, own, theirs)
        return found


def state_of(stream: str, scaled_job: Object, jobs: Sequence[Object], pods: Sequence[Object]) -> StreamState:
    """Say how far a stream is. Pure."""
    read = ScaledJob.read(scaled_job)
    node = read.node or "any"
    if read.paused:
        return StreamState(stream, node, words="paused")
    current = [job for job in jobs if is_unfinished(job) and is_current(job, scaled_job)]
    if not current:
        old = any(is_unfinished(job) for job in jobs)
        waiting = "the old Job is finishing its frames" if old else "waiting for KEDA's Job"
        words = waiting if read.active or old else f"KEDA does not call it active{_complaint(scaled_job)}"
        return StreamState(stream, node, read.active, words=words)
    (*_, job) = sorted(current, key=lambda item: Job.read(item).created_s)
    own = [Pod.read(pod) for pod in pods if is_owned_by(pod, job)]
    ready = any(pod.ready_since_s is not None for pod in own)
    on_place = Job.read(job).node == read.node
    words = _pod_words(own) if on_place else f"being moved to {node}"
    return StreamState(stream, node, read.active, True, ready and on_place, words)


def _pod_words(pods: Sequence[Pod]) -> str:
    if not pods:
        return "its Job has no pod yet"
    pod = max(pods, key=lambda one: one.ready_since_s or 0)
    if pod.ready_since_s is not None:
        return f"Ready on {pod.host}"
    return f"{pod.phase}{f': {pod.trouble}' if pod.trouble else ''}{f' on {pod.host}' if pod.host else ''}"


def _complaint(scaled_job: Object) -> str:
    """Return what KEDA has against a ScaledJob, if it says so."""
    conditions = (scaled_job.get("status") or {}).get("conditions") or []
    refused = [item for item in conditions if item["type"] == "Ready" and item["status"] == "False"]
    return "".join(f": {item['message']}" for item in refused if item.get("message"))


def table(states: Sequence[StreamState]) -> list[str]:
    """Return the lines of a table: stream, node, what KEDA says, how far it is."""
    rows = [("stream", "node", "active", "state")]
    rows += [(state.stream, state.node, "yes" if state.active else "no", state.words) for state in states]
    widths = [max(len(row[column]) for row in rows) for column in range(3)] + [0]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def with_revision(manifest: Object) -> Object:
    """Return a copy of a ScaledJob whose pod template says what it was made from."""
    body = copy.deepcopy(manifest)
    template = body["spec"]["jobTargetRef"]["template"]
    made_from = copy.deepcopy(template)
    made_from["spec"].pop("affinity", None)
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    template.setdefault("metadata", {}).setdefault("annotations", {})[REVISION] = digest
    return body


def keep_affinity(body: Object, live: Object) -> None:
    """Give a ScaledJob the affinity that the cluster has."""
    spec = body["spec"]["jobTargetRef"]["template"]["spec"]
    affinity = live["spec"]["jobTargetRef"]["template"]["spec"].get("affinity")
    if affinity is not None:
        spec["affinity"] = affinity
    else:
        spec.pop("affinity", None)


def is_current(job: Object, scaled_job: Object) -> bool:
    """Return whether a Job was made from the ScaledJob's present template, its node apart."""
    ours, theirs = scaled_job["spec"]["jobTargetRef"]["template"], job["spec"]["template"]
    return _made_from(ours) == _made_from(theirs)


def _made_from(template: Object) -> tuple[str, list[str]]:
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    return annotations.get(REVISION, ""), [container["image"] for container in template["spec"]["containers"]]


def is_unfinished(job: Object) -> bool:
    """Return whether a Job has neither completed nor failed."""
    return not Job.read(job).finished


def is_owned_by(item: Object, owner: Object) -> bool:
    """Return whether an object belongs to exactly this other one: by uid, never by name."""
    owners = item["metadata"].get("ownerReferences") or []
    return any(reference["uid"] == owner["metadata"]["uid"] for reference in owners)
