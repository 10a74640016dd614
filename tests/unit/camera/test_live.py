"""A camera that fails and comes back, as a device behaves that no test machine has."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, repeat
from typing import TypeAlias

import pytest
from farm import noise_jpeg

from posture.camera import live
from posture.camera.live import CameraLostError, CameraRefusedError, film
from posture.errors import UserError
from posture.wire.frame import UndecodableError

Step: TypeAlias = "bytes | Exception"


class Device:
    """Opened once for each list of steps; each read is the next step, and at their end it is unplugged."""

    on_demand = False

    def __init__(self, *times: Iterable[Step] | Exception) -> None:
        self._times = iter(times)
        self._steps: Iterator[Step] = iter(())
        self._next: Step = b""
        self.opened = self.closed = 0
        self.tried_at: list[float] = []

    def open(self) -> Device:
        self.tried_at.append(time.monotonic())
        steps = next(self._times, CameraLostError("unplugged"))
        if isinstance(steps, Exception):
            raise steps
        self.opened += 1
        self._steps = iter(steps)
        return self

    def wait(self) -> None:
        time.sleep(0.005)  # as long as the next picture takes
        step = next(self._steps, None)
        if step is None:
            raise CameraLostError("unplugged")
        self._next = step

    def picture(self) -> bytes:
        if isinstance(self._next, Exception):
            raise self._next
        return self._next

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(live, "LOOK_S", 0.02)
    monkeypatch.setattr(live, "LAST_PICTURE_S", 60.0)


def filmed(
    device: Device, *, fail_fast: bool = False, given_up: Callable[[], bool] = lambda: False
) -> Iterator[bytes]:
    return film("cam", device.open, fail_fast=fail_fast, given_up=given_up)


def until(ended: Callable[[], bool], step: Step) -> Iterator[Step]:
    while not ended():
        yield step


ONE, TWO = noise_jpeg(1, 32, 24), noise_jpeg(2, 32, 24)


def test_a_camera_that_is_unplugged_films_on_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    unplugged = threading.Event()
    gone = CameraRefusedError("there is none"), CameraLostError("busy")
    device = Device(until(unplugged.is_set, ONE), *gone, repeat(TWO))
    with caplog.at_level(logging.WARNING):
        frames = filmed(device)
        assert next(frames) == ONE
        unplugged.set()
        assert next(each for each in frames if each == TWO)
        frames.close()  # type: ignore[attr-defined]
    assert [line.partition(": ")[2].partition(";")[0] for line in caplog.messages] == [
        "unplugged", "there is none", "busy",
    ]  # fmt: skip
    assert all("next try in" in line for line in caplog.messages)
    assert (device.opened, device.closed) == (2, 2), "the old one is closed, or the device stays in use"


def test_the_pauses_grow_while_it_stays_away_and_though_it_comes_back_for_a_moment(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = Device([ONE] * 3, [ONE] * 3, [ONE] * 3, [ONE] * 3)

    def lines() -> list[str]:
        return [line for line in caplog.messages if "next try" in line]

    frames = filmed(device, given_up=lambda: len(lines()) >= 6)
    with caplog.at_level(logging.WARNING):
        list(frames)
    pauses = [float(line.split()[-2]) for line in lines()]
    assert pauses[5] > 10 * pauses[0]
    assert device.tried_at[5] - device.tried_at[4] > 0.2, "they are made, and not only told"


def test_after_a_while_of_steady_pictures_the_pauses_begin_anew(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STEADY_S", 0.05)
    gone = CameraLostError("gone")
    device = Device([ONE], gone, gone, gone, gone, [ONE] * 40, repeat(TWO))
    with caplog.at_level(logging.WARNING):
        assert next(each for each in filmed(device) if each == TWO)
    pauses = [float(line.split()[-2]) for line in caplog.messages]
    assert len(pauses) == 6
    assert pauses[5] < pauses[4]


def test_a_camera_that_is_not_there_at_the_start_is_a_users_error() -> None:
    with pytest.raises(UserError, match="--source cam: there is none"):
        next(filmed(Device(CameraRefusedError("there is none"))))


def test_who_wants_no_waiting_gets_the_first_failure_as_the_error() -> None:
    frames = filmed(Device([ONE] * 3), fail_fast=True)
    with pytest.raises(UserError, match="--source cam: unplugged"):
        list(frames)


def test_damaged_pictures_are_passed_over_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    damaged = UndecodableError("truncated")
    wanted = until(lambda: bool(caplog.messages), damaged)  # nobody looks at those that come before
    with caplog.at_level(logging.WARNING):
        assert list(islice(filmed(Device(chain(wanted, [damaged] * 9, repeat(ONE)))), 1)) == [ONE]
    assert caplog.messages == ["--source cam: a picture is passed over: truncated"]


def test_a_camera_with_nothing_but_damaged_pictures_is_opened_anew() -> None:
    device = Device(repeat(UndecodableError("truncated")), repeat(ONE))
    assert list(islice(filmed(device), 1)) == [ONE]
    assert device.opened == 2


def test_nobody_has_to_wait_for_a_camera_that_is_away() -> None:
    wanted = threading.Event()
    frames = filmed(Device(*[CameraLostError("away")] * 50), given_up=wanted.is_set)
    threading.Timer(0.1, wanted.set).start()
    assert list(frames) == []


def test_what_a_camera_says_cannot_write_to_the_terminal() -> None:
    assert str(CameraLostError("a\x1b[2Jb\r\n\x00c" + "d" * 1000)).isprintable()
    assert len(str(CameraLostError("d" * 1000))) <= 300


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failure_that_nobody_has_foreseen_ends_with_an_error_and_does_not_hang() -> None:
    device = Device(ZeroDivisionError())
    with pytest.raises(UserError, match="failed; see above"):
        next(filmed(device))
