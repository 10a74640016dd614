"""The balancer's Prometheus metrics: loops, moves, and vetoes by reason."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from posture.planning.model import Plan


class BalancerMetrics:
    """The figures of one balancer.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._loops = Counter("posture_balancer_loops", "Loops planned.", registry=registry)
        self._moves = Counter("posture_balancer_moves", "Moves planned.", ["kind"], registry=registry)
        self._vetoes = Counter("posture_balancer_vetoes", "Vetoes.", ["reason"], registry=registry)
        self._overloaded = Gauge(
            "posture_balancer_overloaded_nodes", "Nodes over the threshold in the last window.", registry=registry
        )

    def planned(self, plan: Plan) -> None:
        """Count one loop's plan."""
        self._loops.inc()
        for move in plan.moves:
            self._moves.labels(move.kind.value).inc()
        for veto in plan.vetoes:
            self._vetoes.labels(veto.reason.value).inc()
        self._overloaded.set(len(plan.overloaded))
