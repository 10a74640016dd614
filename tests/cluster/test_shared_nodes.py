"""Farms that share nodes and a namespace, on the real control plane."""

from __future__ import annotations

from typing import Any

from balancing import MOVE, Farm, annotations
from nodes import SimulatedNode

from posture.balancer.open_move import OpenMove
from posture.planning.model import Move, MoveKind

OF_FARM_B = {
    "app.kubernetes.io/part-of": "posture-farm",
    "posture-farm/farm": "b",
    "posture-farm/stream": "theirs",
}


def under_way(farm: Farm, source: SimulatedNode, destination: SimulatedNode, cost: float) -> dict[str, Any]:
    """Return labels and annotations of another farm's stream with an open move; KEDA makes no Job of it."""
    move = Move(MoveKind.OFFLOAD, "theirs", source.name, destination.name, {"": cost}, {"": cost}, 80.0, 5.0, "")
    began_s = farm.scaled_job("pi1").metadata.creationTimestamp.timestamp()
    paused = {"autoscaling.keda.sh/paused": "true"}
    return {"labels": OF_FARM_B, "annotations": {MOVE: OpenMove("id", move, began_s).to_text(), **paused}}


def test_a_move_of_another_farm_to_the_idlest_node_sends_ours_to_the_next(farm: Farm) -> None:
    busy, idlest, next_best = farm.add_nodes(60, 5, 15)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy)
    farm.add_stream("theirs", busy, wait=False, **under_way(farm, busy, idlest, cost=12.0))
    balancer = farm.balancer("--once")
    assert balancer.wait() == 0, balancer.said()
    farm.until_moved("pi1", next_best)
    assert MOVE in annotations(farm.scaled_job("theirs")), "theirs is left alone"
