"""The planner in time (simulation, scenario): the simulated farm settles, and outlives nodes and exporters."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from posture.errors import UserError
from posture.planning.model import MoveKind, Policy, VetoReason
from posture.simulator.scenario import Event, NodeClass, Scenario, fits, lower_bounds, read_scenario, scenario_from
from posture.simulator.simulation import Result, Simulation, simulate

SCENARIOS = Path(__file__).resolve().parents[3] / "scenarios"


def scenario(name: str, **changes: object) -> Scenario:
    given = {**read_scenario(SCENARIOS / f"{name}.yaml"), **changes}
    return scenario_from(given, name)


def run(farm: Scenario, seed: int = 0) -> Result:
    return Simulation(farm, seed).run()


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in sorted(SCENARIOS.glob("*.yaml"))])
def test_each_scenario_in_the_folder_is_valid(path: Path) -> None:
    assert scenario_from(read_scenario(path), str(path)).nodes


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        pytest.param("seven-jetsons", 30, id="seven-jetsons"),
        pytest.param("ten-equal", 30, id="ten-equal"),
        pytest.param("six-idle", 30, id="six-idle"),
        pytest.param("forty-cameras", 30, id="forty-cameras"),
        pytest.param("thousand", 1, id="thousand"),
    ],
)
def test_guarded_reaches_stable_in_every_seed_of_a_feasible_noiseless_farm_without_repeats(name, seeds) -> None:
    results = simulate(scenario(name), range(seeds))
    for result in results:
        assert result.feasible
        assert result.stable, result.seed
        assert result.repeated == 0, result.seed
        assert result.unplaceable == 0
        assert result.loops_to_stable >= result.bounds.loops
        assert result.moves >= result.bounds.moves
    assert sum(result.moves for result in results) > 0


def test_a_farm_that_only_a_repacking_could_cure_is_left_alone_and_says_so() -> None:
    """Nine tenths full: the last overload is a point, and no single move from an overloaded node removes it."""
    result = run(scenario("ten-equal", load=[5, 15]), 2)
    assert result.feasible
    assert not result.stable
    assert result.max_load < 51
    assert result.repeated == 0
    assert result.vetoes[VetoReason.UNPLACEABLE.value] > 0


def noisy_farm(**changes: object) -> Scenario:
    """A thousand nodes, half of them exactly at the threshold, half at half of it: nothing has to move."""
    classes = {"slow": {"count": 500, "speed": 1}, "fast": {"count": 500, "speed": 2}}
    given = {"classes": classes, "jobs": 5000, "load": [10, 10], "noise": 3, "loops": 200, **changes}
    return scenario_from(given, "noisy")


def test_r12_with_the_documented_dwell_and_hysteresis_a_steady_noisy_farm_makes_no_moves_over_200_loops() -> None:
    result = run(noisy_farm(dwell=2, hysteresis=2.5))
    assert result.loops == 200
    assert result.moves == 0


def test_r12_without_dwell_and_hysteresis_the_same_farm_would_move_jobs() -> None:
    assert run(noisy_farm(loops=5)).moves > 0


def test_the_first_placement_is_even() -> None:
    simulation = Simulation(Scenario(classes={"node": NodeClass(4)}, jobs=10), 3)
    assert sorted(Counter(job.node for job in simulation.jobs).values()) == [2, 2, 3, 3]


def test_a_seed_gives_the_same_run_again_and_another_one_does_not() -> None:
    farm = scenario("ten-equal", noise=3, loops=10)
    one, again, other = run(farm, 1), run(farm, 1), run(farm, 2)
    assert one.timeline.moves == again.timeline.moves
    assert one.timeline.moves != other.timeline.moves


def test_policy_none_moves_nothing() -> None:
    result = run(scenario("ten-equal", policy="none"))
    assert result.moves == 0
    assert not result.stable


def test_a_move_costs_its_stream_no_longer_than_stop_and_poll_and_start() -> None:
    farm = scenario("ten-equal")
    result = run(farm)
    assert result.moves > 0
    assert 0 < result.longest_downtime_s <= farm.stop_s + farm.poll_s + 1.25 * farm.start_s


def test_r14_streams_of_a_lost_node_run_elsewhere_within_the_stated_bound() -> None:
    """Grace + one loop + one poll + start-up, from when the node is called NotReady."""
    farm = Scenario(
        classes={"node": NodeClass(5)}, jobs=10, load=(5, 10), loops=20, events=(Event(301.0, "node-1", "down"),)
    )
    result = run(farm)
    assert result.moves_by_kind == {"failover": 2}
    grace_s, loop_s = 60.0, farm.window_s + farm.interval_s
    bound_s = grace_s + loop_s + farm.stop_s + farm.poll_s + 1.25 * farm.start_s
    assert 0 < result.longest_downtime_s <= farm.notready_s + bound_s
    assert result.stable


def test_r14_more_than_half_of_the_nodes_lost_at_once_moves_nothing() -> None:
    events = tuple(Event(301.0, f"node-{i}", "down") for i in (1, 2, 3))
    result = run(Scenario(classes={"node": NodeClass(5)}, jobs=10, load=(5, 10), loops=20, events=events))
    assert result.moves == 0
    assert result.vetoes[VetoReason.MANY_LOST.value] > 0


def test_r13_streams_leave_a_node_that_can_not_start_them_and_all_run_in_the_end() -> None:
    farm = Scenario(
        classes={"node": NodeClass(5)}, jobs=10, load=(5, 10), loops=30, events=(Event(301.0, "node-1", "broken"),)
    )
    simulation = Simulation(farm)
    result = simulation.run()
    assert result.moves_by_kind == {"restart": 2}
    assert all(job.runs_on > 0 for job in simulation.jobs)


def test_the_first_loops_of_readme_and_guarded_ask_for_the_same_farm() -> None:
    for policy in ("readme", "guarded"):
        simulation = Simulation(scenario("six-idle", policy=policy), 4)
        assert simulation.rules.policy is Policy(policy)
        simulation.run()
        assert {move.destination for move in simulation.plans[0].moves} <= {f"node-{i}" for i in range(7, 13)}


# -- two signals -------------------------------------------------------------------------------------------------


def test_one_signal_fills_a_node_whose_processors_are_busy_and_two_signals_do_not() -> None:
    filled = 0
    for seed in range(10):
        blind, seeing = (run(scenario("gpu-and-cpu", signals=read), seed) for read in (["gpu"], ["gpu", "cpu"]))
        assert seeing.feasible
        assert seeing.stable, seed
        assert seeing.repeated == 0
        if "node-7" in {move.destination for _, move in blind.timeline.moves}:
            filled += 1
            assert blind.timeline.usage[-1][6] > 50, (
                "its processors are over the threshold, by what was moved there"
            )
            assert not blind.stable
    assert filled >= 6


def test_nodes_that_are_read_by_different_signals_settle_and_no_stream_moves_twice() -> None:
    classes = {
        "orin": {"count": 3, "speed": {"gpu": 3, "cpu": 1}},
        "pc": {"count": 2, "speed": {"cpu": 3}, "signals": ["cpu"]},
        "nano": {"count": 3},
    }
    given = {"classes": classes, "jobs": 40, "load": {"gpu": [2, 14], "cpu": [2, 14]}, "start": "random"}
    results = simulate(scenario_from(given, "mixed"), range(8))
    for result in results:
        assert result.repeated == 0
        over = {
            name for name, usage in zip(result.scenario.nodes, result.timeline.usage[-1], strict=True) if usage > 50
        }
        assert over <= {"pc-1", "pc-2"}, "nobody sees the GPUs of these"
    assert sum(result.moves for result in results) > 20


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param(
            {"signals": ["npu"]}, "signals: 'npu' is no signal; accepted: those that load names, gpu, cpu"
        ),
        pytest.param({"signals": ["gpu", "gpu"]}, "signals: ['gpu', 'gpu'] is not accepted"),
        pytest.param({"load": [1, 2], "events": []}, "signals: 'gpu' is no signal; accepted: those that"),
        pytest.param(
            {"load": {"gpu": [2, 1]}}, "load: {'gpu': [2, 1]} is not accepted; accepted: [least, most] points"
        ),
        pytest.param({"load": {}}, "load: {} is not accepted"),
        pytest.param({"classes": {"a": {"count": 1, "speed": {"npu": 2}}}, "events": []}, "classes: a: 'npu'"),
        pytest.param(
            {"events": [{"at_s": 0, "node": "node-1", "what": "foreign", "points": {"npu": 2}}]},
            "events: node-1: 'npu'",
        ),
    ],
)
def test_a_signal_that_the_streams_do_not_have_is_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(UserError) as refused:
        scenario("gpu-and-cpu", **{"signals": ["gpu"], **changes})
    assert told in str(refused.value)


# -- failures of well-known systems -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["silent", "stale"])
def test_koordinator_1721_a_stale_high_metric_evicts_for_ever(what: str) -> None:
    """It doesn't here: once its exporter is stuck at a high value, a node is left alone."""
    events = (Event(0.0, "node-1", "foreign", 60.0), Event(25.0, "node-1", what))
    result = run(Scenario(classes={"node": NodeClass(4)}, jobs=12, load=(8, 10), events=events))
    assert not [move for _, move in result.timeline.moves[1:] if move.source == "node-1"]
    assert result.vetoes[VetoReason.METRIC_UNKNOWN.value] > 0


def test_koordinator_990_a_five_minute_average_still_high_after_a_move_causes_wrong_evictions() -> None:
    """It doesn't here: readings are 25 s old, one move cures each node, and no second one follows."""
    farm = Scenario(
        classes={"node": NodeClass(3), "spare": NodeClass(3, 4.0)}, jobs=18, load=(18, 19), lag_s=25.0, loops=40
    )
    result = run(farm)
    assert result.stable
    assert result.moves == result.bounds.moves == 3


def test_volcano_5313_a_herd_to_the_last_idle_node_during_metric_lag_in_time() -> None:
    """Eight nodes at 60 and an idle one: under guarded the idle node never comes over the threshold."""
    farm = Scenario(classes={"node": NodeClass(9)}, jobs=32, load=(15, 15), idle=1, lag_s=25.0, start_cost=1.0)
    readme, guarded = (run(dataclasses.replace(farm, policy=policy)) for policy in ("readme", "guarded"))
    assert max(usage[8] for usage in guarded.timeline.usage) <= 50
    assert max(usage[8] for usage in readme.timeline.usage) > 100


def test_descheduler_1695_the_heavy_pod_is_evicted_every_five_minutes_in_time() -> None:
    """It isn't here: readme moves it in every loop or two, guarded never."""
    farm = Scenario(classes={"node": NodeClass(3)}, jobs=1, load=(80, 80), loops=40)
    assert run(dataclasses.replace(farm, policy="readme")).moves >= 15
    assert run(farm).moves == 0


def test_somebody_elses_load_does_not_drive_all_our_streams_away_for_nothing() -> None:
    """The exporter says 80 whatever leaves: after two moves without an effect the load isn't ours."""
    farm = Scenario(classes={"node": NodeClass(4)}, jobs=16, load=(0.1, 0.1), loops=40)
    events = (Event(0.0, "node-1", "foreign", 80.0),)
    result = run(dataclasses.replace(farm, events=events))
    assert [move.source for _, move in result.timeline.moves] == ["node-1", "node-1"]
    assert result.vetoes[VetoReason.NOT_OUR_LOAD.value] > 0


# -- bounds ------------------------------------------------------------------------------------------------------


def test_the_lower_bounds_are_those_of_a_farm_that_can_be_checked_by_hand() -> None:
    bounds = lower_bounds([30.0, 20.0, 15.0, 40.0], [1.0, 1.0, 2.0], [0, 0, 0, 1], 50.0)
    assert (bounds.loops, bounds.moves) == (2, 1)
    assert bounds.max_load == pytest.approx(105 / 4)
    assert lower_bounds([20.0, 20.0, 20.0], [1.0, 1.0], [0, 0, 0], 50.0).max_load == 40.0


def test_a_farm_is_feasible_if_the_heaviest_first_rule_finds_a_place_for_each_job() -> None:
    jobs, speeds = [[30.0], [20.0], [50.0]], [[1.0], [1.0]]
    assert fits(jobs, speeds, [[0.0], [0.0]], 50.0)
    assert not fits(jobs, speeds, [[0.0], [1.0]], 50.0)


def test_a_farm_is_feasible_only_if_each_job_has_room_in_each_signal() -> None:
    jobs, speeds = [[30.0, 5.0], [5.0, 30.0], [20.0, 20.0]], [[1.0, 1.0], [1.0, 2.0]]
    assert fits(jobs, speeds, [[0.0, 0.0], [0.0, 0.0]], 50.0)
    assert not fits(jobs, speeds, [[0.0, 30.0], [40.0, 0.0]], 50.0)
    assert fits([[5.0, 30.0]], [[1.0, 1.0]] * 2, [[10.0, 30.0], [40.0, 10.0]], 50.0), "not on the emptier one"


def test_r13_and_r14_are_not_done_under_readme() -> None:
    result = run(scenario("node-loss", policy="readme", loops=15))
    assert MoveKind.FAILOVER.value not in result.moves_by_kind
    assert result.vetoes[VetoReason.POLICY.value] > 0
