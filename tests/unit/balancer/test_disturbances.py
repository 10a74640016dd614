"""Starts and stops disturb a node until they have settled."""

from __future__ import annotations

import dataclasses

import pytest
from farm_objects import NOW_S, job, pod, scaled_job, view

from posture.balancer import past_moves
from posture.balancer.disturbances import LONGEST_CATCH_UP_S, Settling
from posture.balancer.open_move import OpenMove
from posture.kube.annotations import MOVES
from posture.planning.ledger import Ledger
from posture.planning.model import Move, MoveKind, Rules


def test_a_start_disturbs_its_node_until_it_has_settled() -> None:
    ledger = Ledger(Rules())
    settling = Settling(ledger, after_ready_s=20.0)
    jobs = [job("j", "agx")]
    settling.see(view(scaled_job("agx"), jobs, [pod("j", phase="Pending")]))
    ledger.window(NOW_S, {"agx": {"": 10.0}})
    assert not ledger.node("agx").clean
    ready = view(scaled_job("agx"), jobs, [pod("j", ready_since_s=NOW_S + 10)])
    settling.see(dataclasses.replace(ready, taken_s=NOW_S + 10))
    ledger.window(NOW_S + 29, {"agx": {"": 10.0}})
    assert not ledger.node("agx").clean
    assert settling.unsettled(NOW_S + 29) == {"pi1"}
    ledger.window(NOW_S + 30, {"agx": {"": 10.0}})
    assert ledger.node("agx").clean
    assert settling.unsettled(NOW_S + 30) == frozenset()


@pytest.mark.parametrize("wrong", ["the node's clock is an hour ahead", "the clock is set back by an hour"])
def test_a_wrong_clock_does_not_keep_a_node_from_settling(wrong: str) -> None:
    ledger = Ledger(Rules())
    settling = Settling(ledger, after_ready_s=20.0)
    ready = view(scaled_job("agx"), [job("j", "agx")], [pod("j", ready_since_s=NOW_S + 3600)])
    if "set back" in wrong:
        settling.see(dataclasses.replace(ready, taken_s=NOW_S + 3600))
    settling.see(dataclasses.replace(ready, taken_s=NOW_S))
    for start_s, clean in ((NOW_S + 19, False), (NOW_S + 20 + LONGEST_CATCH_UP_S, True)):
        ledger.window(start_s, {"agx": {"": 10.0}})
        assert ledger.node("agx").clean is clean
        assert (settling.unsettled(start_s) == frozenset()) is clean


@pytest.mark.parametrize(
    ("readings", "settles_after_s"),
    [
        pytest.param([("new", 0, 40)], 20, id="a new stream"),
        pytest.param([("old", -900, -890), (None, 0, None), ("new", 10, 40)], 20 + 80, id="seen without a pod"),
        pytest.param([("old", -900, -890), ("new", 10, 40)], 20 + 60, id="came back between two readings"),
        pytest.param(
            [("old", -3900, -3890), (None, -3000, None), ("new", 10, 40)], 20 + 300, id="away for an hour"
        ),
        pytest.param([("old", -900, -890), ("old", -900, -890)], None, id="never away"),
    ],
)
def test_a_stream_that_was_away_has_twice_as_long_to_catch_up(readings, settles_after_s) -> None:
    """Each reading: a pod, when it was made, and when it was Ready; or None, and when that was seen."""
    ledger = Ledger(Rules())
    settling = Settling(ledger, after_ready_s=20.0)
    ready_s = None
    for name, made_s, ready_s in readings:
        pods = [] if name is None else [
            pod(name, created_s=NOW_S + made_s, ready_since_s=NOW_S + ready_s)
        ]  # fmt: skip
        jobs = [job(name or "old", "agx")]
        settling.see(view(scaled_job("agx"), jobs, pods, NOW_S + (made_s if ready_s is None else ready_s)))
    settled_s = NOW_S + (ready_s if settles_after_s is None else ready_s + settles_after_s)
    if settles_after_s is not None:
        assert settling.unsettled(settled_s - 1) == {"pi1"}
        ledger.window(settled_s - 1, {"agx": {"": 10.0}})
        assert not ledger.node("agx").clean
    else:
        settled_s += 890 + 20
    assert settling.unsettled(settled_s) == frozenset()
    ledger.window(settled_s, {"agx": {"": 10.0}})
    assert ledger.node("agx").clean


def test_a_moved_stream_was_away_since_its_move_began_also_for_a_balancer_that_was_started_meanwhile() -> None:
    moves = past_moves.with_ended(past_moves.with_begun("", OpenMove("1", MOVE, NOW_S)), NOW_S + 41)
    settling = Settling(Ledger(Rules()), after_ready_s=20.0)
    moved = scaled_job("nano", annotations={MOVES: moves})
    pods = [pod("new", "nano", created_s=NOW_S + 15, ready_since_s=NOW_S + 40)]
    settling.see(view(moved, [job("new", "nano")], pods, NOW_S + 45))
    assert settling.unsettled(NOW_S + 40 + 20 + 80 - 1) == {"pi1"}
    assert settling.unsettled(NOW_S + 40 + 20 + 80) == frozenset()


MOVE = Move(MoveKind.OFFLOAD, "pi1", "agx", "nano", {"": 20.0}, {"": 20.0}, 60.0, 10.0, "")


@pytest.mark.parametrize(
    ("before", "after", "learned"),
    [
        pytest.param([], [], 20.0, id="nobody"),
        pytest.param(["old"], ["old"], 20.0, id="somebody who stays"),
        pytest.param([], ["new"], None, id="came"),
        pytest.param(["old"], [], None, id="went"),
        pytest.param(["fresh"], ["fresh"], None, id="had just started when the balancer did"),
    ],
)
@pytest.mark.parametrize("host", ["agx", "nano"])
def test_no_load_is_learned_while_pods_of_others_come_or_go(host, before, after, learned) -> None:
    def seen(names: list[str], taken_s: float):
        since = {"old": NOW_S - 3600, "fresh": NOW_S - 1, "new": NOW_S + 50}
        others = [pod(name, host, scaled_job="", ready_since_s=since[name]) for name in names]
        return dataclasses.replace(view(scaled_job("agx"), [], []), taken_s=taken_s, other_pods=others)

    ledger = Ledger(Rules())
    settling = Settling(ledger, after_ready_s=20.0)
    settling.see(seen(before, NOW_S))
    ledger.window(NOW_S, {"agx": {"": 60.0}, "nano": {"": 10.0}})
    ledger.moved(MOVE, NOW_S + 30)
    ledger.change_ends("pi1", NOW_S + 50)
    settling.see(seen(after, NOW_S + 90))
    ledger.window(NOW_S + 60, {"agx": {"": 40.0}, "nano": {"": 30.0}})
    assert ledger.stream("pi1").work.get("") == learned
    assert ledger.node(host).clean, "others may never come to rest: the node takes part"
