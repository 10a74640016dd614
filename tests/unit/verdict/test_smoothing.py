"""The smoothed state: what a dashboard shows, and when an alert comes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise

import numpy as np
import pytest

from posture.verdict.rule_sets import Baseline, Verdict, loads
from posture.verdict.smoothing import OneEuro, StateChange, StateTracker

START = 1_790_000_000.0  # seconds since 1970
FPS = 10.0


def seen(neck: float, body: float = 0.0, rule_set: str = "upright") -> Verdict:
    used = loads(rule_set, {"neck": neck, "body": body}, Baseline(0, 0)) or {}
    over = [name for name, load in used.items() if load >= 1]
    return Verdict("Bad" if over else "Good", "+".join(over), neck, body, "left", rule_set)


def unseen(reason: str = "no_person") -> Verdict:
    return Verdict("Unknown", reason, None, None, "", "upright")


GOOD, BAD = seen(10), seen(50)


class Film:
    """Feeds a tracker frame by frame at FPS and keeps what it says."""

    def __init__(self, tracker: StateTracker) -> None:
        self.tracker = tracker
        self.at = START
        self.clock_id = "boot1"
        self.live = True
        self.states: list[tuple[float, dict[str, object]]] = []
        self.alerts: list[float] = []

    def frame(self, verdict: Verdict) -> StateChange:
        change = self.tracker.update(verdict, self.at, self.clock_id, self.live)
        if change.state is not None:
            self.states.append((self.at - START, change.state))
        if change.alert is not None:
            self.alerts.append(self.at - START)
        return change

    def play(self, verdict: Verdict, seconds: float) -> Film:
        for _ in range(round(seconds * FPS)):
            self.at += 1 / FPS
            self.frame(verdict)
        return self

    @property
    def state(self) -> dict[str, object]:
        return self.states[-1][1]

    def turns(self) -> list[tuple[int, str]]:
        """(second, state) of every change of state."""
        changes: list[tuple[int, str]] = []
        for at, state in self.states:
            if not changes or changes[-1][1] != state["state"]:
                changes.append((round(at), str(state["state"])))
        return changes


@pytest.fixture
def film() -> Film:
    return Film(StateTracker())


def test_good_becomes_bad_after_3_seconds_over_the_limit_and_good_again_after_2_under(film: Film) -> None:
    film.play(GOOD, 10).play(BAD, 10).play(GOOD, 10)
    assert [state for _, state in film.turns()] == ["Unknown", "Good", "Bad", "Good"]
    bad_at, good_at = film.turns()[2][0], film.turns()[3][0]
    assert 13 <= bad_at <= 14  # the filter follows within a second
    assert 22 <= good_at <= 23


def test_a_glance_down_is_no_event(film: Film) -> None:
    film.play(GOOD, 10).play(BAD, 2.5).play(GOOD, 10)
    assert [state for _, state in film.turns()] == ["Unknown", "Good"]


def test_a_moment_upright_does_not_end_bad(film: Film) -> None:
    film.play(BAD, 10).play(GOOD, 1.5).play(BAD, 10)
    assert [state for _, state in film.turns()] == ["Unknown", "Bad"]


def test_bad_holds_between_release_and_limit_and_ends_under_0_85_of_it(film: Film) -> None:
    film.play(BAD, 10).play(seen(0.9 * 35), 20)
    assert film.state["state"] == "Bad"
    assert film.state["reason"] == "neck"
    film.play(seen(0.8 * 35), 10)
    assert film.state["state"] == "Good"


def test_a_jittery_series_of_333_frames_flips_far_less_than_its_single_frames() -> None:
    rng = np.random.default_rng(1)
    slow = 33 + 6 * np.sin(np.arange(333) / 60)
    necks = slow + rng.normal(0, 4, 333)
    frames = [seen(float(neck)) for neck in necks]
    film = Film(StateTracker())
    for verdict in frames:
        film.play(verdict, 1 / FPS)
    assert flips(verdict.status for verdict in frames) >= 38
    assert flips(str(state["state"]) for _, state in film.states) <= 4


def flips(states: Iterable[str]) -> int:
    series = list(states)
    return sum(before != after for before, after in pairwise(series))


def test_the_filter_holds_still_at_rest_and_follows_a_movement_within_a_second() -> None:
    smooth = OneEuro()
    noise = np.random.default_rng(2).normal(20, 4, 200)
    at_rest = [smooth.update(float(angle), 1 / FPS) for angle in noise]
    assert np.std(at_rest[20:]) < 2
    moved = [smooth.update(60.0, 1 / FPS) for _ in range(10)]
    assert moved[-1] > 20 + 0.8 * 40


def test_an_alert_comes_after_bad_for_seconds_of_bad_and_once_per_cooldown() -> None:
    film = Film(StateTracker(bad_for=60, cooldown=300)).play(BAD, 600)
    assert len(film.alerts) == 2
    assert 63 <= film.alerts[0] <= 64
    assert film.alerts[1] - film.alerts[0] == pytest.approx(300, abs=0.2)


def test_bad_that_ends_before_bad_for_raises_no_alert() -> None:
    film = Film(StateTracker(bad_for=60, cooldown=300))
    for _ in range(5):
        film.play(BAD, 50).play(GOOD, 10)
    assert film.alerts == []


def test_the_alert_says_what_is_wrong_and_for_how_long() -> None:
    film = Film(StateTracker(bad_for=5, cooldown=300)).play(GOOD, 5).play(seen(50, 30), 8)
    film.at += 0.1
    alert = film.frame(seen(50, 30)).alert
    while alert is None:
        film.at += 0.1
        alert = film.frame(seen(50, 30)).alert
    assert alert["state"] == "Bad"
    assert alert["reason"] == "neck+body"
    assert alert["bad_for"] == pytest.approx(5, abs=0.2)
    json.dumps(alert)


def test_frames_from_a_backlog_move_the_state_and_raise_no_alert() -> None:
    film = Film(StateTracker(bad_for=5, cooldown=300))
    film.live = False
    film.play(BAD, 60)
    assert film.state["state"] == "Bad"
    assert film.alerts == []
    film.live = True
    film.play(BAD, 1)
    assert len(film.alerts) == 1


def test_away_for_more_than_15_seconds_is_no_person_with_away(film: Film) -> None:
    film.play(GOOD, 10).play(unseen(), 14)
    assert (film.state["state"], film.state["away"]) == ("Good", False)
    film.play(unseen(), 3)
    assert (film.state["state"], film.state["away"]) == ("Unknown", True)
    assert film.state["reason"] == "no_person"
    assert film.state["neck"] is None
    film.play(GOOD, 5)
    assert (film.state["state"], film.state["away"]) == ("Good", False)


def test_how_long_somebody_may_be_away_is_a_setting() -> None:
    film = Film(StateTracker(away_after=60)).play(GOOD, 10).play(unseen(), 50)
    assert film.state["state"] == "Good"


def test_somebody_who_cannot_be_measured_is_unknown_and_not_away(film: Film) -> None:
    film.play(BAD, 10).play(unseen("not_side_view"), 20)
    assert film.state["state"] == "Unknown"
    assert film.state["reason"] == "not_side_view"
    assert film.state["away"] is False


def test_a_broken_frame_does_not_bring_anybody_back(film: Film) -> None:
    film.play(GOOD, 5).play(unseen(), 20).play(unseen("undecodable"), 1)
    assert film.state["away"] is True


def test_time_in_which_nothing_was_seen_makes_nobody_bad(film: Film) -> None:
    film.play(GOOD, 10).play(BAD, 1.5).play(unseen("partial_landmarks"), 10).play(BAD, 0.1)
    assert film.state["state"] == "Good"


def test_looks_with_nothing_seen_between_them_make_nobody_bad(film: Film) -> None:
    film.play(GOOD, 10)
    for verdict in (BAD, unseen(), BAD, unseen(), BAD):
        film.at += 4
        film.frame(verdict)
    assert [state for _, state in film.turns()] == ["Unknown", "Good"]


def test_a_long_silence_of_the_camera_makes_one_frame_no_verdict(film: Film) -> None:
    film.play(GOOD, 10)
    film.at += 3600
    film.frame(BAD)
    assert film.state["state"] == "Good"


def test_a_camera_with_a_frame_every_5_seconds_still_gets_a_state() -> None:
    tracker = StateTracker(bad_for=60)
    changes = [tracker.update(BAD, START + 5 * index) for index in range(30)]
    states = [change.state["state"] for change in changes if change.state]
    assert states[:2] == ["Unknown", "Bad"]
    assert sum(change.alert is not None for change in changes) == 1


@pytest.mark.parametrize("jump", [-1e9, 1e8], ids=["back to 1994", "on by three years"])
def test_a_new_boot_of_the_camera_invents_no_change(film: Film, jump: float) -> None:
    film.play(GOOD, 10).play(BAD, 2)
    told = len(film.turns())
    film.at, film.clock_id = film.at + jump, "boot2"
    film.frame(BAD)
    film.play(GOOD, 3)
    assert len(film.turns()) == told
    film.play(BAD, 5)
    assert film.state["state"] == "Bad"


def test_a_clock_that_is_set_back_within_one_boot_stops_nothing(film: Film) -> None:
    film.play(GOOD, 10).play(BAD, 1)
    film.at -= 3600
    film.play(BAD, 5)
    assert film.state["state"] == "Bad"


def test_redelivered_frames_invent_no_change(film: Film) -> None:
    film.play(GOOD, 20)
    film.at -= 15
    film.live = False
    film.play(GOOD, 15)
    assert [state for _, state in film.turns()] == ["Unknown", "Good"]
    assert film.alerts == []


def test_the_state_is_told_when_it_changes_and_every_few_seconds(film: Film) -> None:
    film.play(GOOD, 60)
    assert 10 <= len(film.states) <= 15


def test_the_state_is_json_with_the_documented_keys(film: Film) -> None:
    film.play(seen(12.345, -3.21), 10)
    state = json.loads(json.dumps(film.state))
    measures = {"neck", "body", "head_drop", "sitting_drop"}
    assert set(state) == measures | {"state", "since", "away", "reason", "advice", "rule_set", "updated"}
    assert (state["state"], state["neck"], state["body"], state["reason"]) == ("Good", 12.3, -3.2, "")
    assert state["rule_set"] == "upright"
    since, updated = (datetime.fromisoformat(state[key]) for key in ("since", "updated"))
    assert since.utcoffset() is not None
    assert (since.timestamp() - START, updated.timestamp() - START) == pytest.approx((2.1, 10), abs=5)


@pytest.mark.parametrize(
    ("rule_set", "good", "bad"),
    [
        ("upright", (30, 5), (40, 5)),
        ("tutorial", (38, 5), (38, 12)),
        ("first-deployment", (15, 5), (5, 5)),
        ("baseline", (10, -10), (-14, 0)),
    ],
    ids=str,
)
def test_every_rule_set_has_its_own_limits(
    rule_set: str, good: tuple[float, float], bad: tuple[float, float]
) -> None:
    film = Film(StateTracker(rule_set, Baseline(0, 0)))
    film.play(seen(*good, rule_set), 10)
    assert film.state["state"] == "Good"
    film.play(seen(*bad, rule_set), 10)
    assert film.state["state"] == "Bad"


def test_iso11226_follows_the_verdict_which_knows_the_holding_time() -> None:
    film = Film(StateTracker("iso11226"))
    film.play(Verdict("Good", "", 20.0, 45.0, "left", "iso11226"), 60)
    assert film.state["state"] == "Good"
    film.play(Verdict("Bad", "body", 20.0, 45.0, "left", "iso11226"), 10)
    assert (film.state["state"], film.state["reason"]) == ("Bad", "body")


def from_front(drop: float) -> Verdict:
    over = drop >= 0.07
    return Verdict(
        "Bad" if over else "Good", "head_height" if over else "", None, None, "", "head-height", head_drop=drop
    )


def test_a_head_that_sinks_makes_the_state_bad_and_is_told_with_its_drop() -> None:
    film = Film(StateTracker("auto", Baseline(head_height=0.6))).play(from_front(0.0), 5)
    assert film.state["state"] == "Good"
    film.play(from_front(0.12), 10)
    assert (film.state["state"], film.state["reason"]) == ("Bad", "head_height")
    assert film.state["head_drop"] == pytest.approx(0.12, abs=0.005)
    assert (film.state["neck"], film.state["rule_set"]) == (None, "head-height")


def test_a_person_who_turns_is_judged_on_by_the_other_view() -> None:
    film = Film(StateTracker("auto", Baseline(head_height=0.6))).play(from_front(0.0), 5).play(seen(50), 10)
    assert (film.state["state"], film.state["reason"], film.state["head_drop"]) == ("Bad", "neck", None)
    film.play(from_front(0.0), 10)
    assert (film.state["state"], film.state["neck"]) == ("Good", None)


def test_the_state_says_what_the_user_can_do_where_there_is_no_verdict() -> None:
    film = Film(StateTracker()).play(unseen("not_calibrated"), 6)
    assert film.state["reason"] == "not_calibrated"
    assert film.state["advice"] == "calibrate this stream: --calibrate"


def test_limits_and_times_of_a_stream_stand_in_place_of_the_usual_ones() -> None:
    usual = Film(StateTracker("upright")).play(seen(10), 5).play(seen(32), 8)
    own = Film(StateTracker("upright", limits={"neck": 30}, bad_after=6)).play(seen(10), 5).play(seen(32), 5)
    assert (usual.state["state"], own.state["state"]) == ("Good", "Good")
    own.play(seen(32), 3)
    assert own.state["state"] == "Bad"
    assert Film(StateTracker(good_after=0)).play(seen(10), 0.1).state["state"] == "Good"


@pytest.mark.parametrize(
    ("before", "settled"),
    [
        ([], False),
        ([(GOOD, 1)], False),
        ([(GOOD, 10)], True),
        ([(GOOD, 10), (BAD, 1)], False),
        ([(GOOD, 10), (BAD, 10)], True),
        ([(GOOD, 10), (BAD, 10), (GOOD, 0.1)], False),
        ([(GOOD, 10), (BAD, 10), (GOOD, 1)], False),
        ([(GOOD, 10), (unseen(), 0.1)], False),
        ([(unseen(), 30)], False),
        ([(seen(0.9 * 35), 10)], False),
        ([(BAD, 10), (seen(1.1 * 35), 5)], False),
        ([(seen(50, body=19), 10)], False),
        ([(seen(10, 10, "iso11226"), 10)], False),
    ],
    ids=[
        "nothing seen", "settling", "Good", "on the way to Bad", "Bad", "one frame under", "on the way to Good",
        "lost from sight", "nobody", "near the limit, Good", "near the limit, Bad", "another reason is near",
        "a limit of time",
    ],
)  # fmt: skip
def test_a_state_is_settled_where_frames_like_the_last_one_leave_it_as_it_is(
    film: Film, before: list[tuple[Verdict, float]], settled: bool
) -> None:
    for verdict, seconds in before:
        film.play(verdict, seconds)
    assert film.tracker.settled is settled
