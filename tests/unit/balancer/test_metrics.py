"""The balancer's metrics count what was planned."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from posture.balancer.metrics import BalancerMetrics
from posture.planning.model import Move, MoveKind, Plan, Veto, VetoReason


def test_each_loop_move_and_veto_is_counted_and_overloaded_nodes_are_those_of_the_last_loop() -> None:
    registry = CollectorRegistry()
    metrics = BalancerMetrics(registry)
    move = Move(MoveKind.OFFLOAD, "pi1", "agx", "nano", 20.0, 45.0, 80.0, 5.0, "agx is over the threshold")
    veto = Veto(VetoReason.PINNED, "agx", "pi2")
    metrics.planned(Plan((move,), (veto, veto), ("agx", "orin")))
    metrics.planned(Plan((move,), (), ("agx",)))
    assert registry.get_sample_value("posture_balancer_loops_total") == 2
    assert registry.get_sample_value("posture_balancer_moves_total", {"kind": "offload"}) == 2
    assert registry.get_sample_value("posture_balancer_vetoes_total", {"reason": "pinned"}) == 2
    assert registry.get_sample_value("posture_balancer_overloaded_nodes") == 1
