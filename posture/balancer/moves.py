"""Moving one stream to another node, so that a crash at any point leaves nothing to repair by hand.

1. :meth:`Mover.open`: one JSON Patch of the ScaledJob tests its generation, replaces the affinity, and leaves
   the move in an annotation. From here on a new Job can only land on the new node.
2. :func:`next_steps`, for as long as the annotation is there: delete the unfinished Jobs that the old affinity
   made; wait until they and their pods are gone; delete leftover pods; when exactly one unfinished Job with the
   new affinity is there and its pod is Ready, take the annotation off. The annotation says where the stream goes:
   an affinity that others write meanwhile, such as a GitOps controller, is written anew.

The next steps are derived from the cluster alone in each pass, so that after a crash any balancer can go on.
Deleting before patching would be a race: KEDA, polling in between, would make a new Job on the old node.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posture.balancer import past_moves
from posture.balancer.health import RUNS
from posture.balancer.open_move import OpenMove, destination_of, open_move_text
from posture.kube import kinds
from posture.kube.affinity import with_node
from posture.kube.annotations import (
    HISTORY,
    MOVE,
    MOVES,
    STATE,
    path_of,
    remove_operation,
    same_object,
    set_operations,
)
from posture.kube.client import KubeClient, Propagation
from posture.kube.objects import Job, Pod, ScaledJob
from posture.planning.model import Move

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeleteJob:
    """Delete this very Job."""

    job: Job
    propagation: Propagation


@dataclass(frozen=True)
class DeletePod:
    """Delete a pod whose Job is gone, with its grace period."""

    pod: Pod


@dataclass(frozen=True)
class Redirect:
    """Others have written the affinity since the move began: let it name the destination again."""

    node: str


@dataclass(frozen=True)
class Wait:
    """Nothing to do until the cluster has changed."""

    what: str


@dataclass(frozen=True)
class Close:
    """The move is done: take the annotation off."""


MoveStep = DeleteJob | DeletePod | Redirect | Wait | Close


def next_steps(
    scaled_job: ScaledJob,
    jobs: Iterable[Job],
    pods: Iterable[Pod],
    is_dead: Callable[[str], bool],
    keda_brings_successor: bool,
) -> list[MoveStep]:
    """Say what an open move needs now. Pure.

    Args:
        scaled_job: whose move it is; its annotation names the new node, and so does its affinity.
        jobs: its Jobs, as listed *after* the pods: a pod without a Job then is a leftover, never a newcomer.
        pods: its pods.
        is_dead: says whether a Node object is gone, or NotReady for longer than the grace (R14).
        keda_brings_successor: R15; without it no Job is deleted on a node that lives.
    """
    destination = destination_of(scaled_job)
    if destination is None:
        # a person has pinned the stream and removed its affinity: no node is required, so no Job is on a wrong one
        return [Close()]
    if destination != scaled_job.node:
        # before anything else: the Job that this affinity would delete may be the right one
        return [Redirect(destination)]
    jobs, pods = list(jobs), list(pods)
    unfinished = [job for job in jobs if not job.finished]
    old = [job for job in unfinished if job.node != scaled_job.node]
    new = sorted(
        (job for job in unfinished if job.node == scaled_job.node), key=lambda job: (job.created_s, job.uid)
    )
    steps: list[MoveStep] = [
        _removal(job, _is_on_dead_node(job, pods, is_dead), keda_brings_successor) for job in old
    ]
    # KEDA's cache may lag behind its own Jobs; the oldest stays
    steps += [Wait(f"Job {job.name} to go") if job.deleting else DeleteJob(job, "Foreground") for job in new[1:]]
    steps += _leftovers(pods, {job.uid for job in jobs}, is_dead)
    if steps:
        return steps
    if not new:
        return [Wait("KEDA to make the new Job at its next poll")]
    if any(pod.job_uid == new[0].uid and pod.ready_since_s is not None for pod in pods):
        return [Close()]
    return [Wait(f"the pod of Job {new[0].name} to be Ready")]


def _is_on_dead_node(job: Job, pods: Iterable[Pod], is_dead: Callable[[str], bool]) -> bool:
    return any(pod.job_uid == job.uid and pod.host and is_dead(pod.host) for pod in pods)


def _removal(job: Job, on_dead_node: bool, keda_brings_successor: bool) -> MoveStep:
    if on_dead_node:
        # its pod can't end there, and a Foreground deletion would wait for it; Background also ends such a wait
        return DeleteJob(job, "Background")
    if job.deleting:
        return Wait(f"Job {job.name} to go")
    if not keda_brings_successor:
        return Wait("KEDA, before the old Job may go (keda_away)")
    return DeleteJob(job, "Foreground")


def _leftovers(pods: Iterable[Pod], jobs: Collection[str], is_dead: Callable[[str], bool]) -> list[MoveStep]:
    """Return what to do about pods whose Job is gone; those on dead nodes go when the node comes back or goes."""
    here = [pod for pod in pods if pod.job_uid not in jobs and not (pod.host and is_dead(pod.host))]
    return [Wait(f"pod {pod.name} to go") if pod.deleting else DeletePod(pod) for pod in here]


class Mover:
    """Takes the steps. Each is one request, and none depends on the answer to another."""

    def __init__(self, cluster: KubeClient) -> None:
        self._cluster = cluster

    def open(self, scaled_job: ScaledJob, move: Move, history: str) -> OpenMove:
        """Begin a move: the new affinity and the annotations, at once.

        Args:
            scaled_job: as the plan saw it.
            move: where it goes.
            history: what was remembered of the stream before this move; the move itself has its own annotation.

        Raises:
            ConflictError: the ScaledJob was edited since it was read; nothing has changed.
            KubeError: the API server did not do it, or its answer was lost; the next pass sees which.
        """
        opened = OpenMove(uuid.uuid4().hex[:12], move, self._cluster.now())
        affinity = with_node(scaled_job.pod_spec.get("affinity"), move.destination)
        operations: list[dict[str, Any]] = [
            # not the resourceVersion: KEDA changes it at every active poll
            same_object(scaled_job.uid),
            {"op": "test", "path": "/metadata/generation", "value": scaled_job.generation},
            {"op": "add", "path": "/spec/jobTargetRef/template/spec/affinity", "value": affinity},
            *set_operations(
                scaled_job.annotations,
                {
                    HISTORY: history,
                    MOVE: opened.to_text(),
                    MOVES: past_moves.with_begun(_moves_text(scaled_job), opened),
                },
            ),
        ]
        self._cluster.patch(kinds.SCALED_JOB, scaled_job.name, operations)
        return opened

    def heal(self, scaled_job: ScaledJob, node: str) -> None:
        """Let the affinity name the node that the stream's Job is on, or is to be on; a Job runs on.

        Raises:
            StaleError: the ScaledJob was edited since it was read; nothing has changed.
            KubeError: the API server did not do it.
        """
        affinity = with_node(scaled_job.pod_spec.get("affinity"), node)
        operations: list[dict[str, Any]] = [
            same_object(scaled_job.uid),
            {"op": "test", "path": "/metadata/generation", "value": scaled_job.generation},
            {"op": "add", "path": "/spec/jobTargetRef/template/spec/affinity", "value": affinity},
        ]
        self._cluster.patch(kinds.SCALED_JOB, scaled_job.name, operations)

    def take(self, scaled_job: ScaledJob, steps: Sequence[MoveStep], history: str) -> bool:
        """Take the steps of an open move.

        Args:
            scaled_job: whose move it is.
            steps: from :func:`next_steps`.
            history: what is remembered of the stream, this move included; written when the move is closed.

        Returns:
            Whether the move is closed now.

        Raises:
            KubeError: the API server did not do one of them.
        """
        for step in steps:
            if isinstance(step, DeleteJob):
                log.info("%s: deleting Job %s (%s)", scaled_job.name, step.job.name, step.propagation)
                self._cluster.delete(kinds.JOB, step.job.name, uid=step.job.uid, propagation=step.propagation)
            elif isinstance(step, DeletePod):
                log.info("%s: deleting leftover pod %s", scaled_job.name, step.pod.name)
                self._cluster.delete(kinds.POD, step.pod.name, uid=step.pod.uid, propagation="Background")
            elif isinstance(step, Redirect):
                self.heal(scaled_job, step.node)
            elif isinstance(step, Wait):
                log.debug("%s: waiting for %s", scaled_job.name, step.what)
            else:
                self._close(scaled_job, history)
                return True
        return False

    def _close(self, scaled_job: ScaledJob, history: str) -> None:
        moves = past_moves.with_ended(_moves_text(scaled_job), self._cluster.now())
        state = {STATE: f"{RUNS} on {scaled_job.node}"} if scaled_job.node else {}
        operations: list[dict[str, Any]] = [
            same_object(scaled_job.uid),
            {"op": "test", "path": path_of(MOVE), "value": open_move_text(scaled_job)},
            remove_operation(MOVE),
            *set_operations(scaled_job.annotations, {HISTORY: history, MOVES: moves, **state}),
        ]
        self._cluster.patch(kinds.SCALED_JOB, scaled_job.name, operations)

    def annotate(self, scaled_job: ScaledJob, texts: Mapping[str, str]) -> None:
        """Write annotations of ours, name -> text, such as what is remembered of a stream that has no open move.

        Raises:
            KubeError: the API server did not do it.
        """
        operations = [same_object(scaled_job.uid), *set_operations(scaled_job.annotations, texts)]
        self._cluster.patch(kinds.SCALED_JOB, scaled_job.name, operations)


def _moves_text(scaled_job: ScaledJob) -> str:
    return (scaled_job.annotations or {}).get(MOVES, "")
