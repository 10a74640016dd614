"""Whose turn it is in an upgrade; the rest of it: tests/cluster/life_of_a_farm/test_upgrade_of_many.py."""

from __future__ import annotations

import pytest

from posture.lifecycle.rollout import StreamState, overview
from posture.lifecycle.upgrade import due
from posture.settings.table import Kubernetes


@pytest.mark.parametrize(
    ("left", "away", "down", "most_away", "expected"),
    [
        pytest.param("abcd", "", "", 2, "ab", id="as many as may be away"),
        pytest.param("abcd", "x", "", 2, "a", id="another stream is away already"),
        pytest.param("abcd", "xy", "", 2, "", id="as many are away as may be"),
        pytest.param("abcd", "xyz", "", 2, "", id="more are away than may be"),
        pytest.param("abcd", "xy", "cd", 2, "cd", id="those that were away before lose nothing"),
        pytest.param("abcd", "", "c", 1, "ca", id="and take no place"),
        pytest.param("", "", "", 2, "", id="none is left"),
    ],
)
def test_no_more_streams_are_begun_than_may_be_away(
    left: str, away: str, down: str, most_away: int, expected: str
) -> None:
    assert due(list(left), set(away), set(down), most_away) == list(expected)


@pytest.mark.parametrize(
    ("given", "streams", "most"),
    [("10%", 200, 20), ("10%", 19, 1), ("10%", 1, 1), ("100%", 7, 7), ("3", 200, 3), ("1%", 250, 2)],
)
def test_a_share_is_rounded_down_and_one_may_always_be_away(given: str, streams: int, most: int) -> None:
    assert Kubernetes(max_unavailable=given).most_away(streams) == most


def test_of_many_streams_a_person_reads_how_many_are_how_far_and_what_is_wrong() -> None:
    running = [StreamState(f"hall-{number}", "agx", True, True, True, "Ready on agx") for number in range(1, 181)]
    pending = [
        StreamState(f"hall-{number}", "agx", True, words="waiting for KEDA's Job") for number in range(181, 200)
    ]
    stuck = StreamState(
        "hall-200", "nano", True, True, words="ErrImagePull: pod p is Pending on nano", troubled=True
    )
    assert overview([*running, *pending, stuck]) == [
        "180 of 200 streams run; 19 waiting for KEDA's Job, 1 ErrImagePull",
        "  hall-200 on nano: ErrImagePull: pod p is Pending on nano",
    ]


def test_of_few_streams_each_has_its_row() -> None:
    assert len(overview([StreamState(f"pi{number}", "agx") for number in range(1, 13)])) == 13
