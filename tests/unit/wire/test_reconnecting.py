"""Pauses between connections grow until one of them has served for a while."""

from __future__ import annotations

import itertools

import pytest

from posture.wire.reconnecting import JITTER, LONGEST_S, STEADY_S, Reconnecting


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted and ended at once", "never accepted"])
def test_attempts_that_come_to_nothing_are_a_few_a_minute(accepted: bool) -> None:
    clock = Clock()
    reconnecting = Reconnecting(clock)
    attempts: list[float] = []
    while clock.now < 600:
        attempts.append(clock.now)
        if accepted:
            reconnecting.connected()
            clock.now += 0.1
        clock.now += reconnecting.pause_s()
    in_first_minute = sum(at < 60 for at in attempts)
    assert in_first_minute <= 9
    assert len(attempts) - in_first_minute <= 9 * 60 / (LONGEST_S * (1 - JITTER))
    assert all(later - sooner <= LONGEST_S * (1 + JITTER) + 0.2 for sooner, later in itertools.pairwise(attempts))


def test_after_steady_service_the_first_pause_is_short_again() -> None:
    clock = Clock()
    reconnecting = Reconnecting(clock)
    for _ in range(20):
        reconnecting.pause_s()
    reconnecting.connected()
    assert not reconnecting.steady
    clock.now += STEADY_S
    assert reconnecting.steady
    assert reconnecting.pause_s() < 1
    assert not reconnecting.steady
