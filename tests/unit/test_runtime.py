"""How scripts end, and how they are asked to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence

import pytest

from posture.errors import FailedError, UserError
from posture.runtime import Stop, run_script


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        pytest.param(UserError("no such file"), 2, "error: no such file\n", id="the operator's mistake"),
        pytest.param(FailedError("no broker"), 1, "error: no broker\n", id="a failure outside"),
        pytest.param(KeyboardInterrupt(), 130, "", id="Ctrl-C"),
    ],
)
def test_an_exception_becomes_a_message_and_an_exit_status(
    raised: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: Sequence[str] | None) -> int:
        raise raised

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == status
    assert capsys.readouterr().err == said


def test_what_main_returns_is_the_exit_status() -> None:
    with pytest.raises(SystemExit) as ended:
        run_script(lambda argv: 7)
    assert ended.value.code == 7


def test_a_signal_ends_a_wait_and_is_remembered() -> None:
    stop = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stop.install()
    try:
        signal.raise_signal(signal.SIGTERM)
        stop.wait(60)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stop.requested


def test_a_wake_up_ends_a_wait_and_asks_for_no_stop() -> None:
    stop = Stop()
    threading.Thread(target=stop.wake).start()
    stop.wait(60)
    assert not stop.requested
    stop.wait(0)
