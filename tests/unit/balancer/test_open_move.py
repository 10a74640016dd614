"""An open move survives its annotation; whatever else stands there is none."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from farm_objects import NOW_S

from posture.balancer.open_move import OpenMove
from posture.planning.model import Move, MoveKind

MOVE = Move(MoveKind.OFFLOAD, "pi1", "agx", "nano", {"": 20.0}, {"": 45.0}, 80.0, 5.0, "agx is over the threshold")


def test_an_open_move_survives_its_annotation() -> None:
    opened = OpenMove("abc", MOVE, NOW_S)
    assert OpenMove.from_text(opened.to_text()) == opened
    assert json.loads(opened.to_text())["source"] == "agx"


def test_of_several_signals_an_annotation_has_the_largest_figures_as_older_balancers_read_them() -> None:
    move = dataclasses.replace(MOVE, relief={"gpu": 2.0, "cpu": 20.0}, cost={"gpu": 8.0, "cpu": 5.0})
    text = OpenMove("abc", move, NOW_S).to_text()
    assert (json.loads(text)["relief"], json.loads(text)["cost"]) == (20.0, 8.0)
    opened = OpenMove.from_text(text)
    assert opened is not None
    assert opened.move.cost == {"": 8.0}


@pytest.mark.parametrize(
    "text",
    [
        *("", "yes", "[]", "{}", '{"id": 1, "began_s": "x"}', "null", "[" * 100_000),
        OpenMove("abc", MOVE, NOW_S).to_text().replace('"agx"', '["agx"]'),
        re.sub(r'"relief": [^,]*', '"relief": "much"', OpenMove("abc", MOVE, NOW_S).to_text()),
    ],
)
def test_an_annotation_that_is_no_move_is_none(text: str) -> None:
    assert OpenMove.from_text(text) is None
