"""Exactly one balancer: real processes, really killed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from processes import is_running

from posture.scaler.supervisor import Supervisor
from posture.system.children import Child

ROOT = Path(__file__).resolve().parents[3]
SOON_S = 30.0

STAYS = "import signal; signal.pause()"
ENDS = "raise SystemExit(3)"
SAYS_GOODBYE = """
import pathlib, signal, sys
def goodbye(*_):
    pathlib.Path(sys.argv[1]).with_suffix(".stopped").touch()
    raise SystemExit(0)
signal.signal(signal.SIGTERM, goodbye)
pathlib.Path(sys.argv[1]).with_suffix(".up").touch()
signal.pause()
"""
STUBBORN = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).with_suffix(".up").touch()
while True:
    signal.pause()
"""


def balancer(body: str, mark: Path) -> Callable[[], Child]:
    """Starts a program that notes when it starts; the mark is in its command line, to be found by."""
    note = "import sys, time; open(sys.argv[1], 'a').write(f'{time.monotonic()}\\n')\n"
    return lambda: Child("balancer", [sys.executable, "-c", note + body, str(mark)], None)


def starts(mark: Path) -> list[float]:
    return [float(line) for line in mark.read_text().splitlines()] if mark.exists() else []


def processes_of(mark: Path) -> list[int]:
    """Everything that runs with this mark, whoever started it."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and str(mark).encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return [pid for pid in found if is_running(pid)]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a process does; there is no event for it here."""
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(supervisor: Supervisor, stop_s: float = SOON_S) -> AsyncIterator[None]:
    task = asyncio.create_task(supervisor.run())
    try:
        yield
    finally:
        await supervisor.stop(stop_s)
        await asyncio.wait_for(task, SOON_S)


def test_of_a_balancer_that_is_killed_50_times_there_is_always_exactly_one_within_the_backoff(
    tmp_path: Path,
) -> None:
    mark = tmp_path / "mark"

    async def scenario() -> None:
        supervisor = Supervisor(balancer(STAYS, mark), pause_max_s=0.05)
        async with running(supervisor):
            for count in range(50):
                await until(lambda count=count: len(starts(mark)) == count + 1)  # type: ignore[misc]
                assert supervisor.child is not None
                assert processes_of(mark) == [supervisor.child.pid]
                os.kill(supervisor.child.pid, signal.SIGKILL)
            await until(lambda: len(starts(mark)) == 51)
            assert len(processes_of(mark)) == 1
            assert supervisor.restarts == 50
        assert processes_of(mark) == []

    asyncio.run(scenario())


def test_pauses_grow_to_the_cap_and_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mark = tmp_path / "mark"

    async def scenario() -> None:
        async with running(Supervisor(balancer(ENDS, mark), pause_max_s=0.4, pause_s=0.1)):
            await until(lambda: len(starts(mark)) >= 5)

    asyncio.run(scenario())
    said = [record.getMessage() for record in caplog.records if "ended" in record.getMessage()]
    expected = [0.1, 0.2, 0.4, 0.4]
    assert said[:4] == [
        f"the balancer has ended with status 3; it is started again in {pause} s" for pause in expected
    ]
    between = [later - earlier for earlier, later in itertools.pairwise(starts(mark))]
    assert all(actual >= pause for actual, pause in zip(between, expected, strict=False))


def test_pauses_begin_anew_after_a_healthy_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mark = tmp_path / "mark"

    async def scenario() -> None:
        # each one is healthy at once
        async with running(Supervisor(balancer(ENDS, mark), pause_max_s=60, pause_s=0.01, healthy_s=0.0)):
            await until(lambda: len(starts(mark)) >= 4)

    asyncio.run(scenario())
    assert caplog.text.count("started again in 0.01 s") >= 3
    assert "started again in 0.02 s" not in caplog.text


def test_a_balancer_that_cannot_be_started_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mark = tmp_path / "mark"
    attempts = iter([OSError(12, "Cannot allocate memory"), None])

    def start() -> Child:
        if error := next(attempts):
            raise error
        return balancer(STAYS, mark)()

    async def scenario() -> None:
        async with running(Supervisor(start, pause_max_s=0.01)):
            await until(lambda: len(starts(mark)) == 1)

    asyncio.run(scenario())
    assert "can't be started: [Errno 12] Cannot allocate memory" in caplog.text


def test_a_balancer_is_asked_to_stop_and_may_finish(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    async def scenario() -> None:
        async with running(Supervisor(balancer(SAYS_GOODBYE, mark), pause_max_s=0.01)):
            await until(mark.with_suffix(".up").exists)
        assert mark.with_suffix(".stopped").exists()
        assert len(starts(mark)) == 1

    asyncio.run(scenario())
    assert processes_of(mark) == []


def test_a_balancer_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    async def scenario() -> None:
        supervisor = Supervisor(balancer(STUBBORN, mark), pause_max_s=0.01)
        async with running(supervisor, stop_s=0.2):
            await until(mark.with_suffix(".up").exists)
        assert supervisor.child is not None
        assert supervisor.child.status == -signal.SIGKILL

    asyncio.run(scenario())
    assert processes_of(mark) == []


def test_a_stop_during_a_pause_starts_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    async def scenario() -> None:
        supervisor = Supervisor(balancer(ENDS, mark), pause_max_s=60, pause_s=60)
        async with running(supervisor):
            await until(lambda: len(starts(mark)) == 1 and not supervisor.running)

    asyncio.run(scenario())
    assert len(starts(mark)) == 1


def test_no_balancer_survives_its_supervisor_that_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    program = f"""
import asyncio, sys, threading
sys.path.insert(0, {str(ROOT)!r})
from posture.system.children import Child
from posture.scaler.supervisor import Supervisor
threading.Thread(target=threading.Event().wait, daemon=True).start()  # as gRPC's are there
command = [sys.executable, "-c", {STUBBORN!r}, {str(mark)!r}]
asyncio.run(Supervisor(lambda: Child("balancer", command, None), 1).run())
"""
    supervisor = subprocess.Popen([sys.executable, "-c", program])
    asyncio.run(until(mark.with_suffix(".up").exists))
    (child,) = processes_of(mark)
    supervisor.kill()
    supervisor.wait(SOON_S)
    killed_at = time.monotonic()
    while is_running(child) and time.monotonic() - killed_at < SOON_S:
        time.sleep(0.01)
    survived = is_running(child)
    if survived:
        os.kill(child, signal.SIGKILL)
    assert not survived
