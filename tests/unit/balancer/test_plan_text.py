"""A plan in words has every number."""

from __future__ import annotations

import random

from farm_objects import NOW_S, job, make, pod, scaled_job, view

from posture.balancer import plan_text
from posture.balancer.health import Down
from posture.balancer.snapshot import SnapshotMaker
from posture.balancer.watch import Watch
from posture.kube.troubles import Trouble
from posture.planning.ledger import Ledger
from posture.planning.model import NodeState, Rules, Snapshot, StreamHistory, StreamState
from posture.planning.offloads import plan_offloads
from posture.usage.readings import UsageUnknownError


def test_the_plan_in_words_has_every_number() -> None:
    seen = view(scaled_job("agx"), [job("j", "agx")], [pod("j", ready_since_s=NOW_S)])
    snapshot = make(seen, agx=80.0, nano=5.0)
    plan = plan_offloads(snapshot, Rules(), random.Random(1))
    text = "\n".join(plan_text.lines(snapshot, plan, Rules(), {}))
    assert "node agx: 80.0 %, 1 streams" in text
    assert "veto agx: unplaceable (usage 80, smallest_job 80 (a guess))" in text
    assert "1 overloaded; 0 to move; vetoes: unplaceable 1" in plan_text.summary(snapshot, plan)


def test_a_farm_is_not_called_stable_while_a_stream_does_not_run() -> None:
    snapshot = make(view(scaled_job("agx"), [job("j", "agx")], []), agx=10.0, nano=5.0)
    plan = plan_offloads(snapshot, Rules(), random.Random(1))
    down = {"pi1": Down(Trouble("FailedCreate", "exceeded quota: small"), NOW_S, lasts=True)}
    told = plan_text.lines(snapshot, plan, Rules(), down)
    assert "stream pi1 does not run: FailedCreate: exceeded quota: small" in told
    assert "stable" not in told
    assert "stable" in plan_text.lines(snapshot, plan, Rules(), {})


def test_a_missing_metric_is_explained() -> None:
    maker = SnapshotMaker(Ledger(Rules()), Watch())
    why = UsageUnknownError("agx", None, "gpu{} is stale")
    snapshot = maker.make(view(scaled_job("agx"), [], []), {"agx": why}, frozenset())
    assert snapshot.nodes[0].usage is None
    assert "gpu{} is stale" in plan_text.summary(snapshot, plan_offloads(snapshot, Rules(), random.Random(1)))


def test_a_node_with_several_signals_is_told_with_each_and_so_is_a_move() -> None:
    nodes = [
        NodeState("agx", 80.0, signals={"gpu": 20.0, "cpu": 80.0}, speeds={"gpu": 4.0, "cpu": 1.0}),
        NodeState("nano", 30.0, signals={"gpu": 30.0, "cpu": 5.0}),
    ]
    jobs = [StreamState(f"pi{i}", "agx", history=StreamHistory(work={"gpu": 8.0, "cpu": 40.0})) for i in range(2)]
    snapshot = Snapshot(nodes, jobs)
    told = plan_text.lines(snapshot, plan_offloads(snapshot, Rules(), random.Random(1)), Rules(), {})
    assert "node agx: 80.0 % (gpu 20.0, cpu 80.0), 2 streams, speed 4.00 in gpu" in told
    (moved,) = [line for line in told if line.startswith("move pi0")]
    assert "(offload; gpu -2.0, cpu -40.0 there, gpu +8.0, cpu +40.0 here; agx comes from 80.0 to 40.0)" in moved
