"""Stopping a farm, in the order that loses no frame and lets nothing come back. Each step may be repeated.

Only what carries the farm's labels, in its namespace, is touched, and of the nodes only the farm's own taint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from posture.errors import FailedError
from posture.kube import errors, kinds, labels, master_taint, objects
from posture.kube.annotations import same_object
from posture.kube.client import KubeClient, Object
from posture.kube.kinds import Kind
from posture.kube.objects import name_of
from posture.kube.pausing import is_paused, set_paused
from posture.lifecycle import docker_compose
from posture.lifecycle.scaler_in_cluster import InCluster
from posture.runtime import Stop
from posture.settings.table import Settings
from posture.system import recorded_processes

Selector = Mapping[str, str | Collection[str] | None]

POLL_S = 1.0
HELD_BY_KEDA = "KEDA doesn't let {} go; is its operator running? kubectl -n keda get pods"
SCALER_STOP_S = 10.0
"""A scaler stops its balancer first, which may be in the middle of a request."""


@dataclass
class TearDown:
    """One run of it.

    Attributes:
        settings: which cluster, namespace and farm.
        stop: a signal ends the waiting.
        dry_run: say what would be done, and do nothing.
        say: takes one line at a time.
    """

    settings: Settings
    stop: Stop
    dry_run: bool = False
    say: Callable[[str], None] = print

    def local(self) -> None:
        """End what runs on this machine: compose's containers, the scaler, then the balancer.

        Raises:
            CommandError: compose failed.
        """
        names = docker_compose.containers(self.settings.images.timeout_s)
        if names:
            self._do(f"docker-compose down ({', '.join(names)})", docker_compose.down)
        folder = self.folder
        # the scaler first: it would start a balancer that has ended again
        for name in ("scaler", "balancer"):
            record = recorded_processes.find(name, folder)
            if record is not None:
                self._do(
                    f"stop the {name}, pid {record.pid}",
                    partial(recorded_processes.stop, name, folder, SCALER_STOP_S),
                )

    @property
    def folder(self) -> Path:
        """Where this farm's records are."""
        return recorded_processes.folder_of(self.settings.kubernetes.namespace, self.settings.kubernetes.farm)

    def streams(self, cluster: KubeClient) -> list[str]:
        """Pause the ScaledJobs, and end their Jobs and pods.

        Returns:
            The names of the paused ScaledJobs.

        Raises:
            KubeError: the API server did not do what was asked.
            FailedError: something does not end in time.
        """
        farm = self.settings.kubernetes.farm
        for deployment in cluster.list(kinds.DEPLOYMENT, labels.of_farm(farm)):
            self._scale_to_zero(cluster, deployment)
        scaled_jobs = self.scaled_jobs(cluster)
        self._halt(cluster, scaled_jobs, labels.of_streams(farm))
        return [name_of(item) for item in scaled_jobs]

    def some_streams(self, cluster: KubeClient, streams: Collection[str]) -> None:
        """Do the same with some streams alone; the rest of the farm goes on.

        Raises:
            KubeError: the API server did not do what was asked.
            FailedError: something does not end in time.
        """
        selector = {**labels.of_farm(self.settings.kubernetes.farm), labels.STREAM: streams}
        self._halt(cluster, cluster.list(kinds.SCALED_JOB, selector), selector)

    def _halt(self, cluster: KubeClient, scaled_jobs: Sequence[Object], selector: Selector) -> None:
        running = [item for item in scaled_jobs if not is_paused(item)]
        for scaled_job in running:
            self._pause(cluster, scaled_job)
        # a poll that had begun before may still make a Job
        quiet_s = max((objects.ScaledJob.read(item).polling_interval_s for item in running), default=0.0)
        self._drain(cluster, quiet_s, selector)

    def scaled_jobs(self, cluster: KubeClient) -> list[Object]:
        """Return the farm's ScaledJobs; none where KEDA is gone.

        Raises:
            KubeError: the API server did not answer.
        """
        try:
            return cluster.list(kinds.SCALED_JOB, labels.of_farm(self.settings.kubernetes.farm))
        except errors.NotFoundError:
            return []

    def _scale_to_zero(self, cluster: KubeClient, deployment: Object) -> None:
        if deployment["spec"].get("replicas", 1) == 0:
            return
        edit = {"op": "replace", "path": "/spec/replicas", "value": 0}
        self._do(
            f"scale deployment {name_of(deployment)} to 0",
            lambda: cluster.patch(
                kinds.DEPLOYMENT, name_of(deployment), [same_object(deployment["metadata"]["uid"]), edit]
            ),
        )

    def _pause(self, cluster: KubeClient, scaled_job: Object) -> None:
        self._do(f"pause scaledjob {name_of(scaled_job)}", lambda: set_paused(cluster, scaled_job, True))

    def _drain(self, cluster: KubeClient, quiet_s: float, selector: Selector) -> None:
        """Delete the Jobs until none has appeared for so long, then the pods that are left."""
        asked: set[str] = set()
        held: set[str] = set()
        if self.dry_run:
            for kind in (kinds.JOB, kinds.POD):
                self._ask_to_go(cluster, kind, cluster.list(kind, selector), asked)
            return
        seen_at = time.monotonic()
        deadline = seen_at + quiet_s + self.settings.kubernetes.stop_timeout_s
        while True:
            jobs = cluster.list(kinds.JOB, selector)
            self._ask_to_go(cluster, kinds.JOB, jobs, asked)
            self._name_holders(jobs, held)
            # Foreground: a Job that is gone has no pods any more
            pods = [] if jobs else cluster.list(kinds.POD, selector)
            self._ask_to_go(cluster, kinds.POD, pods, asked)
            now = time.monotonic()
            if jobs:
                seen_at = now
            elif not pods and now - seen_at >= quiet_s:
                return
            if now > deadline:
                self._give_up(cluster, jobs, cluster.list(kinds.POD, selector))
                return
            self._pause_between_looks()

    def _ask_to_go(self, cluster: KubeClient, kind: Kind, objects: list[Object], asked: set[str]) -> None:
        for item in objects:
            uid = str(item["metadata"]["uid"])
            if uid in asked or (kind is kinds.POD and "deletionTimestamp" in item["metadata"]):
                continue
            asked.add(uid)
            self._delete(cluster, kind, item)

    def _name_holders(self, jobs: list[Object], told: set[str]) -> None:
        """Say once which Jobs stay because of somebody else's finalizer."""
        for job in map(objects.Job.read, jobs):
            if job.deleting and job.held_by and job.name not in told:
                told.add(job.name)
                self.say(
                    f"  job {job.name} is held by the finalizer {', '.join(job.held_by)}: it stays until that goes"
                )

    def _give_up(self, cluster: KubeClient, jobs: list[Object], pods: list[Object]) -> None:
        """Let go of what hangs on dead nodes; anything else that is still there is an error."""
        alive = {name_of(node) for node in cluster.list(kinds.NODE) if objects.Node.read(node).ready}
        hanging = [pod for pod in pods if pod["spec"].get("nodeName") in alive or not pod["spec"].get("nodeName")]
        if hanging or (jobs and not pods):
            names = ", ".join(name_of(item) for item in hanging or jobs)
            raise FailedError(
                f"still there after {self.settings.kubernetes.stop_timeout_s:g} s: {names}; "
                f"see kubectl -n {cluster.namespace} describe, and run the same command again"
            )
        for job in jobs:
            # on a dead node the pods can't end, and a Foreground deletion would wait for them for ever
            self._do(
                f"let job {name_of(job)} go, whose node is away",
                partial(
                    cluster.delete, kinds.JOB, name_of(job), uid=job["metadata"]["uid"], propagation="Background"
                ),
            )
        for pod in pods:
            self.say(
                f"  left: pod {name_of(pod)}; it goes when node {pod['spec'].get('nodeName')} is back or removed"
            )

    def remove_objects(self, cluster: KubeClient) -> None:
        """Delete the ScaledJobs, the balancer's Lease, and what ``--in-cluster`` has made.

        Raises:
            KubeError: the API server did not do what was asked.
            FailedError: KEDA does not let a ScaledJob go.
        """
        farm = self.settings.kubernetes.farm
        in_cluster = InCluster(cluster, farm)
        made = in_cluster.made_by_us()
        for kind, item in [*((kinds.SCALED_JOB, item) for item in self.scaled_jobs(cluster)), *made]:
            self._delete(cluster, kind, item)
        if not self.dry_run:
            self._until_gone(
                lambda: in_cluster.left_of(made),
                f"{{}} won't go; see kubectl -n {cluster.namespace} describe deployment,pod",
            )
        # after the balancer, which would make it anew
        for item in cluster.list(kinds.LEASE, labels.of_farm(farm)):
            self._delete(cluster, kinds.LEASE, item)
        if not self.dry_run:
            self._until_gone(lambda: self.scaled_jobs(cluster), HELD_BY_KEDA)

    def remove_scaled_jobs(self, cluster: KubeClient, streams: Collection[str]) -> None:
        """Delete the ScaledJobs of some streams.

        Raises:
            KubeError: the API server did not do what was asked.
            FailedError: KEDA does not let one go.
        """
        selector = {**labels.of_farm(self.settings.kubernetes.farm), labels.STREAM: streams}
        for item in cluster.list(kinds.SCALED_JOB, selector):
            self._delete(cluster, kinds.SCALED_JOB, item)
        self._until_gone(lambda: cluster.list(kinds.SCALED_JOB, selector), HELD_BY_KEDA)

    def _until_gone(self, look: Callable[[], list[Object]], complaint: str) -> None:
        deadline = time.monotonic() + self.settings.kubernetes.stop_timeout_s
        while left := look():
            if time.monotonic() > deadline:
                raise FailedError(complaint.format(", ".join(name_of(item) for item in left)))
            self._pause_between_looks()

    def _delete(self, cluster: KubeClient, kind: Kind, item: Object) -> None:
        self._do(
            f"delete {kind.name.lower()} {name_of(item)}",
            lambda: cluster.delete(kind, name_of(item), uid=item["metadata"]["uid"]),
        )

    def untaint(self, cluster: KubeClient) -> None:
        """Take the farm's taint off every node that has it.

        Raises:
            KubeError: the API server did not do it.
        """
        farm = self.settings.kubernetes.farm
        for node in cluster.list(kinds.NODE):
            if master_taint.is_tainted(node, farm):
                self._do(
                    f"untaint node {name_of(node)}",
                    partial(master_taint.remove, cluster, name_of(node), farm),
                )

    def remove_file(self, path: Path) -> None:
        """Delete a file of ours.

        Raises:
            FailedError: it can't be deleted.
        """
        try:
            self._do(f"remove {path.name}", path.unlink)
        except OSError as error:
            raise FailedError(f"{path}: can't be removed: {error.strerror}") from None

    def _do(self, what: str, action: Callable[[], object]) -> None:
        self.say(f"  would {what}" if self.dry_run else f"  {what}")
        if not self.dry_run:
            action()

    def _pause_between_looks(self) -> None:
        self.stop.wait(POLL_S)
        if self.stop.requested:
            raise FailedError("interrupted while Jobs and pods were ending; run the same command again")
