"""Starts and stops disturb a node until they have settled."""

from __future__ import annotations

import dataclasses

import pytest
from farm_objects import NOW_S, job, pod, scaled_job, view

from posture.balancer.disturbances import Settling
from posture.planning.ledger import Ledger
from posture.planning.model import Rules


def test_a_start_disturbs_its_node_until_it_has_settled() -> None:
    ledger = Ledger(Rules())
    settling = Settling(ledger, after_ready_s=20.0)
    jobs = [job("j", "agx")]
    settling.see(view(scaled_job("agx"), jobs, [pod("j", phase="Pending")]))
    ledger.window(NOW_S, {"agx": 10.0})
    assert not ledger.node("agx").clean
    ready = view(scaled_job("agx"), jobs, [pod("j", ready_since_s=NOW_S + 10)])
    settling.see(dataclasses.replace(ready, taken_s=NOW_S + 10))
    ledger.window(NOW_S + 29, {"agx": 10.0})
    assert not ledger.node("agx").clean
    assert settling.unsettled(NOW_S + 29) == {"pi1"}
    ledger.window(NOW_S + 30, {"agx": 10.0})
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
    for start_s, clean in ((NOW_S + 19, False), (NOW_S + 21, True)):
        ledger.window(start_s, {"agx": 10.0})
        assert ledger.node("agx").clean is clean
        assert (settling.unsettled(start_s) == frozenset()) is clean
