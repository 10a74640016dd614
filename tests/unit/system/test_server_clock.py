"""The offset of a server's clock, by the Date headers of its answers."""

from __future__ import annotations

import pytest

from posture.system.server_clock import offset_that_fits


@pytest.mark.parametrize("offset_s", [0.0, 0.3, -0.6])
def test_an_offset_that_fits_stays_as_it_is(offset_s: float) -> None:
    assert offset_that_fits(offset_s, 1000.0, asked_s=1000.1, now_s=1000.7) == offset_s


def test_a_standstill_between_question_and_answer_moves_no_clock() -> None:
    assert offset_that_fits(0.0, 1000.0, asked_s=1000.1, now_s=1030.0) == 0.0
    assert offset_that_fits(0.0, 1029.0, asked_s=1000.1, now_s=1030.0) == 0.0


def test_a_clock_that_is_wrong_is_known_to_half_a_second_after_one_answer() -> None:
    for wrong_s in (-3600.0, 3600.0):
        found = offset_that_fits(0.0, 1000.0 + wrong_s, asked_s=1000.0, now_s=1000.0)
        assert found == wrong_s + 0.5
        assert offset_that_fits(found, 1007.0 + wrong_s, asked_s=1007.2, now_s=1007.2) == found


def test_a_drift_within_the_tolerance_changes_nothing() -> None:
    assert offset_that_fits(0.0, 1001.0, asked_s=1000.6, now_s=1000.6, tolerance_s=0.5) == 0.0
    assert offset_that_fits(0.0, 1001.0, asked_s=1000.4, now_s=1000.4, tolerance_s=0.5) == pytest.approx(1.1)
