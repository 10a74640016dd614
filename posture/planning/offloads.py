"""One loop's plan: what has to be rescued, then what overloaded nodes give up (R1 to R5, R9, R12).

:func:`plan_offloads` is the one entry for the balancer and the simulator. Rules R1 to R15 are explained in
docs/balancing.md.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from posture.planning.destinations import Shelves, eligible
from posture.planning.draft import Draft
from posture.planning.model import (
    ROUNDING,
    MoveKind,
    NodeState,
    Phase,
    Plan,
    Policy,
    Rules,
    Snapshot,
    StreamHistory,
    StreamState,
    VetoReason,
)
from posture.planning.rescues import plan_rescues


def plan_offloads(snapshot: Snapshot, rules: Rules, rng: Random) -> Plan:
    """Plan one loop.

    Overloaded nodes, hottest first, each give up at most one running job to the node with the lowest
    (projected) average at or under the threshold, ties at random. ``guarded`` also plans restarts (R13) and
    failovers (R14), which come first in ``moves``.

    Bound: with static loads, works that are exactly known in every signal, and R3, R4, R5, R12, R13 and R14 not in
    play, each job moves at most once, and the number of loops until nothing moves is at most the number of moves
    + 1. For a destination stays at or under the threshold in each of its signals (R2), whatever else comes in the
    same loop (R1), so it never becomes a source, and a job that has moved never moves again; and a loop without a
    move is the last one. With R3 the sorted vector of the loads of all nodes in all signals still falls
    lexicographically with each move, so that it ends.

    Args:
        snapshot: the farm as it is; it is not changed.
        rules: policy and limits.
        rng: breaks ties; equal snapshots and states of ``rng`` give equal plans.
    """
    draft = Draft(snapshot, rules, rng)
    for stream in snapshot.unmanaged:
        draft.veto(VetoReason.UNMANAGED, stream=stream)
    plan_rescues(draft)
    _relieve_overloaded(draft)
    return Plan(tuple(draft.moves), tuple(draft.vetoes), tuple(node.name for node in draft.overloaded))


def _relieve_overloaded(draft: Draft) -> None:
    """Plan at most one move from each overloaded node, hottest first."""
    known = [node for node in draft.nodes.values() if node.usage is not None]
    for node in draft.nodes.values():
        if node.usage is None and node.ready and known:
            draft.veto(VetoReason.METRIC_UNKNOWN, node.name, why=node.why_unknown)
    if not known:
        draft.veto(VetoReason.NO_METRICS, nodes=float(len(draft.nodes)))
    elif len(draft.overloaded) == len(known):
        lowest = min(node.usage or 0.0 for node in known)
        draft.veto(
            VetoReason.ALL_OVERLOADED, nodes=float(len(known)), lowest=lowest, threshold=draft.rules.threshold
        )
    elif len(draft.snapshot.without_pods) >= draft.rules.refused_limit:
        for node in draft.overloaded:
            draft.veto(VetoReason.PODS_REFUSED, node.name, streams=float(len(draft.snapshot.without_pods)))
    elif draft.overloaded:
        under = [node for node in known if (node.usage or 0.0) <= draft.limit]
        if draft.rules.policy is Policy.README:
            _offload_to_the_letter(draft, under)
        else:
            _offload_guarded(draft, under)


def _offload_guarded(draft: Draft, under: list[NodeState]) -> None:
    """``guarded``: each source gives up the job whose removal helps most, if another node has room for it."""
    for node in under:
        if node.name in draft.suspects:
            draft.veto(VetoReason.START_FAILURES, node.name, streams=float(draft.suspects[node.name]))
    trusted = [node for node in under if node.name not in draft.suspects]
    clean = Shelves(draft, (node for node in trusted if node.history.clean))
    settling = Shelves(draft, (node for node in trusted if not node.history.clean))
    for source in draft.overloaded:
        if _is_source(draft, source):
            _offload_one(draft, source, clean, settling)


def _is_source(draft: Draft, node: NodeState) -> bool:
    """Say whether an overloaded node may give up a job in this loop; add a veto if not."""
    rules, history, usage = draft.rules, node.history, node.usage or 0.0
    if usage <= draft.limit + rules.hysteresis:
        draft.veto(VetoReason.HYSTERESIS, node.name, usage=usage, needed=rules.threshold + rules.hysteresis)
    elif history.over_before + 1 < rules.dwell:
        draft.veto(VetoReason.DWELL, node.name, windows=float(history.over_before + 1), needed=float(rules.dwell))
    elif node.name in draft.touched or (not history.clean and history.spoiled_windows < rules.spoiled_limit):
        draft.veto(VetoReason.SETTLING, node.name, spoiled_windows=float(history.spoiled_windows))
    elif history.useless_moves >= rules.useless_limit:
        draft.veto(VetoReason.NOT_OUR_LOAD, node.name, usage=usage, moves=float(history.useless_moves))
    else:
        return True
    return False


def _movable_jobs(draft: Draft, source: NodeState) -> list[StreamState]:
    """Return the running jobs of an overloaded node that may leave it; add a veto for each other one."""
    if not source.ready:
        draft.veto(VetoReason.NOT_READY, source.name, usage=source.usage or 0.0)
        return []
    running = sorted(
        (job for job in draft.jobs[source.name] if job.phase is Phase.RUNNING), key=operator.attrgetter("stream")
    )
    if not running:
        draft.veto(VetoReason.NO_JOB, source.name, usage=source.usage or 0.0)
    return [job for job in running if _may_leave(draft, job)]


def _may_leave(draft: Draft, job: StreamState) -> bool:
    rules, now = draft.rules, draft.snapshot.now_s
    guarded = rules.policy is Policy.GUARDED
    if job.pinned:
        draft.veto(VetoReason.PINNED, job.node, job.stream)
    elif job.moving or job.failing_s is not None:
        draft.veto(VetoReason.IN_MOVE, job.node, job.stream)
    elif job.refused_s > 0:
        draft.veto_refused(job)
    elif not job.keda.brings_successor:
        draft.veto_keda(job)
    elif guarded and (left := _cooldown_left(job.history, rules, now)) > 0:
        draft.veto(VetoReason.COOLDOWN, job.node, job.stream, seconds_left=left, moves=float(job.history.moves))
    elif guarded and _taught_nothing(draft, job) and now < job.history.last_move_s + rules.cooldown_cap_s:
        draft.veto(VetoReason.LOAD_UNKNOWN, job.node, job.stream)
    else:
        return True
    return False


def _cooldown_left(history: StreamHistory, rules: Rules, now_s: float) -> float:
    """Return for how many seconds more a stream must not be offloaded again, 0 if it may be (R4).

    A last move further in the future than its cooldown is long comes from a wrong clock and is ignored.
    """
    if not history.moves:
        return 0.0
    doublings = min(history.moves - 1, 60)
    whole = min(rules.cooldown_base_s * 2.0**doublings, rules.cooldown_cap_s)
    left = history.last_move_s + whole - now_s
    return left if 0 < left <= 2 * whole else 0.0


def _taught_nothing(draft: Draft, job: StreamState) -> bool:
    """Say whether the stream was moved with an unknown load, and that move has not taught its load.

    A fault may have prevented the load from being measured, so the stream may move again after the longest
    cooldown.
    """
    return job.history.tried and draft.is_guess(job, draft.nodes[job.node])


@dataclass(frozen=True)
class _Relief:
    """What an overloaded node gains when a job leaves it."""

    job: StreamState
    size: float
    """Points that the job costs there, in the signal in which it costs most."""
    gain: float
    """Points over the threshold that go with it, all signals together."""
    cures: bool
    """No signal stays over the threshold."""
    after: float
    """The node's average then, that of its scarcest signal."""
    from_points: float
    """The highest average that it lowers."""


def _relief(draft: Draft, source: NodeState, job: StreamState) -> _Relief:
    averages, cost = source.averages, draft.cost(job, source)
    over = {signal: points - draft.limit for signal, points in averages.items() if points > draft.limit}
    return _Relief(
        job,
        max(cost.values()),
        sum(min(cost[signal], needed) for signal, needed in over.items()),
        all(cost[signal] >= needed for signal, needed in over.items()),
        max(points - cost[signal] for signal, points in averages.items()),
        max((points for signal, points in averages.items() if cost[signal] > 0), default=0.0),
    )


def _offload_one(draft: Draft, source: NodeState, clean: Shelves, settling: Shelves) -> None:
    """``guarded``: move the job whose removal helps most, or add a veto."""
    usage = source.usage or 0.0
    leaving = [_relief(draft, source, job) for job in _movable_jobs(draft, source)]
    if not leaving:
        return
    helping = [one for one in leaving if one.gain > 0]
    if not helping:
        running = (job for job in draft.jobs[source.name] if job.phase is Phase.RUNNING)
        # a stream that would help and may not leave has a veto of its own
        if not any(_relief(draft, source, job).gain > 0 for job in running):
            over = [signal for signal, points in source.averages.items() if points > draft.limit]
            draft.veto(VetoReason.NOT_OUR_LOAD, source.name, usage=usage, unused=" ".join(over))
        return
    curing = sorted((one for one in helping if one.cures), key=operator.attrgetter("size", "job.stream"))
    others = sorted((one for one in helping if not one.cures), key=operator.attrgetter("gain", "job.stream"))
    choice = curing + others[::-1]
    for one in choice:
        destination = clean.best(one.job, draft.limit)
        if destination is not None:
            change = _change(draft, one.job, usage, one.after)
            draft.move(MoveKind.OFFLOAD, one.job, destination, f"{source.name} {change}")
            clean.refresh(destination)
            return
    for one in choice:
        waiting_for = settling.best(one.job, draft.limit)
        if waiting_for is not None:
            draft.veto(VetoReason.DESTINATION_SETTLING, source.name, one.job.stream, destination=waiting_for.name)
            return
    _exchange(draft, source, choice, clean)


def _change(draft: Draft, job: StreamState, before: float, after: float) -> str:
    """Return how a node's usage should change by a move; a figure that rests on a guess is called one."""
    if not draft.is_guess(job, draft.nodes[job.node]):
        return f"comes from {before:.1f} to {after:.1f}"
    return f"comes from {before:.1f} to about {after:.1f} (a guess: the load of {job.stream} is not known yet)"


def _exchange(draft: Draft, source: NodeState, choice: Sequence[_Relief], clean: Shelves) -> None:
    """R3: no job fits under the threshold anywhere; move one only if the higher of both nodes becomes lower.

    The destination must end lower, in each signal, than the source is now in those that the job takes part in.
    """
    usage = source.usage or 0.0
    choices = []
    for one in choice:
        destination = clean.best(one.job, one.from_points - draft.rules.hysteresis - 2 * ROUNDING)
        if destination is not None:
            choices.append((max(one.after, draft.with_job(one.job, destination)), one.job.stream, one, destination))
    if not choices:
        smallest = min(choice, key=operator.attrgetter("size", "job.stream"))
        told = f"{smallest.size:g} (a guess)" if draft.is_guess(smallest.job, source) else smallest.size
        draft.veto(VetoReason.UNPLACEABLE, source.name, usage=usage, smallest_job=told)
        return
    after, _, one, destination = min(choices, key=lambda choice: choice[:2])
    why = f"nothing fits; the higher of both {_change(draft, one.job, usage, after)}"
    draft.move(MoveKind.OFFLOAD, one.job, destination, why)
    clean.refresh(destination)


def _offload_to_the_letter(draft: Draft, under: list[NodeState]) -> None:
    """``readme``: a random running job to the lowest window average; this loop's other moves do not count."""
    under.sort(key=lambda node: (node.usage or 0.0, node.name))
    groups = [list(group) for _, group in itertools.groupby(under, key=lambda node: node.usage)]
    for source in draft.overloaded:
        jobs = _movable_jobs(draft, source)
        if not jobs:
            continue
        job = draft.rng.choice(jobs)
        destination = next(filter(None, (_any_able(draft, job, group) for group in groups)), None)
        if destination is None:
            draft.veto(VetoReason.NO_ELIGIBLE_NODE, source.name, job.stream)
        else:
            draft.move(MoveKind.OFFLOAD, job, destination, f"{source.name} is over the threshold")


def _any_able(draft: Draft, job: StreamState, group: list[NodeState]) -> NodeState | None:
    """Return one of the group's nodes that can run the job, chosen uniformly at random."""
    node = draft.rng.choice(group)
    if eligible(job, node, draft.snapshot.now_s):
        return node
    able = [node for node in group if eligible(job, node, draft.snapshot.now_s)]
    return draft.rng.choice(able) if able else None
