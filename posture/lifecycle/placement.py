"""The first placement of the streams: which nodes qualify, and which stream goes where.

build_and_push.py and patch_scaledjob.py both place by this module; the planner does the spreading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from posture.errors import FailedError
from posture.kube import taints
from posture.kube.affinity import allows
from posture.kube.objects import Node
from posture.kube.taints import taint_texts, tolerates
from posture.natural_order import natural
from posture.planning.spread import even_spread
from posture.settings.table import Settings
from posture.usage.readings import Reading, UsageUnknownError

_MASTER = "is kubernetes.master, which is tainted for streams"


@dataclass(frozen=True)
class NodeShare:
    """One node of a placement.

    Attributes:
        node: its name.
        usage: percent; None: unknown.
        before: how many of the streams it had.
        after: how many it gets.
        why: the reason, in words.
        signals: what its usage is the largest of, in percent; empty: unknown.
    """

    node: str
    usage: float | None
    before: int
    after: int
    why: str
    signals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Placement:
    """Where each stream goes, and a row for each node."""

    nodes: Mapping[str, str]
    rows: tuple[NodeShare, ...]


def qualifying(
    settings: Settings,
    readings: Mapping[str, Reading | UsageUnknownError],
    nodes: Sequence[Node] | None = None,
    pods: Sequence[Mapping[str, Any]] = (),
    *,
    with_master: bool = False,
) -> dict[str, Reading | UsageUnknownError]:
    """Return node -> its usage, or why no stream can be placed there.

    Args:
        settings: which node is the master, and of which farm.
        readings: node -> its usage, or why it is unknown.
        nodes: the cluster's nodes; None if the cluster is not asked: then only usage and master count.
        pods: each stream's; a node must be tolerated by all of them, and have the labels that they ask for.
        with_master: treat the master as if it were not tainted.
    """
    found: dict[str, Reading | UsageUnknownError] = {}
    for name, reading in readings.items():
        if nodes is None:
            reasons = [_MASTER if name == settings.kubernetes.master and not with_master else ""]
        else:
            own = [node for node in nodes if node.name == name]
            reasons = [_why_not(node, settings, pods, with_master) for node in own] or ["is not in the cluster"]
        # several nodes may have the label: one that can take streams is enough
        found[name] = reading if "" in reasons else UsageUnknownError(name, None, reasons[0])
    return found


def _why_not(node: Node, settings: Settings, pods: Sequence[Mapping[str, Any]], with_master: bool) -> str:
    """Return why no stream can run on a node; empty if all can."""
    if node.host == settings.kubernetes.master and not with_master:
        return _MASTER
    if not node.ready:
        return "is not Ready"
    if node.cordoned:
        return "is cordoned"
    ours = f"{taints.master_key(settings.kubernetes.farm)}="
    foreign = [text for text in taint_texts(node) if not text.startswith(ours)]
    barring = [text for text in foreign if not all(tolerates(pod.get("tolerations") or [], text) for pod in pods)]
    if barring:
        return f"has taint {barring[0]}, which not all streams tolerate"
    if not all(allows(pod.get("affinity"), pod.get("nodeSelector"), dict(node.labels), node.host) for pod in pods):
        return "is ruled out by the nodeSelector or affinity of a stream"
    return ""


def place(
    before: Mapping[str, str | None],
    pinned: Mapping[str, str],
    sampled: Mapping[str, Reading | UsageUnknownError],
    seed: int | None,
) -> Placement:
    """Spread streams evenly over the nodes whose usage is known.

    Args:
        before: stream -> its node so far; None: it has none.
        pinned: stream -> node, where a person has said so.
        sampled: node -> its usage, or why it is unknown.
        seed: of the ties; None: one that follows from the input, so that the same input gives the same placement.

    Raises:
        FailedError: there is a stream to place, and no node's usage is known; it names each and why.
    """
    read = {node: found for node, found in sampled.items() if isinstance(found, Reading)}
    usage = {node: found.value for node, found in read.items()}
    unknown = {
        node: found
        for node, found in sorted(sampled.items(), key=lambda one: natural(one[0]))
        if isinstance(found, UsageUnknownError)
    }
    if not usage and set(before) - set(pinned):
        reasons = "\n".join(f"  {found}" for found in unknown.values())
        raise FailedError(f"no node's GPU usage is known, so that nothing can be placed:\n{reasons}")
    own_seed = f"{sorted(before)} {sorted(pinned.items())} {sorted(usage.items())}"
    nodes = even_spread(sorted(before, key=natural), usage, Random(own_seed if seed is None else seed), pinned)  # noqa: S311
    had, gets, fixed = Counter(before.values()), Counter(nodes.values()), Counter(pinned.values())
    rows = [
        NodeShare(node, usage[node], had[node], gets[node], _why(node, usage, gets, fixed), read[node].signals)
        for node in sorted(usage, key=natural)
    ]
    rows += [
        NodeShare(node, None, had[node], gets[node], _pins(fixed[node]) + found.reason)
        for node, found in unknown.items()
    ]
    elsewhere = sorted(gets.keys() - sampled.keys(), key=natural)
    rows += [
        NodeShare(node, None, had[node], gets[node], _pins(fixed[node]) + "not in GPU_QUERIES")
        for node in elsewhere
    ]
    return Placement(nodes, tuple(rows))


def _why(node: str, usage: Mapping[str, float], gets: Counter[str], fixed: Counter[str]) -> str:
    pins, least = _pins(fixed[node]), min(gets[one] for one in usage)
    if gets[node] == least:
        return pins + "even share"
    if gets[node] > least + 1:  # only pins do that
        return pins + "above the even share"
    extra = sum(gets[one] == least + 1 for one in usage)
    tie = any(gets[one] == least and usage[one] == usage[node] for one in usage)
    return f"{pins}even share + 1: one of the {extra} with the lowest usage" + ", a tie drawn" * tie


def _pins(count: int) -> str:
    return f"{count} pinned; " if count else ""


def table(rows: tuple[NodeShare, ...]) -> list[str]:
    """Return the rows as lines."""
    cells = [("node", "usage", "jobs", "why")]
    for row in rows:
        usage = "-" if row.usage is None else f"{row.usage:.1f} %"
        if len(row.signals) > 1:
            usage += f" ({', '.join(f'{signal} {points:.1f}' for signal, points in row.signals.items())})"
        cells.append((row.node, usage, f"{row.before} -> {row.after}", row.why))
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    return [
        f"{node:{widths[0]}}  {usage:>{widths[1]}}  {jobs:>{widths[2]}}  {why}" for node, usage, jobs, why in cells
    ]
