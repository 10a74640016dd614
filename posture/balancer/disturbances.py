"""Which nodes' usage starts and stops disturb, ours (R5) and those of others, and until when."""

from __future__ import annotations

from collections.abc import Mapping

from posture.balancer import past_moves
from posture.balancer.open_move import open_move_text
from posture.balancer.others import came_or_went, just_started
from posture.balancer.view import ClusterView
from posture.kube.annotations import MOVES
from posture.kube.objects import Pod, ScaledJob
from posture.planning.ledger import Ledger

CATCH_UP = 2.0
"""Times as long as it was away: enough for a stream that uses up to two thirds of what it can get."""
LONGEST_CATCH_UP_S = 300.0
"""A stream that takes longer to work off what waited for it is measured as it is."""


class Settling:
    """Tells the ledger of each pod that starts or stops.

    A stream that was away comes back to the frames that have waited for it, and works them off as fast as its node
    can: meanwhile it says nothing about its load. It is given twice as long as it was away.

    Args:
        ledger: whom to tell.
        after_ready_s: how long a pod that has become Ready disturbs its node: warm-up and one scrape.
    """

    def __init__(self, ledger: Ledger, after_ready_s: float) -> None:
        self._ledger = ledger
        self._after_ready_s = after_ready_s
        self._ready_pods: dict[str, str] = {}
        self._absent_since_s: dict[str, float] = {}
        """Stream -> when it was first seen without the Ready pod that it had had."""
        self._settled_s: dict[str, float] = {}
        self._others: Mapping[str, Pod] | None = None
        """Pods of others at the last reading, by uid; None: nothing has been read."""

    def see(self, view: ClusterView) -> None:
        """Compare the cluster with the last reading, and tell the ledger what has changed."""
        # cap settle times: later ones come from a clock that was since set back
        latest_s = view.taken_s + self._after_ready_s + LONGEST_CATCH_UP_S
        self._settled_s = {stream: min(settled_s, latest_s) for stream, settled_s in self._settled_s.items()}
        self._ledger.settle_by(latest_s)
        for stream, scaled_job in view.scaled_jobs.items():
            if open_move_text(scaled_job) is not None:
                # the ledger knows of the move; it ends when the new pod becomes Ready
                self._lost(stream, view.taken_s)
            elif (node := view.place(scaled_job)) is not None:
                self._see_stream(view, scaled_job, node)
        for stream in self._ready_pods.keys() - view.scaled_jobs.keys():
            del self._ready_pods[stream]
        for stream in self._absent_since_s.keys() - view.scaled_jobs.keys():
            del self._absent_since_s[stream]
        self._see_others(view)

    def _see_others(self, view: ClusterView) -> None:
        """A node where a pod of others starts or stops teaches no loads for a while; it takes part as before."""
        now = {pod.uid: pod for pod in view.other_pods}
        if self._others is None:
            hosts = just_started(now.values(), view.taken_s - self._after_ready_s)
        else:
            hosts = came_or_went(self._others, now)
        self._others = now
        for host in sorted(hosts & view.nodes.keys()):
            self._ledger.others_change(view.nodes[host].name, view.taken_s + self._after_ready_s)

    def _see_stream(self, view: ClusterView, scaled_job: ScaledJob, node: str) -> None:
        stream = scaled_job.stream
        pods = [pod for pod in view.current_pods(scaled_job) if pod.alive]
        ready = [(pod.ready_since_s, pod) for pod in pods if pod.ready_since_s is not None]
        if ready:
            since_s, pod = max(ready, key=lambda one: one[0])
            since_s = min(since_s, view.taken_s)  # by the clock of the pod's node, which may be ahead
            if self._ready_pods.get(stream) != pod.uid:
                self._settled_s[stream] = since_s + self._after_ready_s + self._catch_up_s(scaled_job, pod, since_s)
                self._ready_pods[stream] = pod.uid
                self._ledger.change_begins(stream, node)
                self._ledger.change_ends(stream, self._settled_s[stream])
        elif any(pod.host for pod in pods):
            self._lost(stream, view.taken_s)
            self._ledger.change_begins(stream, node)
        elif self._lost(stream, view.taken_s):
            self._ledger.change_begins(stream, node)
            self._ledger.change_ends(stream, view.taken_s + self._after_ready_s)

    def _catch_up_s(self, scaled_job: ScaledJob, pod: Pod, ready_s: float) -> float:
        """Return how long a stream has to catch up since this pod of it is Ready; 0 for one that is new to us."""
        stream = scaled_job.stream
        text = (scaled_job.annotations or {}).get(MOVES, "")
        moved_s = past_moves.began_s(text, pod.created_s)
        if moved_s is None and stream not in self._absent_since_s and stream not in self._ready_pods:
            return 0.0
        absent_s = min(self._absent_since_s.pop(stream, ready_s), pod.created_s, moved_s or ready_s)
        return min(CATCH_UP * max(ready_s - absent_s, 0.0), LONGEST_CATCH_UP_S)

    def _lost(self, stream: str, since_s: float) -> bool:
        """Note that a stream's Ready pod is gone; return whether it had one."""
        if self._ready_pods.pop(stream, None) is None:
            return False
        self._absent_since_s[stream] = since_s
        return True

    def unsettled(self, since_s: float) -> frozenset[str]:
        """Return the streams whose load is not in a window that began at this time."""
        return frozenset(stream for stream, settled_s in self._settled_s.items() if settled_s > since_s)
