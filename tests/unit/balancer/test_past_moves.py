"""The last moves of a stream with their reasons, in an annotation."""

from __future__ import annotations

import json

import pytest
from farm_objects import NOW_S

from posture.balancer import past_moves
from posture.balancer.open_move import OpenMove
from posture.planning.model import Move, MoveKind


def move(number: int) -> OpenMove:
    why = f"agx comes from {number} to 40"
    planned = Move(MoveKind.OFFLOAD, "pi1", "agx", "nano", {"": 20.0}, {"": 20.0}, 80.0, 5.0, why)
    return OpenMove(str(number), planned, NOW_S + number)


def test_a_move_is_kept_with_time_reason_destination_and_end() -> None:
    text = past_moves.with_ended(past_moves.with_begun("", move(0)), NOW_S + 20)
    assert json.loads(text) == [
        {
            "at": "2023-11-14T22:13:20Z",
            "kind": "offload",
            "from": "agx",
            "to": "nano",
            "why": "agx comes from 0 to 40",
            "ready_at": "2023-11-14T22:13:40Z",
        }
    ]


def test_only_the_last_moves_are_kept() -> None:
    text = ""
    for number in range(past_moves.KEPT + 5):
        text = past_moves.with_ended(past_moves.with_begun(text, move(number)), NOW_S)
    whys = [entry["why"] for entry in json.loads(text)]
    assert whys == [f"agx comes from {number} to 40" for number in range(5, past_moves.KEPT + 5)]
    assert len(text) < 4096


@pytest.mark.parametrize("text", ["", "{}", "[1]", "no JSON", "[" * 100_000, "null"])
def test_a_text_that_is_no_list_of_moves_begins_anew(text: str) -> None:
    assert len(json.loads(past_moves.with_begun(text, move(1)))) == 1
    assert json.loads(past_moves.with_ended(text, NOW_S)) == []
