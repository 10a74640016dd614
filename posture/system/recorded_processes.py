"""Processes that outlive the script that started them: recorded in a file, found again, and stopped.

A record identifies a process by its id, its start time and its command line. Only a process that matches all three
is ever signalled, since the kernel reuses process ids, above all after a reboot.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from posture.errors import UserError
from posture.runtime import ROOT
from posture.system import files
from posture.system.children import Child

PROC = Path("/proc")
POLL_S = 0.1


@dataclass(frozen=True)
class Record:
    """Identifies a started process.

    Attributes:
        name: such as ``scaler``; also the record's file name.
        pid: its process id.
        started: its start time, in a form that can only be compared for equality.
        command: its command line.
        stopping: another script is about to stop or replace it.
    """

    name: str
    pid: int
    started: str
    command: str
    stopping: bool = False


def folder_of(namespace: str, farm: str) -> Path:
    """Return the folder of a farm's records and logs on this machine: ``run/<namespace>.<farm>``."""
    return ROOT / "run" / f"{namespace}.{farm}"


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, so that two scripts never change the same farm at the same time.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(
                f"process {lock.read().strip()} is at work on this farm; wait for it, or end it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def start(name: str, command: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None) -> Child:
    """Start a program that outlives us, and record it. Its log is ``<name>.log`` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    child = Child(name, command, folder, environ, stays=True)
    started, shown = identity(child.pid) or ("", "")
    # for a moment after exec the kernel reports an empty command line
    while not shown and child.status is None:
        time.sleep(POLL_S)
        started, shown = identity(child.pid) or ("", "")
    write(Record(name, child.pid, started, shown), folder)
    return child


@contextlib.contextmanager
def recorded(name: str, folder: Path) -> Iterator[None]:
    """Record our own process while we work, so that stop.py finds it; if that fails, go on without a record."""
    started, command = identity(os.getpid()) or ("", "")
    record = Record(name, os.getpid(), started, command)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write(record, folder)
    try:
        yield
    finally:
        last = read(name, folder)
        if last is not None and last.pid == record.pid:
            with contextlib.suppress(OSError):
                (folder / f"{name}.json").unlink()
                folder.rmdir()  # if nothing else is there


def write(record: Record, folder: Path) -> None:
    """Write a record atomically.

    Raises:
        OSError: it can't be written.
    """
    files.replace(folder / f"{record.name}.json", f"{json.dumps(asdict(record))}\n".encode())


def read(name: str, folder: Path) -> Record | None:
    """Return a record, whether or not its process still runs; None if there is none that can be read."""
    try:
        return Record(**json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def find(name: str, folder: Path) -> Record | None:
    """Return the record if exactly that process still runs, else None."""
    record = read(name, folder)
    return record if record is not None and is_running(record) else None


def is_running(record: Record) -> bool:
    """Return whether exactly the recorded process still runs."""
    return identity(record.pid) == (record.started, record.command)


def stop(name: str, folder: Path, seconds: float) -> bool:
    """Stop a recorded process and delete its record: SIGTERM, then SIGKILL after ``seconds``.

    Returns:
        Whether it was running.
    """
    record = find(name, folder)
    if record is not None:
        # first, so that the script that supervises it does not restart it
        write(replace(record, stopping=True), folder)
        if not _ends(record, signal.SIGTERM, seconds):
            _ends(record, signal.SIGKILL, seconds)
    with contextlib.suppress(FileNotFoundError):
        (folder / f"{name}.json").unlink()
    return record is not None


def _ends(record: Record, number: signal.Signals, seconds: float) -> bool:
    """Send a signal; return whether the process ends within ``seconds``."""
    try:
        # while a pidfd is open, the process id cannot be reused between the check and the signal
        handle = os.pidfd_open(record.pid) if sys.platform == "linux" else None
    except ProcessLookupError:
        return True
    try:
        if not is_running(record):
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)
        if handle is not None:
            select.select([handle], [], [], seconds)
        deadline = time.monotonic() + (seconds if handle is None else 0)
        while is_running(record) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return not is_running(record)
    finally:
        if handle is not None:
            os.close(handle)


def identity(pid: int) -> tuple[str, str] | None:
    """Return a process's start time and command line; None if there is no such process, or only a zombie."""
    if not PROC.joinpath("self").exists():
        return _identity_by_ps(pid)
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        command = (PROC / str(pid) / "cmdline").read_bytes()
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # skip the program's name, in parentheses with any content; proc(5): state is field 3, starttime is field 22
    fields = stat[stat.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        return None
    return f"{boot} {fields[19]}", command.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")


def _identity_by_ps(pid: int) -> tuple[str, str] | None:
    """Do the same without /proc, such as on macOS."""
    shown = subprocess.run(
        ["ps", "-p", str(pid), "-o", "stat=", "-o", "lstart=", "-o", "args="],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
        timeout=10,
    ).stdout.split(maxsplit=6)
    # stat, a date of five words, the command line
    return None if len(shown) < 7 or shown[0].startswith("Z") else (" ".join(shown[1:6]), shown[6])
