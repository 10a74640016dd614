"""What a loop remembers: loads are learned only from clean moves, and whatever is remembered survives a restart."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture.planning.ledger import Ledger, history_from_json, history_to_json
from posture.planning.model import Move, MoveKind, Rules, StreamHistory

RULES = Rules()


def move(stream: str = "pi1", source: str = "a", destination: str = "b", **rest: object) -> Move:
    made = Move(MoveKind.OFFLOAD, stream, source, destination, {"": 20.0}, {"": 20.0}, 60.0, 0.0, "")
    return dataclasses.replace(made, **rest)  # type: ignore[arg-type]


Seen = dict[str, float | dict[str, float] | None]
"""Node -> what a window shows: of one signal, of several, or nothing."""


def alone(usage: Seen) -> dict[str, dict[str, float] | None]:
    """Return the averages of a window, in a farm with one signal where only a number is given."""
    return {node: {"": points} if isinstance(points, float) else points for node, points in usage.items()}


def ledger_after(
    before: Seen,
    after: Seen,
    *moves: Move,
    classes: dict[str, str] | None = None,
    ledger: Ledger | None = None,
    at_s: float = 0.0,
) -> Ledger:
    """Return a ledger that saw a window, moves that settled, and a clean window."""
    ledger = ledger or Ledger(RULES, classes)
    ledger.window(at_s, alone(before))
    for made in moves or (move(),):
        ledger.moved(made, at_s + 30)
        ledger.change_ends(made.stream, at_s + 60)
    ledger.window(at_s + 60, alone(after))
    return ledger


def test_the_sources_drop_is_the_load() -> None:
    ledger = ledger_after({"a": 60.0, "b": 10.0}, {"a": 38.0, "b": 33.0})
    assert ledger.stream("pi1").work == {"": 22.0}
    assert ledger.stream("pi1").loads == {"": {"": 22.0}}


def test_a_move_to_a_slower_class_teaches_though_the_classes_became_known_only_after_the_start() -> None:
    classes: dict[str, str] = {}
    ledger = Ledger(RULES, classes)
    classes |= {"a": "agx", "b": "orin"}
    ledger_after({"a": 55.0, "b": 20.0}, {"a": 45.0, "b": 40.0}, ledger=ledger)
    assert ledger.stream("pi1").loads == {"agx": {"": 10.0}, "orin": {"": 20.0}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"a": 95.0, "b": 10.0}, {"a": 75.0, "b": 30.0}, id="r11: the source read 95, it was clipped"),
        pytest.param({"a": 60.0, "b": 10.0}, {"a": 61.0, "b": 30.0}, id="the source did not fall"),
        pytest.param({"a": 60.0, "b": 10.0}, {"a": 40.0, "b": 50.0}, id="the destination rose twice as much"),
        pytest.param({"a": 60.0, "b": 10.0}, {"a": 40.0, "b": None}, id="the destination is unknown"),
        pytest.param({"a": None, "b": 10.0}, {"a": 40.0, "b": 30.0}, id="the source was unknown"),
        pytest.param({"a": 60.0, "b": None}, {"a": 40.0, "b": 20.0}, id="the destination was unknown"),
    ],
)
def test_a_pair_of_windows_that_proves_nothing_teaches_nothing(before, after) -> None:
    assert not ledger_after(before, after).stream("pi1").work


@given(st.floats(95, 100), st.floats(1, 100), st.floats(0, 100), st.floats(0, 100))
def test_r11_a_clipped_pair_is_ignored_whatever_it_says(before, drop, low, rise) -> None:
    ledger = ledger_after({"a": before, "b": low}, {"a": max(0.0, before - drop), "b": min(100.0, low + rise)})
    assert not ledger.stream("pi1").work


@given(st.floats(0, 94.9), st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_a_load_that_was_learned_is_between_nothing_and_the_sources_average(before, after, low, high) -> None:
    work = ledger_after({"a": before, "b": low}, {"a": after, "b": high}).stream("pi1").work.get("")
    assert work is None or (0 < work <= before and abs((high - low) - work) <= max(5.0, 0.3 * work))


def test_another_change_on_either_node_teaches_nothing() -> None:
    for node in ("a", "b"):
        ledger = Ledger(RULES)
        ledger.window(1000.0, alone({"a": 60.0, "b": 10.0}))
        ledger.moved(move(), 1030.0)
        ledger.change_ends("pi1", 1040.0)
        ledger.change_begins("pi2", node)
        ledger.change_ends("pi2", 1050.0)
        ledger.window(1060.0, alone({"a": 40.0, "b": 30.0}))
        assert not ledger.stream("pi1").work


@pytest.mark.parametrize("node", ["a", "b"])
@pytest.mark.parametrize("seen_s", [900.0, 1020.0, 1045.0])
def test_a_pod_of_others_on_either_node_teaches_nothing_and_the_node_takes_part_all_the_same(node, seen_s) -> None:
    ledger = Ledger(RULES)
    if seen_s < 1030:
        ledger.others_change(node, seen_s + 105)
    ledger.window(1000.0, alone({"a": 60.0, "b": 10.0}))
    assert ledger.node(node).clean
    ledger.moved(move(), 1030.0)
    ledger.change_ends("pi1", 1040.0)
    if seen_s > 1030:
        ledger.others_change(node, seen_s + 5)
    ledger.window(1060.0, alone({"a": 40.0, "b": 30.0}))
    assert not ledger.stream("pi1").work
    assert ledger.node(node).clean
    assert not ledger.stream("pi1").tried, "it may be moved on a guess again"


def test_a_pod_of_others_that_has_settled_or_is_elsewhere_hides_nothing() -> None:
    ledger = Ledger(RULES)
    ledger.others_change("a", 1000.0)
    ledger.others_change("c", 9000.0)
    ledger = ledger_after({"a": 60.0, "b": 10.0}, {"a": 38.0, "b": 33.0}, ledger=ledger, at_s=1000.0)
    assert ledger.stream("pi1").work == {"": 22.0}


def test_the_first_clean_window_teaches_and_not_a_spoiled_one() -> None:
    ledger = Ledger(RULES)
    ledger.window(1000.0, alone({"a": 60.0, "b": 10.0}))
    ledger.moved(move(), 1030.0)
    ledger.window(1060.0, alone({"a": 50.0, "b": 60.0}))
    ledger.change_ends("pi1", 1100.0)
    ledger.window(1090.0, alone({"a": 45.0, "b": 50.0}))
    assert not ledger.stream("pi1").work
    ledger.window(1120.0, alone({"a": 40.0, "b": 31.0}))
    assert ledger.stream("pi1").work == {"": 20.0}


def test_r5_a_window_is_clean_only_if_it_began_after_the_last_change_settled() -> None:
    ledger = Ledger(RULES)
    usage = {"a": 60.0, "b": 10.0, "c": 10.0}
    ledger.moved(move(), 1000.0)
    assert ledger.settles_s("a") == math.inf
    for spoiled in (1, 2):
        ledger.window(1000.0 + spoiled, alone(usage))
        assert not ledger.node("b").clean
        assert ledger.node("a").spoiled_windows == spoiled
        assert ledger.node("c").clean
    ledger.change_ends("pi1", 1050.0)
    ledger.window(1049.0, alone(usage))
    assert not ledger.node("a").clean
    ledger.window(1050.0, alone(usage))
    assert ledger.node("a").clean


def test_r5_an_average_of_later_samples_only_is_clean() -> None:
    ledger = Ledger(RULES)
    ledger.moved(move(), 1000.0)
    ledger.change_ends("pi1", 1050.0)
    ledger.window(1040.0, alone({"a": 60.0, "b": 10.0}), {"a": ledger.settles_s("a")})
    assert ledger.node("a").clean
    assert not ledger.node("b").clean


def test_r12_windows_over_the_threshold_in_a_row_are_counted() -> None:
    ledger = Ledger(Rules(hysteresis=5.0))
    seen = []
    for points in (56.0, 57.0, 58.0, 54.0, 56.0, None, 56.0):
        ledger.window(0.0, alone({"a": points}))
        seen.append(ledger.node("a").over_before)
    assert seen == [0, 1, 2, 0, 0, 0, 0]


def test_moves_that_change_nothing_are_counted_until_one_does() -> None:
    ledger = Ledger(RULES)
    for number, (points, expected) in enumerate([(90.0, 1), (90.0, 2), (70.0, 0)]):
        moved = move(f"pi{number}")
        before, after = {"a": 90.0, "b": 10.0}, {"a": points, "b": 30.0}
        ledger = ledger_after(before, after, moved, ledger=ledger, at_s=100.0 * number)
        assert ledger.node("a").useless_moves == expected


@pytest.mark.parametrize("foreign", [30.0, 60.0], ids=["beside ours", "saturating"])
def test_a_stream_that_left_somebody_elses_load_without_teaching_its_own_may_be_moved_on_a_guess_again(
    foreign: float,
) -> None:
    ledger = Ledger(RULES)
    before, after = {"a": 40.0 + foreign, "b": 0.0}, {"a": 40.0 + foreign, "b": 20.0}
    ledger_after(before, after, ledger=ledger)
    assert (ledger.stream("pi1").work, ledger.stream("pi1").tried) == ({}, False)
    assert ledger.stream("pi1").moves == 1, "its cooldown is as long as ever"


def test_a_stream_whose_move_was_not_measured_yet_has_had_its_try() -> None:
    ledger = Ledger(RULES)
    ledger.window(0.0, alone({"a": 60.0, "b": 0.0}))
    ledger.moved(move(), 30.0)
    assert ledger.stream("pi1").tried


def test_a_load_that_has_changed_since_may_be_ours_although_the_node_is_still_over_the_threshold() -> None:
    ledger = Ledger(RULES)
    for number in range(2):
        before, after = {"a": 90.0, "b": 10.0}, {"a": 90.0, "b": 30.0}
        ledger_after(before, after, move(f"pi{number}"), ledger=ledger, at_s=100.0 * number)
    assert ledger.node("a").useless_moves == 2
    ledger.window(300.0, alone({"a": 84.0, "b": 30.0}))
    assert ledger.node("a").useless_moves == 2
    ledger.window(360.0, alone({"a": 65.0, "b": 30.0}))
    assert ledger.node("a").useless_moves == 0


def test_noise_over_small_streams_does_not_make_a_load_somebody_elses() -> None:
    ledger = Ledger(RULES)
    for number, points in enumerate([85.0, 90.5]):  # expected: 20 each; seen: 5, and less than nothing
        before, after = {"a": 90.0, "b": 10.0}, {"a": points, "b": 30.0}
        ledger = ledger_after(before, after, move(f"pi{number}"), ledger=ledger, at_s=100.0 * number)
    assert ledger.node("a").useless_moves == 0


def test_r8_the_speed_of_a_class_is_learned_from_streams_that_ran_on_both() -> None:
    classes = {"a": "agx", "b": "nano", "c": "orin"}
    ledger = ledger_after({"a": 60.0, "b": 0.0}, {"a": 50.0, "b": 40.0}, classes=classes)
    assert ledger.speed("a") == 4 * ledger.speed("b")
    assert ledger.speed("c") == 1.0
    assert ledger.stream("pi1").work[""] == pytest.approx(10.0 * ledger.speed("a"))
    before, after = {"b": 60.0, "c": 0.0}, {"b": 30.0, "c": 15.0}
    ledger = ledger_after(before, after, move("pi2", "b", "c"), ledger=ledger, at_s=100.0)
    assert ledger.speed("a") == 2 * ledger.speed("c")


def test_r8_once_a_ratio_is_known_a_pair_that_disagrees_with_it_is_refused() -> None:
    classes = {"a": "agx", "b": "nano"}
    ledger = Ledger(RULES, classes)
    for number in range(3):
        before, after = {"a": 60.0, "b": 0.0}, {"a": 50.0, "b": 40.0}
        ledger = ledger_after(before, after, move(f"pi{number}"), ledger=ledger, at_s=100.0 * number)
    before, after = {"a": 60.0, "b": 0.0}, {"a": 30.0, "b": 30.0}
    ledger = ledger_after(before, after, move("odd"), ledger=ledger, at_s=300.0)
    assert not ledger.stream("odd").work
    assert ledger.speed("a") == 4 * ledger.speed("b")


def test_r13_a_node_where_the_start_failed_is_closed_for_a_growing_time() -> None:
    ledger = Ledger(RULES)
    for failure, closed_s in enumerate([600.0, 1200.0, 2400.0], 1):
        ledger.moved(move(kind=MoveKind.RESTART), 5000.0)
        assert ledger.stream("pi1").closed == {"a": (5000.0 + closed_s, failure)}
    for _ in range(80):
        ledger.moved(move(kind=MoveKind.RESTART), 5000.0)
    assert ledger.stream("pi1").closed["a"][0] == 5000.0 + RULES.closed_cap_s
    assert ledger.stream("pi1").moves == 0


def test_a_stream_that_left_the_farm_leaves_no_change_open() -> None:
    ledger = Ledger(RULES)
    ledger.moved(move(), 1000.0)
    ledger.forget(["pi1"])
    ledger.window(1030.0, alone({"a": 10.0, "b": 10.0}))
    assert ledger.node("a").clean
    assert ledger.stream("pi1") == StreamHistory()


def test_a_stream_that_is_deleted_before_its_move_was_read_teaches_nothing_and_stops_nothing() -> None:
    ledger = Ledger(RULES)
    ledger.window(970.0, alone({"a": 60.0, "b": 10.0}))
    ledger.moved(move(), 1000.0)
    ledger.change_ends("pi1", 1020.0)
    ledger.forget(["pi1"])
    ledger.window(1030.0, alone({"a": 40.0, "b": 30.0}))
    assert ledger.stream("pi1") == StreamHistory()


POINTS = st.floats(0.001, 100).map(lambda value: round(value, 3))
HISTORIES = st.builds(
    StreamHistory,
    loads=st.dictionaries(
        st.text(max_size=5),
        st.fixed_dictionaries({"": POINTS}, optional={"gpu": st.one_of(st.just(0.0), POINTS), "cpu": POINTS})
        | st.fixed_dictionaries({"gpu": POINTS}),
    ),
    moves=st.integers(0, 1000),
    last_move_s=st.one_of(st.just(-math.inf), st.integers(0, 2**40).map(float)),
    origin=st.text(max_size=5),
    tried=st.booleans(),
    closed=st.dictionaries(st.text(max_size=5), st.tuples(st.integers(0, 2**40).map(float), st.integers(1, 9))),
)


@given(HISTORIES)
def test_a_history_survives_its_annotation(history) -> None:
    assert history_from_json(json.loads(json.dumps(history_to_json(history)))) == history


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(["loads", "signals", "moves", "last_move_s", "origin", "tried", "closed"]), inner
            ),
        ),
        max_leaves=10,
    )
)
def test_an_annotation_that_somebody_edited_is_no_history_and_no_crash(value) -> None:
    history = history_from_json(value)
    assert history.moves >= 0
    assert history_to_json(history)


def test_what_is_remembered_wins_over_an_older_annotation() -> None:
    ledger = Ledger(RULES)
    ledger.restore("pi1", StreamHistory(moves=1, last_move_s=100.0))
    assert ledger.stream("pi1").moves == 1
    ledger.moved(move(), 500.0)
    ledger.restore("pi1", StreamHistory(moves=1, last_move_s=100.0))
    assert ledger.stream("pi1").moves == 2


# -- several signals ---------------------------------------------------------------------------------------------


def both(gpu: float, cpu: float) -> dict[str, float]:
    return {"gpu": gpu, "cpu": cpu}


def test_a_load_is_learned_in_each_signal_and_is_nothing_in_one_that_has_not_fallen() -> None:
    before, after = {"a": both(20, 60), "b": both(5, 10)}, {"a": both(20.4, 45), "b": both(5, 26)}
    ledger = ledger_after(before, after)
    assert ledger.stream("pi1").loads == {"": both(0, 15)}
    assert ledger.stream("pi1").work == both(0, 15)


@pytest.mark.parametrize(
    ("before", "after", "learned"),
    [
        pytest.param((both(97, 60), both(0, 10)), (both(80, 45), both(17, 25)), {"cpu": 15.0}, id="r11: clipped"),
        pytest.param((both(40, 60), both(0, 10)), (both(30, 45), both(30, 25)), {"cpu": 15.0}, id="disagrees"),
        pytest.param((both(40, 60), both(0, 10)), (both(60, 45), both(0, 25)), {"cpu": 15.0}, id="rose by far"),
        pytest.param((both(40, 60), both(0, 10)), (both(41, 61), both(0, 10)), {}, id="nothing fell"),
        pytest.param((both(40, 60), {"cpu": 10.0}), (both(30, 45), {"cpu": 25.0}), both(10, 15), id="no gpu there"),
        pytest.param(({"cpu": 60.0}, both(0, 10)), ({"cpu": 45.0}, both(12, 25)), both(12, 15), id="no gpu here"),
        pytest.param(({"cpu": 60.0}, both(0, 10)), ({"cpu": 45.0}, both(0, 25)), {"cpu": 15.0}, id="unseen, not 0"),
    ],
)
def test_each_signal_teaches_by_itself(before, after, learned) -> None:
    ledger = ledger_after({"a": before[0], "b": before[1]}, {"a": after[0], "b": after[1]})
    assert ledger.stream("pi1").work == learned


def test_a_stream_whose_load_is_unknown_in_a_signal_of_its_node_may_be_moved_on_a_guess_again() -> None:
    ledger = Ledger(RULES)
    ledger.window(0.0, alone({"a": both(97, 60), "b": both(0, 10)}))
    ledger.moved(move(), 30.0)
    assert ledger.stream("pi1").tried
    ledger.change_ends("pi1", 40.0)
    ledger.window(60.0, alone({"a": both(80, 45), "b": both(17, 25)}))
    assert not ledger.stream("pi1").tried


def test_r8_the_classes_have_a_speed_in_each_signal() -> None:
    before, after = {"a": both(40, 60), "b": both(0, 0)}, {"a": both(30, 50), "b": both(40, 20)}
    ledger = ledger_after(before, after, classes={"a": "agx", "b": "nano"})
    assert ledger.speed("a", "gpu") == 4 * ledger.speed("b", "gpu")
    assert ledger.speed("a", "cpu") == 2 * ledger.speed("b", "cpu")
    assert ledger.speed("a") == ledger.speed("b") == 1.0


def test_a_signal_that_is_overloaded_by_somebody_else_is_found_out_although_the_other_one_falls() -> None:
    ledger = Ledger(RULES)
    relief = move(relief=both(5, 20))
    for number in range(2):
        made = dataclasses.replace(relief, stream=f"pi{number}")
        before, after = {"a": both(40, 90), "b": both(0, 10)}, {"a": both(35, 90), "b": both(5, 10)}
        ledger_after(before, after, made, ledger=ledger, at_s=100.0 * number)
    assert ledger.node("a").useless_moves == 2


def test_the_annotation_of_a_farm_with_one_signal_is_what_it_always_was() -> None:
    text = history_to_json(StreamHistory(loads={"agx": {"": 10.0}}, moves=1, last_move_s=5.0, origin="a"))
    assert text == {
        "loads": {"agx": 10.0},
        "moves": 1,
        "last_move_s": 5.0,
        "origin": "a",
        "tried": False,
        "closed": {},
    }


def test_an_annotation_with_several_signals_has_all_that_an_older_balancer_reads() -> None:
    text = history_to_json(StreamHistory(loads={"agx": both(0, 12), "old": {"": 7.0}}, moves=1, last_move_s=5.0))
    older = {name: value for name, value in text.items() if name != "signals"}
    assert older["loads"] == {"old": 7.0}
    assert history_from_json(older) == StreamHistory(loads={"old": {"": 7.0}}, moves=1, last_move_s=5.0)


@pytest.mark.parametrize(
    "signals", [5, {"agx": 5}, {"agx": {"gpu": -1}}, {"agx": {"gpu": "x"}}, {"agx": {"gpu": 101}}]
)
def test_loads_of_signals_that_make_no_sense_are_no_history(signals: object) -> None:
    text = {**history_to_json(StreamHistory(moves=3, last_move_s=5.0)), "signals": signals}
    assert history_from_json(text) == StreamHistory()
