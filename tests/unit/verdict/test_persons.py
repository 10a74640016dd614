"""Whom a stream measures among several people."""

from __future__ import annotations

import numpy as np
import pytest

from posture.verdict.persons import RIVAL_SIZE, WAIT_S, Following, Person
from posture.verdict.rule_sets import Judge, Landmarks


def somebody(x_m: float, size: float = 200.0, visibility: float = 0.95) -> Person:
    """A person of so many pixels a metre, so many metres of a person of size 200 from the left edge."""
    points = np.zeros((33, 3))
    points[:, :2] = (200.0 * x_m, 400.0)
    points[11:, 1] += np.linspace(0, size, 22)
    points[:, 2] = visibility
    return Person(Landmarks(points, 1280, 720), size)


def measured(following: Following, people: list[Person], at: float) -> Person | None:
    """Who gets a verdict."""
    chosen = following.choose(people, at)
    return None if following.contested else chosen


@pytest.mark.parametrize("order", [1, -1])
def test_the_largest_is_measured(order: int) -> None:
    near, far = somebody(2), somebody(4, 200 * RIVAL_SIZE - 10)
    assert measured(Following(), [near, far][::order], 0) is near


@pytest.mark.parametrize("share", [RIVAL_SIZE, 0.8, 1.0])
def test_nobody_is_where_another_one_is_nearly_as_large(share: float) -> None:
    following = Following()
    assert measured(following, [somebody(2), somebody(4, 200 * share)], 0) is None
    assert measured(following, [somebody(2), somebody(4, 200 * share)], 2) is None
    left = somebody(2)
    assert measured(following, [left], 4) is left


def test_somebody_who_is_only_guessed_is_no_rival() -> None:
    near, guessed = somebody(2), somebody(4, 190, visibility=0.2)
    assert measured(Following(), [near, guessed], 0) is near


def test_who_was_measured_alone_still_is_when_others_join() -> None:
    following = Following()
    following.choose([somebody(2)], 0)
    him = somebody(2.1, 195)
    assert measured(following, [somebody(4, 210), him], 2) is him


def test_who_comes_much_nearer_to_the_camera_is_measured_after_a_frame_without_a_verdict() -> None:
    following = Following()
    following.choose([somebody(2, 100)], 0)
    near = somebody(4, 300)
    assert measured(following, [somebody(2, 100), near], 2) is None
    assert measured(following, [somebody(2, 100), near], 4) is near


def test_a_bystander_who_is_left_alone_is_not_taken_for_the_one_who_was_measured() -> None:
    following = Following()
    him, bystander = somebody(2), somebody(3, 110)
    assert measured(following, [him, bystander], 0) is him
    assert measured(following, [bystander], 1) is None
    assert measured(following, [him, bystander], 2) is him


def test_a_bystander_of_the_same_size_near_by_is_not_taken_for_the_one_who_has_left() -> None:
    following = Following()
    him, bystander = somebody(2), somebody(3)
    assert measured(following, [him], 0) is him
    assert measured(following, [him, bystander], 2) is him
    assert measured(following, [bystander], 3) is None


def test_a_bystander_is_measured_when_the_other_one_has_been_away_for_long_enough() -> None:
    following = Following()
    bystander = somebody(4, 110)
    following.choose([somebody(2), bystander], 0)
    assert measured(following, [bystander], WAIT_S - 1) is None
    assert measured(following, [bystander], WAIT_S + 1) is bystander


def test_two_who_may_both_be_the_one_who_was_measured_are_not_told_apart() -> None:
    following = Following()
    following.choose([somebody(3)], 0)
    assert measured(following, [somebody(2.5), somebody(3.6)], 2) is None


def test_whoever_comes_after_nobody_was_there_is_measured_at_once() -> None:
    following = Following()
    following.choose([somebody(1)], 0)
    assert following.choose([], 0.1) is None
    newcomer = somebody(6, 120)
    assert measured(following, [newcomer], 0.2) is newcomer


def test_a_lone_person_in_another_place_is_somebody_else_and_one_frame_says_so() -> None:
    following = Following()
    following.choose([somebody(1)], 0)
    elsewhere = somebody(5)
    assert not following.goes_on_as(elsewhere, 0.1)
    assert measured(following, [elsewhere], 0.1) is None
    assert following.goes_on_as(elsewhere, 0.2)
    assert not following.contested


@pytest.mark.parametrize(("x_m", "size"), [(3.5, 200), (2, 330), (2, 120)], ids=["elsewhere", "larger", "smaller"])
def test_the_tracker_is_not_believed_when_it_leaps_to_another_person(x_m: float, size: float) -> None:
    following = Following()
    following.choose([somebody(2)], 0)
    assert following.goes_on_as(somebody(2.1, 205), 0.1)
    assert not following.goes_on_as(somebody(x_m, size), 0.2)


def test_a_person_who_walks_is_followed() -> None:
    following = Following()
    following.choose([somebody(1)], 0)
    assert all(following.goes_on_as(somebody(1 + 0.15 * step), 0.1 * step) for step in range(1, 30))


def test_a_contested_frame_has_no_verdict_and_its_reason() -> None:
    points = somebody(2).landmarks.points
    verdict = Judge().judge(Landmarks(points, 1280, 720, contested=True), 0.0)
    assert (verdict.status, verdict.reason, verdict.side) == ("Unknown", "several_people", "")
