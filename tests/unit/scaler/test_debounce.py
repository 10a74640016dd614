"""The debounce, for every sequence of readings, outages and steps of the clock."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from posture.scaler.debounce import Debounce

THRESHOLD = 50.0
# whole seconds and points: no sum is rounded
NODES = st.sampled_from(["agx1", "agx2", "nano1"])
WITH_ROOM = st.integers(0, 50)
OVERLOADED = st.integers(51, 100)
FULL = st.dictionaries(NODES, OVERLOADED, min_size=1)


class Sequences(RuleBasedStateMachine):
    """What an observer with a true clock sees of a scaler whose own clock may be set back."""

    @initialize(window=st.integers(1, 300), trusted=st.integers(1, 60))
    def start(self, window: int, trusted: int) -> None:
        self.window, self.trusted = window, trusted
        self.debounce = Debounce(THRESHOLD, window, trusted)
        self.true_time = 0
        self.set_back = 0
        self.room_at: int | None = None
        self.turned_off_at: list[int] = []
        self.any_data = False
        self.full_since: int | None = None  # unbroken, on valid data that came in time
        # the same readings with the outages cut out
        self.twin = Debounce(THRESHOLD, window, trusted)
        self.twin_time = 0
        self.in_outage = False

    def observe(self, usage: dict[str, int], after: int) -> None:
        self.true_time += after
        was_active = self.debounce.active
        changed = self.debounce.observe(usage, self.true_time - self.set_back)
        assert changed == (self.debounce.active != was_active)
        if was_active and changed:
            self.turned_off_at.append(self.true_time)

    def observe_valid(self, usage: dict[str, int], after: int) -> None:
        self.any_data = True
        self.observe(usage, after)
        self.twin_time += 0 if self.in_outage else max(0, after - self.just_set_back)
        self.twin.observe(usage, self.twin_time)
        self.in_outage = False
        self.just_set_back = 0

    just_set_back = 0

    @rule(usage=st.dictionaries(NODES, OVERLOADED), node=NODES, points=WITH_ROOM, after=st.integers(0, 200))
    def room(self, usage: dict[str, int], node: str, points: int, after: int) -> None:
        self.observe_valid({**usage, node: points}, after)
        self.room_at, self.full_since = self.true_time, None
        assert self.debounce.active

    @rule(usage=FULL, after=st.integers(0, 200))
    def full(self, usage: dict[str, int], after: int) -> None:
        in_time = after <= self.trusted and not self.just_set_back and not self.in_outage
        self.observe_valid(usage, after)
        if self.full_since is None or not in_time:
            self.full_since = self.true_time

    @rule(usage=FULL, times=st.integers(1, 60))
    def full_for_long(self, usage: dict[str, int], times: int) -> None:
        for _ in range(times):
            self.full(usage, min(5, self.trusted))

    @rule(after=st.integers(0, 1000))
    def outage(self, after: int) -> None:
        before = self.debounce.active, self.debounce.value
        self.observe({}, after)
        self.in_outage, self.full_since = True, None
        assert (self.debounce.active, self.debounce.value) == before

    @rule(seconds=st.integers(1, 500))
    def clock_is_set_back(self, seconds: int) -> None:
        self.set_back += seconds
        self.just_set_back += seconds

    @invariant()
    def two_turns_to_inactive_are_at_least_one_window_apart(self) -> None:
        for earlier, later in itertools.pairwise(self.turned_off_at):
            assert later - earlier >= self.window

    @invariant()
    def active_while_room_was_seen_within_the_window(self) -> None:
        if self.room_at is not None and self.true_time - self.room_at <= self.window:
            assert self.debounce.active

    @invariant()
    def inactive_once_every_node_was_overloaded_for_longer_than_the_window(self) -> None:
        if self.full_since is not None and self.true_time - self.full_since > self.window:
            assert not self.debounce.active

    @precondition(lambda self: not self.any_data)
    @invariant()
    def no_data_yet_means_active(self) -> None:
        assert self.debounce.active

    @invariant()
    def the_value_is_at_least_1_while_active(self) -> None:
        assert self.debounce.value >= (1 if self.debounce.active else 0)

    @invariant()
    def an_outage_stops_the_clock(self) -> None:
        assert (self.debounce.active, self.debounce.full_s) == (self.twin.active, self.twin.full_s)


TestSequences = Sequences.TestCase


def turns(usage: list[dict[str, float]], every_s: float = 5.0) -> list[bool]:
    debounce = Debounce(THRESHOLD, 120.0, 15.0)
    answers = []
    for number, reading in enumerate(usage):
        debounce.observe(reading, number * every_s)
        answers.append(debounce.active)
    return answers


def test_a_farm_that_is_full_from_the_start_is_active_for_one_window_then_inactive() -> None:
    answers = turns([{"agx1": 90.0}] * 40)
    assert answers == [True] * 25 + [False] * 15  # 120 s: 24 intervals and the reading that they start with


def test_room_turns_it_on_at_once() -> None:
    assert turns([{"agx1": 90.0}] * 30 + [{"agx1": 49.0}])[-2:] == [False, True]


@pytest.mark.parametrize("outage", [1, 5, 1000], ids=lambda count: f"{count}-readings")
def test_prometheus_gone_for_longer_than_the_window_changes_nothing(outage: int) -> None:
    assert turns([{"agx1": 10.0}] + [{}] * outage + [{"agx1": 90.0}] * 25) == [True] * (outage + 26)
    assert turns([{"agx1": 90.0}] * 30 + [{}] * outage)[-outage:] == [False] * outage


def test_a_node_without_data_offers_no_room_and_hides_none() -> None:
    assert turns([{"agx1": 90.0}, {"agx1": 90.0, "nano1": 10.0}, *[{"agx1": 90.0}] * 30])[-1] is False
    assert turns([{"agx1": 90.0}] * 20 + [{"nano1": 10.0}] + [{"agx1": 90.0}] * 20)[-1] is True


def test_a_node_at_the_threshold_is_not_overloaded() -> None:
    assert turns([{"agx1": 50.0}] * 40) == [True] * 40


def test_two_readings_far_apart_are_no_proof_of_the_time_between() -> None:
    debounce = Debounce(THRESHOLD, 120.0, 15.0)
    debounce.observe({"agx1": 90.0}, 0.0)
    debounce.observe({"agx1": 90.0}, 3600.0)
    assert debounce.active
    assert debounce.full_s == 15.0


def test_the_value_is_the_free_points_of_all_valid_nodes() -> None:
    debounce = Debounce(THRESHOLD, 120.0, 15.0)
    debounce.observe({"agx1": 30.0, "agx2": 90.0, "nano1": 100.0}, 0.0)
    assert debounce.value == 80.0
    debounce.observe({"agx1": 100.0}, 5.0)
    assert debounce.value == 1.0
