"""The balancer's metrics count what was planned."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from posture.balancer.health import Down
from posture.balancer.metrics import BalancerMetrics
from posture.kube.troubles import Trouble
from posture.planning.model import Move, MoveKind, NodeState, Plan, Veto, VetoReason
from posture.usage.agreement import Disagreement


def test_each_loop_move_and_veto_is_counted_and_overloaded_nodes_are_those_of_the_last_loop() -> None:
    registry = CollectorRegistry()
    metrics = BalancerMetrics(registry, "default")
    move = Move(
        MoveKind.OFFLOAD, "pi1", "agx", "nano", {"": 20.0}, {"": 45.0}, 80.0, 5.0, "agx is over the threshold"
    )
    veto = Veto(VetoReason.PINNED, "agx", "pi2")
    metrics.planned(Plan((move,), (veto, veto), ("agx", "orin")))
    metrics.planned(Plan((move,), (), ("agx",)))
    assert registry.get_sample_value("posture_balancer_loops_total") == 2
    assert registry.get_sample_value("posture_balancer_moves_total", {"kind": "offload"}) == 2
    assert registry.get_sample_value("posture_balancer_vetoes_total", {"reason": "pinned"}) == 2
    assert registry.get_sample_value("posture_balancer_overloaded_nodes") == 1


def test_vetoes_and_overloaded_nodes_are_named_until_they_are_gone() -> None:
    registry = CollectorRegistry()
    metrics = BalancerMetrics(registry, "default")
    pinned, full = Veto(VetoReason.PINNED, "agx", "pi2"), Veto(VetoReason.ALL_OVERLOADED)
    metrics.planned(Plan((), (pinned, full), ("agx",)))
    veto = {"reason": "pinned", "node": "agx", "stream": "pi2"}
    assert registry.get_sample_value("posture_balancer_veto", veto) == 1
    assert registry.get_sample_value("posture_balancer_node_overloaded", {"node": "agx"}) == 1
    metrics.planned(Plan())
    assert registry.get_sample_value("posture_balancer_veto", veto) is None
    assert registry.get_sample_value("posture_balancer_node_overloaded", {"node": "agx"}) is None


def test_streams_that_do_not_run_have_their_reason_and_open_moves_their_age() -> None:
    registry = CollectorRegistry()
    metrics = BalancerMetrics(registry, "default")
    down = {"pi1": Down(Trouble("FailedCreate", "exceeded quota"), 0.0, lasts=True)}
    metrics.streams({"pi1": "agx", "pi2": "nano"}, down)
    metrics.open_moves(
        {Move(MoveKind.OFFLOAD, "pi1", "agx", "nano", {"": 1.0}, {"": 1.0}, None, None, "why"): 130.0}
    )
    running = "posture_stream_running"
    assert registry.get_sample_value(running, {"stream": "pi1", "node": "agx"}) == 0
    assert registry.get_sample_value(running, {"stream": "pi2", "node": "nano"}) == 1
    why = {"stream": "pi1", "node": "agx", "reason": "FailedCreate"}
    assert registry.get_sample_value("posture_stream_trouble", why) == 1
    move = {"stream": "pi1", "source": "agx", "destination": "nano"}
    assert registry.get_sample_value("posture_balancer_move_open_seconds", move) == 130
    metrics.streams({"pi1": "agx", "pi2": "nano"}, {})
    assert registry.get_sample_value(running, {"stream": "pi1", "node": "agx"}) == 1
    assert registry.get_sample_value("posture_stream_trouble", why) is None


def test_a_node_whose_usage_does_not_follow_its_streams_is_named_until_it_does() -> None:
    registry = CollectorRegistry()
    metrics = BalancerMetrics(registry, "default")
    labels = {"node": "nano", "measured": "gpu", "used": "cpu"}
    metrics.disagreements([Disagreement("nano", "gpu", "cpu", ("pi1",))])
    assert registry.get_sample_value("posture_balancer_signal_disagrees", labels) == 1
    metrics.disagreements([])
    assert registry.get_sample_value("posture_balancer_signal_disagrees", labels) is None


def test_a_stream_that_does_not_get_its_gpu_is_named_until_it_does() -> None:
    registry = CollectorRegistry()
    metrics = BalancerMetrics(registry, "default")
    labels = {"stream": "pi1", "node": "orin"}
    metrics.gpu_missing({"pi1": "orin"})
    assert registry.get_sample_value("posture_stream_gpu_missing", labels) == 1
    metrics.gpu_missing({})
    assert registry.get_sample_value("posture_stream_gpu_missing", labels) is None


def test_each_signal_of_a_node_has_its_average_and_one_that_is_not_known_has_none() -> None:
    registry = CollectorRegistry()
    metrics = BalancerMetrics(registry, "posture")
    metrics.averages([NodeState("agx", 70.0, signals={"gpu": 20.0, "cpu": 70.0}), NodeState("nano", None)])
    found = {
        (sample.labels["node"], sample.labels["signal"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "posture_balancer_node_percent"
    }
    assert found == {("agx", "gpu"): 20.0, ("agx", "cpu"): 70.0}


def test_a_balancer_that_waits_for_the_lease_says_nothing_of_nodes_and_streams() -> None:
    registry = CollectorRegistry()
    metrics = BalancerMetrics(registry, "default")
    metrics.planned(Plan((), (Veto(VetoReason.PINNED, "agx", "pi2"),), ("agx",)))
    metrics.streams({"pi1": "agx"}, {})
    metrics.gpu_missing({"pi1": "agx"})
    metrics.acts(False)
    metrics.forget_farm()
    text = generate_latest(registry).decode()
    assert "agx" not in text
    assert 'posture_balancer_acting{farm="default"} 0.0' in text
