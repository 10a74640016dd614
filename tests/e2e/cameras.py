"""Cameras: publish_images.py of one stream each, with a spool, and what became of their frames."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posture.system import files
from posture.system.children import bound_to_us

ROOT = Path(__file__).resolve().parent.parent.parent
FINISHED_S = 300.0
"""What waits is sent within this time, or the camera ends without it."""


@dataclass(frozen=True)
class Access:
    """How a camera gets at its broker.

    Attributes:
        flags: of publish_images.py.
        environ: variables beside those of this process.
    """

    flags: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)


class Camera:
    """publish_images.py of one stream; a second one goes on with what the first has left in the spool.

    Args:
        stream: whose.
        folder: for logs and spools.
        access: to the broker.
        fps: frames a second.
        clock_offset_s: by how much its clock is wrong at first; None: it goes right and stays so.
    """

    def __init__(
        self, stream: str, folder: Path, access: Access, fps: float, clock_offset_s: int | None = None
    ) -> None:
        self.stream = stream
        folder.mkdir(exist_ok=True)
        self._clock = folder / f"clock-{stream}"
        self._spool = folder / f"spool-{stream}"
        self.log = folder / f"{stream}-{time.monotonic_ns()}.log"
        self.output = self.log.with_suffix(".json")
        command = [
            sys.executable, str(ROOT / "publish_images.py"), "--pi-id", stream, "--source",
            str(ROOT / "samples" / "side_walk.mp4"), "--loop", "--fps", str(fps), "--json", *access.flags,
            "--spool", str(self._spool), "--receipt-timeout", "15", "--drain", str(FINISHED_S - 60),
        ]  # fmt: skip
        environ = {**os.environ, **access.environ}
        if clock_offset_s is not None:
            self.set_clock(clock_offset_s)
            environ |= wrong_clock(self._clock, libfaketime())
        with self.log.open("wb") as log, self.output.open("wb") as output:
            self._process = subprocess.Popen(
                bound_to_us(command), stdin=subprocess.DEVNULL, stdout=output, stderr=log, env=environ
            )

    def set_clock(self, offset_s: int) -> None:
        """Step its clock: from now on it is wrong by so many seconds. Needs one that was wrong from the start."""
        files.replace(self._clock, f"{offset_s:+d}s\n".encode())

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """No more pictures; what waits is still sent."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """No more of it; what it has not sent is nothing that the next test has to wait for."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        shutil.rmtree(self._spool, ignore_errors=True)

    def result(self) -> dict[str, Any]:
        """What became of its frames."""
        self._process.wait(FINISHED_S)
        said = self.output.read_text()
        assert said, f"{self.stream}'s camera has failed:\n{self.log.read_text()[-2000:]}"
        return dict(json.loads(said.splitlines()[-1]))


def libfaketime() -> Path:
    """The library by which a program's clock is wrong."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return library


def wrong_clock(offset: Path | str, library: Path | str) -> dict[str, str]:
    """Environment variables of a program whose clock is wrong by what a file says; its stopwatches go right."""
    return {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of one camera's frames.

    Attributes:
        seq: the frame's number.
        filename: of its picture.
        node: that analyzed it.
        analyzed_s: when, in seconds since 1970.
        no_picture: the reason why there is none; empty if there is to be one.
    """

    seq: int
    filename: str
    node: str
    analyzed_s: float
    no_picture: str


@dataclass(frozen=True)
class Account:
    """What became of one camera's frames: published = rows + missing + taken; each row has a picture, or the
    reason why not, or its node was lost with it.

    Attributes:
        taken: frames whose rows were there, and that a restored backup does not have.
        sent_again: how often frames were sent once more.
        downtime_s: the longest time between two rows.
        in_spool: frames that the camera still had at its end: if they are missing, they are late, and not lost.
    """

    stream: str
    published: int
    rows: int
    doubled: int
    pictures: int
    pictures_lost: int
    without_picture: int
    taken: int
    sent_again: int
    downtime_s: float
    in_spool: int

    @property
    def missing(self) -> int:
        return self.published - self.rows - self.taken

    @property
    def adds_up(self) -> bool:
        """Whether nothing is missing or doubled, and of each picture it is known what became of it."""
        pictures = self.pictures + self.pictures_lost + self.without_picture
        return not self.missing and not self.doubled and pictures == self.rows


def account(
    stream: str,
    result: Mapping[str, Any],
    rows: Sequence[Row],
    stored: Mapping[str, Collection[str]],
    lost_disks: Collection[str] = (),
    taken: Collection[int] = (),
) -> Account:
    """Count. Pure.

    Args:
        stream: whose.
        result: what its camera has said at its end.
        rows: of this camera's frames, in the order of their analysis.
        stored: node -> names of the stream's pictures that are there for rows of that node.
        lost_disks: nodes that were lost with what was on their disks.
        taken: numbers of frames whose rows a restored backup does not have.
    """
    frames = {row.seq for row in rows}
    there = [row.filename in stored.get(row.node, ()) for row in rows]
    lacking = [row for row, is_there in zip(rows, there, strict=True) if not is_there]
    gaps = [later.analyzed_s - earlier.analyzed_s for earlier, later in itertools.pairwise(rows)]
    without = sum(bool(row.no_picture) for row in lacking)
    return Account(
        stream, result["captured"], len(frames), len(rows) - len(frames), sum(there),
        sum(not row.no_picture and row.node in lost_disks for row in lacking), without, len({*taken} - frames),
        result["resent"],
        round(max(gaps, default=0.0), 1), result["in_spool"],
    )  # fmt: skip
