"""A plan in words: one line for the log, or all of it for ``--explain`` and ``--dry-run``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from posture.balancer.health import Down
from posture.natural_order import natural
from posture.planning.model import ONE_SIGNAL, NodeState, Plan, Points, Rules, Snapshot


def summary(snapshot: Snapshot, plan: Plan) -> str:
    """Return one line: usage, moves, and the number of vetoes for each reason."""
    usage = ", ".join(f"{node.name} {_usage(node)}" for node in snapshot.nodes[:20])
    if len(snapshot.nodes) > 20:
        usage += f", and {len(snapshot.nodes) - 20} more"
    parts = [usage or "no nodes", f"{len(plan.overloaded)} overloaded", f"{len(plan.moves)} to move"]
    counts = Counter(veto.reason.value for veto in plan.vetoes)
    if counts:
        parts.append("vetoes: " + ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items())))
    return "; ".join(parts)


def lines(snapshot: Snapshot, plan: Plan, rules: Rules, down: Mapping[str, Down]) -> list[str]:
    """Return the whole plan, a line for each node, move, veto, and stream that does not run."""
    streams = Counter(job.node for job in snapshot.jobs)
    told = [f"policy {rules.policy.value}, threshold {rules.threshold:g} %"]
    told += [
        f"node {node.name}: {_usage(node)}, {streams[node.name]} streams{_state(node)}" for node in snapshot.nodes
    ]
    for move in plan.moves:
        told.append(
            f"move {move.stream}: {move.source} -> {move.destination} ({move.kind.value}; "
            f"{_points(move.relief, '-')} there, {_points(move.cost, '+')} here"
            f"{', guessed' if move.guess else ''}; {move.why})"
        )
    told += [f"veto {veto}" for veto in plan.vetoes]
    told += [f"stream {stream} does not run: {down[stream].trouble}" for stream in sorted(down, key=natural)]
    if plan.stable and not down:
        told.append("stable")
    return told


def _usage(node: NodeState) -> str:
    if node.usage is None:
        return f"unknown ({node.why_unknown})"
    return f"{node.usage:.1f} %" + (f" ({_points(node.signals)})" if len(node.signals) > 1 else "")


def _points(points: Points, sign: str = "") -> str:
    return ", ".join(f"{signal} {sign}{one:.1f}".lstrip() for signal, one in points.items())


def _state(node: NodeState) -> str:
    states = [
        "" if node.ready else f"NotReady for {node.down_s:.0f} s",
        "cordoned" if node.cordoned else "",
        "" if node.labelled else "without the label gpu-node",
        "" if node.history.clean else "settling",
        *(
            f"speed {speed:.2f}" + (f" in {signal}" if signal else "")
            for signal in node.averages or (ONE_SIGNAL,)
            if (speed := node.speed_in(signal)) != 1
        ),
    ]
    return "".join(f", {state}" for state in states if state)
