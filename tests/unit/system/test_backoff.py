"""Pauses that double, up to the longest one."""

from __future__ import annotations

from posture.system.backoff import Backoff


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_after_a_success_the_pauses_start_again() -> None:
    backoff = Backoff(0.5, 3.0)
    backoff.next_s()
    backoff.next_s()
    backoff.reset()
    assert [backoff.next_s(), backoff.next_s()] == [0.5, 1.0]


def test_the_next_pause_can_be_looked_at() -> None:
    backoff = Backoff(1.0, 8.0)
    assert backoff.current_s == 1.0
    assert backoff.next_s() == 1.0
    assert backoff.current_s == 2.0


def test_jitter_spreads_each_pause_and_not_the_doubling() -> None:
    backoff = Backoff(1.0, 8.0, jitter=0.2)
    first = set()
    for _ in range(200):
        backoff.reset()
        first.add(backoff.next_s())
        assert backoff.current_s == 2.0
    assert 0.8 <= min(first) < 0.9
    assert 1.1 < max(first) <= 1.2
