"""Who fails often waits; who succeeds does not."""

from __future__ import annotations

from posture.dashboard.attempts import FORGOTTEN_S, LONGEST_PAUSE_S, MOST_REMEMBERED, Attempts


def test_after_the_free_mistakes_each_further_one_doubles_the_wait_up_to_a_limit() -> None:
    attempts, waits = Attempts(free=3), []
    for _ in range(14):
        attempts.failed("x", 0.0)
        waits.append(attempts.wait_s("x", 0.0))
    assert waits[:6] == [0.0, 0.0, 2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == LONGEST_PAUSE_S


def test_the_wait_passes_and_others_do_not_wait() -> None:
    attempts = Attempts(free=1)
    attempts.failed("x", 100.0)
    assert attempts.wait_s("x", 101.5) == 0.5
    assert attempts.wait_s("x", 102.0) == 0.0
    assert attempts.wait_s("y", 100.0) == 0.0


def test_success_and_time_forget_failures() -> None:
    attempts = Attempts(free=1)
    for _ in range(20):
        attempts.failed("x", 0.0)
    assert attempts.wait_s("x", 1 + FORGOTTEN_S) == 0.0
    attempts.succeeded("x")
    assert attempts.wait_s("x", 0.0) == 0.0


def test_strangers_without_end_do_not_fill_the_memory() -> None:
    attempts = Attempts(free=1)
    for number in range(MOST_REMEMBERED + 10):
        attempts.failed(str(number), 0.0)
    assert attempts.wait_s("0", 0.0) == 0.0
    assert attempts.wait_s(str(MOST_REMEMBERED + 9), 0.0) > 0.0
