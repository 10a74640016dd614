"""What each program uses over hours, minute by minute: as CSV, as a picture, and as a table of what has grown."""

from __future__ import annotations

import contextlib
import csv
import datetime
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure
from processes import pss_kib, resident_kib

from posture.charts.style import LINE, MUTED, as_png, styled

GROWS_KIB = 10 * 1024
"""Of memory; more is called a leak. 1 KiB of each frame makes 11.7 MiB in the 100 minutes between the medians of
two hours at 2 frames/s; less is hidden by what allocators keep of a backlog."""
GROWS_FILES = 10
"""Open files; one of each fault in two hours makes 24. Some come and go with connections."""
COLUMNS = 3


@dataclass(frozen=True)
class Sample:
    """What one process used at one moment.

    Attributes:
        at_s: seconds since the soak began.
        program: its name, with what tells several of them apart.
        pid: of the process.
        rss_kib, pss_kib: resident memory, and the same with what is shared divided among those that share it.
        files: that it has open.
    """

    at_s: float
    program: str
    pid: int
    rss_kib: int
    pss_kib: int
    files: int


@dataclass(frozen=True)
class Growth:
    """What one process used in some minutes, some time after its start or the soak's, and at its end.

    It is the median: memory comes and goes with a backlog, and an analyzer gives its second model back for some
    seconds now and then, which makes the least a matter of chance; what leaks stays.
    """

    first: Sample
    last: Sample

    @property
    def kib(self) -> int:
        return self.last.rss_kib - self.first.rss_kib

    @property
    def files(self) -> int:
        return self.last.files - self.first.files

    @property
    def leaks(self) -> bool:
        """Whether it has grown by more than it may."""
        return self.kib > GROWS_KIB or self.files > GROWS_FILES


def growths(samples: Sequence[Sample], settled_s: float) -> list[Growth]:
    """Return the growth of each process that was there for long enough.

    Args:
        samples: in the order of time.
        settled_s: so long after its first sample a process has taken what it needs; the medians are of as long.
    """
    of_process: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        of_process.setdefault((sample.program, sample.pid), []).append(sample)
    settled = [[one for one in found if one.at_s >= found[0].at_s + settled_s] for found in of_process.values()]
    return [
        Growth(
            median([one for one in found if one.at_s <= found[0].at_s + settled_s], found[0].at_s),
            median([one for one in found if one.at_s >= found[-1].at_s - settled_s], found[-1].at_s),
        )
        for found in settled
        if found and found[-1].at_s - found[0].at_s > 2 * settled_s
    ]


def median(samples: Sequence[Sample], at_s: float) -> Sample:
    """Return the median of everything that one process used in these samples, as one that was taken at ``at_s``."""
    return replace(
        samples[0],
        at_s=at_s,
        rss_kib=statistics.median_low(one.rss_kib for one in samples),
        pss_kib=statistics.median_low(one.pss_kib for one in samples),
        files=statistics.median_low(one.files for one in samples),
    )


class Uses:
    """Takes samples until it is closed.

    Args:
        programs: returns name -> pid of what runs now.
        every_s: between samples.
    """

    def __init__(self, programs: Callable[[], Mapping[str, int]], every_s: float) -> None:
        self.samples: list[Sample] = []
        self._programs, self._every_s = programs, every_s
        self._began = time.monotonic()
        self.began = datetime.datetime.now(datetime.timezone.utc)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._take, name="uses", daemon=True)
        self._thread.start()

    @property
    def lasted_s(self) -> float:
        """Seconds since the soak began."""
        return time.monotonic() - self._began

    def close(self) -> None:
        """Take a last sample, and no more."""
        self._end.set()
        self._thread.join()

    def _take(self) -> None:
        ended = False
        while not ended:
            ended = self._end.wait(self._every_s if self.samples else 0.0)
            for name, pid in self._programs().items():
                # one that ends in this moment
                with contextlib.suppress(FileNotFoundError, ProcessLookupError, AssertionError):
                    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                    at_s = round(self.lasted_s, 1)
                    self.samples.append(Sample(at_s, name, pid, resident_kib(pid), pss_kib(pid), files))

    def write(self, folder: Path, faults: Sequence[tuple[float, str]], settled_s: float) -> str:
        """Write soak.csv, soak.png and soak.md; return the last one.

        Args:
            folder: where.
            faults: seconds since the soak began, and what happened then.
            settled_s: as ``growths`` takes it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "soak.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("utc", "minute", "program", "pid", "rss_kib", "pss_kib", "open_files"))
            for one in self.samples:
                at = self.began + datetime.timedelta(seconds=one.at_s)
                writer.writerow((
                    at.isoformat(timespec="seconds"), f"{one.at_s / 60:.1f}", one.program, one.pid, one.rss_kib,
                    one.pss_kib, one.files,
                ))  # fmt: skip
        with styled():
            (folder / "soak.png").write_bytes(as_png(drawn(self.samples, faults)))
        said = table_of(growths(self.samples, settled_s))
        (folder / "soak.md").write_text(said)
        return said


def table_of(found: Sequence[Growth]) -> str:
    """Return the growths as a table in Markdown."""
    lines = [
        "| Program | from, to (min) | RSS, MiB | PSS, MiB | open files |",
        "|---|---|---|---|---|",
    ]
    for one in sorted(found, key=lambda growth: (growth.first.program, growth.first.at_s)):
        first, last = one.first, one.last
        lines.append(
            f"| {first.program} | {first.at_s / 60:.0f}, {last.at_s / 60:.0f} "
            f"| {first.rss_kib / 1024:.1f} → {last.rss_kib / 1024:.1f} "
            f"| {first.pss_kib / 1024:.1f} → {last.pss_kib / 1024:.1f} | {first.files} → {last.files} |"
        )
    return "\n".join(lines) + "\n"


def drawn(samples: Sequence[Sample], faults: Sequence[tuple[float, str]]) -> Figure:
    """Return a picture: memory and open files of each program, and when faults happened."""
    names = sorted({sample.program for sample in samples})
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(5.2 * COLUMNS, 1.9 * rows + 0.6), layout="constrained")
    figure.suptitle("RSS (thick) and PSS (thin) in MiB, left; open files, dotted, right; grey: faults")
    for name, axes in zip(names, figure.subplots(rows, COLUMNS, squeeze=False, sharex=True).flat, strict=False):
        beside = axes.twinx()
        for pid in dict.fromkeys(sample.pid for sample in samples if sample.program == name):
            ours = [sample for sample in samples if (sample.program, sample.pid) == (name, pid)]
            minutes = [sample.at_s / 60 for sample in ours]
            axes.plot(minutes, [sample.rss_kib / 1024 for sample in ours], color="#1971c2", linewidth=1.8)
            axes.plot(minutes, [sample.pss_kib / 1024 for sample in ours], color="#1971c2", linewidth=0.8)
            beside.plot(minutes, [sample.files for sample in ours], color="#e8590c", linewidth=1, linestyle=":")
        for at_s, _ in faults:
            axes.axvline(at_s / 60, color=LINE, linewidth=1, zorder=0)
        axes.set_ylim(bottom=0)
        beside.set_ylim(bottom=0)
        axes.set_title(name, loc="left", fontsize=9)
        axes.tick_params(labelcolor=MUTED)
    return figure
