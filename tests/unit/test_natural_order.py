"""Names in the order in which people count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from posture.natural_order import natural


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["pi10", "pi2", "pi1", "camera", "pi2-b", "pi02", "10", "9", "hall-3-door-12", "hall-3-door-2"]
    assert sorted(names, key=natural) == [
        "9", "10", "camera", "hall-3-door-2", "hall-3-door-12", "pi1", "pi02", "pi2", "pi2-b", "pi10",
    ]  # fmt: skip


@given(st.lists(st.text(max_size=8), max_size=8))
def test_any_names_have_one_order(names: list[str]) -> None:
    backwards = names[::-1]
    assert sorted(names, key=natural) == sorted(backwards, key=natural)
