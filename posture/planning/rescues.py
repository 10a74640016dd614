"""Restarts of streams that can't start where they are (R13), and failovers from lost nodes (R14)."""

from __future__ import annotations

from posture.planning.destinations import Shelves, eligible
from posture.planning.draft import Draft
from posture.planning.model import MoveKind, NodeState, Phase, Policy, StreamState, VetoReason


def plan_rescues(draft: Draft) -> None:
    """Plan a restart or a failover for each stream that needs one, or veto it."""
    lost = _lost_nodes(draft)
    _veto_lost_labels(draft)
    waiting = []
    for job in draft.snapshot.jobs:
        node = draft.nodes[job.node]
        if job.failing_s is None and node.ready and not (_takes_no_pod(node) and _has_no_pod(job)):
            continue
        trouble = _trouble(draft, job, node, lost)
        if trouble is not None and _may_be_rescued(draft, job, node):
            waiting.append((*trouble, job))
    if not waiting:
        return
    # restarts first, then by load, heaviest first: the light ones fit into what is left
    waiting.sort(
        key=lambda entry: (entry[0] is MoveKind.FAILOVER, -max(draft.work(entry[2]).values()), entry[2].stream)
    )
    known = [node for node in draft.nodes.values() if node.usage is not None]
    trusted = Shelves(draft, (node for node in known if node.name not in draft.suspects), spread=True)
    suspect = Shelves(draft, (node for node in known if node.name in draft.suspects), spread=True)
    unknown = Shelves(draft, (node for node in draft.nodes.values() if node.usage is None), spread=True)
    for kind, why, job in waiting:
        destination = _origin(draft, job) if kind is MoveKind.RESTART else None
        for shelves in (trusted, suspect, unknown):
            # a rescue may overload its destination (R1, R2), if no other node is left
            destination = destination or shelves.best(job, draft.limit) or shelves.best(job)
        if destination is None:
            draft.veto(VetoReason.NO_ELIGIBLE_NODE, job.node, job.stream)
            continue
        draft.move(kind, job, destination, why)
        for shelves in (trusted, suspect, unknown):
            shelves.refresh(destination)


def _veto_lost_labels(draft: Draft) -> None:
    for node in draft.nodes.values():
        if node.ready and not node.labelled and draft.jobs[node.name]:
            streams = float(len(draft.jobs[node.name]))
            draft.veto(VetoReason.LABEL_GONE, node.name, host=node.host or node.name, streams=streams)


def _origin(draft: Draft, job: StreamState) -> NodeState | None:
    """R13: return the node that a stream came from, if it could start there."""
    origin = draft.nodes.get(job.history.origin)
    if origin is None or origin.name == job.node:
        return None
    return origin if eligible(job, origin, draft.snapshot.now_s, draft.used.get(origin.name)) else None


def _lost_nodes(draft: Draft) -> set[str]:
    """R14: return the nodes that have been NotReady or gone for longer than the grace.

    That many fall silent together says that the balancer may be cut off; a Node object that is gone says only
    that somebody removed it.
    """
    grace = draft.rules.node_grace_s
    down = [node for node in draft.nodes.values() if not node.ready]
    lost = {node.name for node in down if node.down_s > grace}
    if draft.snapshot.contact_s <= grace:
        for node in down:
            draft.veto(VetoReason.NO_CONTACT, node.name, contact_s=draft.snapshot.contact_s, node_grace_s=grace)
        return set()
    for node in down:
        if node.name not in lost:
            draft.veto(VetoReason.NODE_GRACE, node.name, down_s=node.down_s, node_grace_s=grace)
    there = {node.name for node in draft.nodes.values() if not node.gone}
    silent = lost & there
    if 2 * len(silent) > len(there):
        draft.veto(VetoReason.MANY_LOST, lost=float(len(silent)), nodes=float(len(there)))
        return lost - silent
    return lost


def _trouble(draft: Draft, job: StreamState, node: NodeState, lost: set[str]) -> tuple[MoveKind, str] | None:
    """Return the kind of rescue that a stream needs and why, or None, with a veto where it has to wait."""
    rules = draft.rules
    if not node.ready:
        if node.name not in lost:
            return None
        if node.gone:
            return MoveKind.FAILOVER, f"no node has carried the label gpu-node={node.name} for {node.down_s:.0f} s"
        return MoveKind.FAILOVER, f"{node.name} has been away for {node.down_s:.0f} s"
    if _takes_no_pod(node) and _has_no_pod(job):
        state = "is cordoned" if node.labelled else f"no longer carries the label gpu-node={node.name}"
        return MoveKind.FAILOVER, f"{node.host or node.name} {state} and has no pod of it"
    timeout = rules.pull_timeout_s if job.pulling else rules.start_timeout_s
    failing = job.failing_s or 0.0
    if failing <= timeout:
        draft.veto(VetoReason.START_GRACE, node.name, job.stream, failing_s=failing, start_timeout_s=timeout)
        return None
    return MoveKind.RESTART, f"it has failed to start on {node.name} for {failing:.0f} s"


def _takes_no_pod(node: NodeState) -> bool:
    """Say whether a node that is up lets the pods that it has run on, and takes no new one."""
    return node.cordoned or not node.labelled


def _has_no_pod(job: StreamState) -> bool:
    return job.phase in (Phase.PENDING, Phase.ABSENT)


def _may_be_rescued(draft: Draft, job: StreamState, node: NodeState) -> bool:
    """Say whether a stream in trouble may be moved; add a veto if not."""
    if draft.rules.policy is Policy.README:
        draft.veto(VetoReason.POLICY, node.name, job.stream)
    elif job.pinned:
        draft.veto(VetoReason.PINNED, node.name, job.stream)
    elif job.refused_s > 0:
        draft.veto_refused(job)
    elif node.ready and job.phase is not Phase.ABSENT and not job.keda.brings_successor:
        draft.veto_keda(job)
    else:
        return True
    return False
