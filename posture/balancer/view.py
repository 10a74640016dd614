"""One reading of the cluster: four paged lists, however many streams there are; a fifth where a Job has no pod."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from posture.balancer.open_move import destination_of, open_move_text
from posture.kube import events, kinds, labels
from posture.kube.client import KubeClient
from posture.kube.objects import Job, Node, Pod, ScaledJob
from posture.kube.troubles import NO_POD_MADE, Complaint, Trouble, trouble_of
from posture.planning.model import Keda

log = logging.getLogger(__name__)

FEW = 20
"""Up to this many streams are selected by name; for more, the whole farm is listed."""


@dataclass(frozen=True)
class ClusterView:
    """One reading of the cluster."""

    taken_s: float
    """By the API server's clock, in seconds since 1970."""
    nodes: Mapping[str, Node]
    """Every Node object, by its name."""
    scaled_jobs: Mapping[str, ScaledJob]
    """The farm's ScaledJobs, by stream."""
    jobs: Mapping[str, Sequence[Job]]
    """The Jobs of each ScaledJob, by its name."""
    pods: Mapping[str, Sequence[Pod]]
    """The pods of each ScaledJob, by its name."""
    complaints: Mapping[str, Complaint] = field(default_factory=dict)
    """The newest warning about a Job, by its uid; read only where a Job has no pod that is alive."""
    other_pods: Sequence[Pod] = ()
    """The namespace's pods that are none of this farm's streams'; only where the whole farm is read."""
    other_streams: Sequence[ScaledJob] = ()
    """Other farms' ScaledJobs in the namespace; only where the whole farm is read."""

    def trouble(self, scaled_job: ScaledJob) -> Trouble | None:
        """Return why a stream does not run as it should, None if it does."""
        name = scaled_job.name
        return trouble_of(
            scaled_job, self.jobs.get(name, ()), self.pods.get(name, ()), self.complaints, self.taken_s
        )

    def without_pods(self) -> list[str]:
        """Return the streams whose Job is refused its pod, such as by a quota, or for a webhook that is away."""
        troubles = {stream: self.trouble(scaled_job) for stream, scaled_job in self.scaled_jobs.items()}
        return [stream for stream, one in troubles.items() if one is not None and one.reason == NO_POD_MADE]

    def place(self, scaled_job: ScaledJob) -> str | None:
        """Return the node that a stream is on; None if neither its Job nor its affinity says one.

        It is where its Job is, which may be elsewhere than the affinity says by now. Without a Job it is where the
        affinity sends the next one, and while a move is open where that goes.
        """
        if open_move_text(scaled_job) is not None:
            return destination_of(scaled_job)
        running = [job for job in self.jobs.get(scaled_job.name, ()) if not job.finished and not job.deleting]
        places = [self._place_of(job) for job in sorted(running, key=lambda job: (job.created_s, job.uid))]
        if scaled_job.node in places:
            return scaled_job.node
        return next((place for place in places if place is not None), scaled_job.node)

    def _place_of(self, job: Job) -> str | None:
        """Return the node that a Job is on: its pod's, or else the one that its template requires."""
        hosts = [
            self.nodes[pod.host]
            for pod in self.pods.get(job.scaled_job, ())
            if pod.job_uid == job.uid and not pod.deleting and pod.host in self.nodes
        ]
        return next((node.name for node in hosts if node.name), job.node)

    def is_here(self, job: Job, place: str | None) -> bool:
        """Say whether a Job belongs to the node that its stream is on; one that may start anywhere does."""
        return self._place_of(job) in {place, None}

    def current_pods(self, scaled_job: ScaledJob) -> list[Pod]:
        """Return the pods that are not going away, of Jobs on the node that the stream is on."""
        place = self.place(scaled_job)
        jobs = {job.uid for job in self.jobs.get(scaled_job.name, ()) if self.is_here(job, place)}
        return [pod for pod in self.pods.get(scaled_job.name, ()) if pod.job_uid in jobs and not pod.deleting]

    def keda(self, scaled_job: ScaledJob) -> Keda:
        """Return what the ScaledJob says about KEDA (R15)."""
        last = scaled_job.last_active_s
        return Keda(
            ready=scaled_job.ready,
            active=scaled_job.active,
            paused=scaled_job.paused,
            last_active_age_s=math.inf if last is None else max(0.0, self.taken_s - last),
            polling_interval_s=scaled_job.polling_interval_s,
        )


def read_nodes(cluster: KubeClient) -> dict[str, Node]:
    """Return every node of the cluster by its name; a node may lack the label ``gpu-node``.

    Raises:
        KubeError: the API server does not answer.
    """
    return {node.host: node for node in map(Node.read, cluster.list(kinds.NODE))}


def read_view(cluster: KubeClient, farm: str, streams: Collection[str] | None = None) -> ClusterView:
    """Read the cluster: its streams in natural order. What others have in the namespace is kept apart.

    Args:
        cluster: where from.
        farm: whose streams.
        streams: only these, where they are few.

    Raises:
        KubeError: the API server does not answer.
    """
    few = streams is not None and len(streams) <= FEW
    nodes = read_nodes(cluster)
    wanted = labels.of_streams(farm) | {labels.STREAM: streams} if few else labels.of_all_streams()
    listed = [ScaledJob.read(item) for item in cluster.list(kinds.SCALED_JOB, wanted)]
    scaled_jobs = _by_stream(one for one in listed if one.farm == farm)
    names = [scaled_job.name for scaled_job in scaled_jobs.values()]
    if not names:
        # a selector with an empty list would match objects whose label is empty
        return ClusterView(cluster.now(), nodes, scaled_jobs, {}, {})
    owned = {labels.SCALED_JOB: names if few else None}
    # pods before Jobs: a pod without a Job in this later list has outlived its Job, and is not newer than the list;
    # of the whole farm all the namespace's pods, since those of others disturb the nodes, too
    all_pods = [Pod.read(item) for item in cluster.list(kinds.POD, owned if few else None)]
    all_jobs = [Job.read(item) for item in cluster.list(kinds.JOB, owned)]
    jobs, pods = owned_by(scaled_jobs.values(), all_jobs, all_pods)
    with_pods = {pod.job_uid for found in pods.values() for pod in found if pod.alive}
    lacking = any(not job.finished and job.uid not in with_pods for found in jobs.values() for job in found)
    complaints = events.complaints_about_jobs(cluster) if lacking else {}
    return ClusterView(
        cluster.now(),
        nodes,
        scaled_jobs,
        jobs,
        pods,
        complaints,
        other_pods=() if few else _not_in(pods, all_pods),
        other_streams=[one for one in listed if one.farm != farm],
    )


def _not_in(ours: Mapping[str, Sequence[Pod]], pods: Iterable[Pod]) -> list[Pod]:
    uids = {pod.uid for found in ours.values() for pod in found}
    return [pod for pod in pods if pod.uid not in uids]


def _by_stream(scaled_jobs: Iterable[ScaledJob]) -> dict[str, ScaledJob]:
    found: dict[str, ScaledJob] = {}
    twice = set()
    for scaled_job in scaled_jobs:
        other = found.setdefault(scaled_job.stream, scaled_job)
        if other is not scaled_job:
            log.error("%s and %s have the same label %s; both stay", other.name, scaled_job.name, labels.STREAM)
            twice.add(scaled_job.stream)
    return {stream: scaled_job for stream, scaled_job in found.items() if stream not in twice}


def owned_by(
    scaled_jobs: Iterable[ScaledJob], jobs: Iterable[Job], pods: Iterable[Pod]
) -> tuple[dict[str, list[Job]], dict[str, list[Pod]]]:
    """Return the Jobs and pods of each ScaledJob, by its name. Pure.

    A Job belongs to it by uid: anybody may give one its label, or its name. A pod whose Job is gone belongs to the
    ScaledJob of its label; one of somebody else's Job, or of none, to nobody here.
    """
    uids = {scaled_job.uid: scaled_job.name for scaled_job in scaled_jobs}
    names = set(uids.values())
    ours: dict[str, list[Job]] = defaultdict(list)
    foreign = {""}
    for job in jobs:
        if job.owner_uid in uids:
            ours[uids[job.owner_uid]].append(job)
        else:
            foreign.add(job.uid)
    theirs: dict[str, list[Pod]] = defaultdict(list)
    for pod in pods:
        if pod.scaled_job in names and pod.job_uid not in foreign:
            theirs[pod.scaled_job].append(pod)
    return dict(ours), dict(theirs)
