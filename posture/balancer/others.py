"""What others do on the farm's nodes, as far as our own namespace shows it. Pure.

Others are whoever has a pod in the namespace that is none of this farm's streams; another farm's streams are among
them, and their open moves can be read. Other namespaces are closed to the balancer's account.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from posture.balancer.open_move import OpenMove, open_move_text
from posture.balancer.view import ClusterView
from posture.kube.objects import Pod
from posture.planning.model import ONE_SIGNAL, Arrival


def came_or_went(before: Mapping[str, Pod], now: Mapping[str, Pod]) -> set[str]:
    """Return the Node objects on which a pod came, went, or began or ceased to be Ready between two readings.

    Args:
        before: the pods of the first reading, by uid.
        now: those of the second one.
    """
    changed = {pod.host for uid, pod in now.items() if uid not in before or _state(before[uid]) != _state(pod)}
    went = {pod.host for uid, pod in before.items() if uid not in now and pod.alive}
    return (changed | went) - {""}


def just_started(pods: Iterable[Pod], since_s: float) -> set[str]:
    """Return the Node objects with a pod that has been Ready only since this time, in seconds, or isn't yet."""
    return {
        pod.host for pod in pods if pod.alive and (pod.ready_since_s is None or pod.ready_since_s > since_s)
    } - {""}


def arrivals(view: ClusterView, since_s: float, patience_s: float) -> tuple[Arrival, ...]:
    """Return the streams of other farms whose load is on its way to a node and not in a window's average yet.

    Args:
        view: the cluster at the end of the window.
        since_s: a pod that became Ready later is not in the window, in seconds since 1970.
        patience_s: a move that has been open for longer counts no more: its farm may have been stopped.
    """
    found = []
    for scaled_job in view.other_streams:
        text = open_move_text(scaled_job)
        opened = None if text is None else OpenMove.from_text(text)
        if opened is not None and abs(view.taken_s - opened.began_s) <= patience_s:
            found.append(Arrival(opened.move.destination, _points(opened.move.cost[ONE_SIGNAL])))
            continue
        pods = [pod for pod in view.other_pods if pod.scaled_job == scaled_job.name and pod.host in view.nodes]
        found += [
            Arrival(view.nodes[pod.host].name, None)
            for pod in pods
            # one from the future comes from a node's clock that is ahead, and would never settle
            if pod.ready_since_s is not None and since_s < pod.ready_since_s <= view.taken_s
        ]
    return tuple(found)


def _state(pod: Pod) -> tuple[object, ...]:
    return pod.host, pod.phase, pod.ready_since_s


def _points(cost: object) -> float | None:
    """Return what another farm expects its stream to cost; None for a figure that can't be true."""
    if not isinstance(cost, int | float) or not math.isfinite(cost) or not 0 <= cost <= 100:
        return None
    return float(cost)
