"""ScaledJobs into the cluster, and how far their streams are.

What exists keeps the node that the cluster has it on: placing is done once, after that it is the balancer's.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from posture.errors import FailedError
from posture.kube import errors, events, kinds, labels, ownership
from posture.kube.client import KubeClient, Object
from posture.kube.objects import Job, Pod, ScaledJob, name_of
from posture.kube.pausing import is_paused, set_paused
from posture.kube.troubles import Complaint, trouble_of
from posture.natural_order import natural, some_of
from posture.runtime import Stop

REVISION = "posture-farm/revision"
"""Annotation of a pod template: what it was made from, its node apart."""
ATTEMPTS = 5
LOOK_EVERY_S = 1.0
MOST_ROWS = 20
"""A table of more streams than a screen holds says nothing to anybody."""
MOST_TROUBLES = 5


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
        troubled: whether what keeps it from running does not pass by itself.
    """

    stream: str
    node: str
    active: bool = False
    current: bool = False
    ready: bool = False
    words: str = "no ScaledJob yet"
    troubled: bool = False

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

    def wait_for(self, streams: Sequence[str]) -> None:
        """Wait until these streams run, showing how far they are.

        Raises:
            KubeError: the API server does not answer.
            FailedError: one doesn't run in time, or the stop was requested.
        """
        deadline = time.monotonic() + self.timeout_s
        while True:
            states = states_of(streams, self.look())
            self.show(overview(states))
            late = [state for state in states if not state.runs]
            if not late:
                return
            if self.stop.requested:
                raise FailedError("interrupted while waiting for " + some_of(state.stream for state in late))
            if time.monotonic() > deadline:
                raise FailedError(f"not running after {self.timeout_s:g} s:\n{self.told(states)}")
            self.stop.wait(LOOK_EVERY_S)

    def told(self, states: Sequence[StreamState]) -> str:
        """Return the lines that say of streams what keeps them from running, and where to look."""
        late = [state for state in states if not state.runs]
        lines = [f"  {state.stream}: {state.words}" for state in late[:MOST_ROWS]]
        if len(late) > MOST_ROWS:
            lines.append(f"  and {len(late) - MOST_ROWS} more")
        if not any(state.active for state in states):
            lines.append(f"  does KEDA reach the scaler at {self.scaler_address}? (firewall, --scaler-address)")
        lines.append(f"  see kubectl -n {self.cluster.namespace} describe scaledjob,pod -l {labels.STREAM}")
        return "\n".join(lines)

    def look(self) -> dict[str, Seen]:
        """Return what there is of each stream: what its ScaledJob owns, by exact name and uid.

        Raises:
            KubeError: the API server does not answer.
        """
        selector = labels.of_streams(self.farm)
        scaled_jobs = self.cluster.list(kinds.SCALED_JOB, labels.of_farm(self.farm))
        jobs, pods = self.cluster.list(kinds.JOB, selector), self.cluster.list(kinds.POD, selector)
        alive = [pod for pod in pods if Pod.read(pod).alive]
        lacking = any(is_unfinished(job) and not any(is_owned_by(pod, job) for pod in alive) for job in jobs)
        complaints = events.complaints_about_jobs(self.cluster) if lacking else {}
        found = {}
        for scaled_job in scaled_jobs:
            own = [job for job in jobs if is_owned_by(job, scaled_job)]
            theirs = [pod for pod in pods if any(is_owned_by(pod, job) for job in own)]
            seen = Seen(scaled_job, own, theirs, complaints, self.cluster.now())
            found[ScaledJob.read(scaled_job).stream] = seen
        return found


@dataclass(frozen=True)
class Seen:
    """What there is of a stream in the cluster.

    Attributes:
        scaled_job: its ScaledJob.
        jobs: that ScaledJob's Jobs.
        pods: those Jobs' pods.
        complaints: uid of a Job -> the newest warning about it.
        now_s: when, by the API server's clock, in seconds since 1970.
    """

    scaled_job: Object
    jobs: Sequence[Object]
    pods: Sequence[Object]
    complaints: Mapping[str, Complaint]
    now_s: float

    @property
    def served(self) -> bool:
        """Whether an analyzer takes the stream's frames, of whatever revision."""
        return any(pod.ready_since_s is not None and not pod.deleting for pod in map(Pod.read, self.pods))

    @property
    def outdated(self) -> list[Object]:
        """Its unfinished Jobs that were made from an older revision."""
        return [job for job in self.jobs if is_unfinished(job) and not is_current(job, self.scaled_job)]


def states_of(streams: Sequence[str], found: Mapping[str, Seen]) -> list[StreamState]:
    """Say how far streams are, in their order."""
    return [state_of(one, found[one]) if one in found else StreamState(one, "-") for one in streams]


def state_of(stream: str, seen: Seen) -> StreamState:
    """Say how far a stream is. Pure."""
    scaled_job, jobs = seen.scaled_job, seen.jobs
    read = ScaledJob.read(scaled_job)
    node = read.node or "any"
    if read.paused:
        return StreamState(stream, node, words="paused")
    current = [job for job in jobs if is_current(job, scaled_job)]
    unfinished = [Job.read(job) for job in current if is_unfinished(job)]
    if not unfinished:
        return StreamState(stream, node, read.active, words=_words_without_job(read, seen))
    owners = {job["metadata"]["uid"] for job in current}
    pods = [pod for pod in map(Pod.read, seen.pods) if pod.job_uid in owners]
    trouble = trouble_of(read, unfinished, pods, seen.complaints, seen.now_s)
    if max(unfinished, key=lambda job: job.created_s).node != read.node:
        return StreamState(stream, node, read.active, True, words=f"being moved to {node}")
    if trouble is not None:
        return StreamState(stream, node, read.active, True, words=str(trouble), troubled=not trouble.passing)
    (host,) = (pod.host for pod in pods if pod.ready_since_s is not None)
    return StreamState(stream, node, read.active, True, True, f"Ready on {host}")


def _words_without_job(read: ScaledJob, seen: Seen) -> str:
    """Return why a stream has no unfinished Job of its present revision."""
    old = [Job.read(job) for job in seen.jobs if is_unfinished(job)]
    if old:
        trouble = trouble_of(read, old, [Pod.read(pod) for pod in seen.pods], seen.complaints, seen.now_s)
        held = trouble is not None and not trouble.passing
        return "the old Job is finishing its frames" + (f": {trouble}" if held else "")
    if read.active:
        return "waiting for KEDA's Job"
    return "KEDA does not call it active" + (f": {read.complaint}" if read.complaint else "")


def overview(states: Sequence[StreamState]) -> list[str]:
    """Return what a person wants to know of streams that are waited for.

    Of few streams each one has its row; of many it is told how many are how far, and what some of those need that
    will not run by themselves.
    """
    return table(states) if len(states) <= MOST_ROWS else summary(states)


def summary(states: Sequence[StreamState]) -> list[str]:
    """Return how many streams are how far, and which of them will not run by themselves."""
    late = Counter(state.words.partition(":")[0] for state in states if not state.runs)
    runs = len(states) - late.total()
    told = ", ".join(f"{count} {words}" for words, count in sorted(late.items(), key=lambda one: (-one[1], one[0])))
    troubled = sorted((state for state in states if state.troubled), key=lambda state: natural(state.stream))
    lines = [f"{runs} of {len(states)} streams run{told and f'; {told}'}"]
    lines += [f"  {state.stream} on {state.node}: {state.words}" for state in troubled[:MOST_TROUBLES]]
    if len(troubled) > MOST_TROUBLES:
        lines.append(f"  and {len(troubled) - MOST_TROUBLES} more like these")
    return lines


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
