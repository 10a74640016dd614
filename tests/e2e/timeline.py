"""What happened during a run, second by second, and the page that shows it: e2e-report/index.html and .png."""

from __future__ import annotations

import contextlib
import datetime
import html
import io
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from seen import Seen

mpl.use("Agg")  # no display is needed

SAMPLE_S = 1.0
THRESHOLD = 50.0
PICTURES = "seen"
"""The folder of the dashboard's pictures, in the report's."""
COLOURS = ("#1971c2", "#2f9e44", "#e8590c", "#9c36b5", "#e03131")
MOVE = re.compile(
    r"^(?:\S+ std(?:out|err) F )?(\S+Z) INFO posture\.balancer\.loop: (\S+): ([\w ]+) from (\S+) to (\S+): (.*)$"
)


@dataclass
class Span:
    """Something that lasted.

    Attributes:
        what: in words.
        kind: ``test`` or ``fault``.
        began_s, ended_s: seconds since 1970.
        outcome: what came of it.
        seen: what an operator sees of it.
        picture: of the dashboard meanwhile, a file in PICTURES.
    """

    what: str
    kind: str
    began_s: float
    ended_s: float | None = None
    outcome: str = ""
    seen: Seen | None = None
    picture: str = ""


@dataclass(frozen=True)
class MoveMade:
    """A move that the balancer has begun."""

    at_s: float
    stream: str
    kind: str
    source: str
    destination: str
    why: str


@dataclass
class Timeline:
    """Takes samples while the farm runs.

    Attributes:
        folder: of the report.
        factors: node -> percent that one analyzer takes.
        streams: their names; more may come.
        accounts: name of what happened -> the streams' accounts.
    """

    folder: Path
    factors: Mapping[str, float]
    streams: Sequence[str]
    accounts: list[tuple[str, Sequence[Any]]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    began_s: float = field(default_factory=time.time)
    _samples: list[tuple[float, dict[str, float], dict[str, list[str]]]] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)
    _logs: list[Callable[[], Iterable[Path]]] = field(default_factory=list)
    _thread: threading.Thread | None = None
    _moves: dict[MoveMade, None] = field(default_factory=dict)

    def read_moves(self, logs: Callable[[], Iterable[Path]]) -> None:
        """Take moves from these logs of balancers, too: their own, or as containerd keeps those of pods."""
        self._logs.append(logs)

    def follow(self, usage: Any) -> None:
        """Take samples from now on.

        Args:
            usage: what runs where, and how busy the nodes look.
        """

        def take() -> None:
            while not self._end.wait(SAMPLE_S):
                self._samples.append((time.time(), dict(usage.shown), dict(usage.running)))
                self.moves()

        self._thread = threading.Thread(target=take, daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def span(self, kind: str, what: str) -> Iterator[Span]:
        """Note something that lasts, and whether it ended well."""
        span = Span(what, kind, time.time())
        self.spans.append(span)
        try:
            yield span
        except BaseException as error:
            span.outcome = span.outcome or f"FAILED: {str(error).splitlines()[0][:200] if str(error) else error!r}"
            raise
        finally:
            span.ended_s = time.time()

    def moves(self) -> list[MoveMade]:
        """The moves so far, from the balancers' logs."""
        for log in [log for logs in self._logs for log in logs()]:
            with contextlib.suppress(OSError):
                # the last line may be being written
                for line in log.read_text(errors="replace").rpartition("\n")[0].splitlines():
                    found = MOVE.match(line)
                    if found:
                        at, *rest = found.groups()
                        at_s = datetime.datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()
                        self._moves[MoveMade(at_s, *rest)] = None
        return list(self._moves)

    def count(self) -> int:
        """How many samples were taken."""
        return len(self._samples)

    def places(self, since: int) -> list[dict[str, list[str]]]:
        """Stream -> nodes where it ran, of each sample from the given one on."""
        return [running for _, _, running in self._samples[since:]]

    def close(self) -> None:
        """Take no more samples."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    # the page

    def write(self) -> Path:
        """Write the report, as far as there is something to say."""
        self.folder.mkdir(parents=True, exist_ok=True)
        figure = self._figure()
        figure.savefig(self.folder / "index.png", format="png", dpi=110)
        drawing = io.StringIO()
        figure.savefig(drawing, format="svg")
        page = self.folder / "index.html"
        page.write_text(self._page(drawing.getvalue()[drawing.getvalue().index("<svg") :]), encoding="utf-8")
        return page

    def _figure(self) -> Figure:
        samples = list(self._samples)  # more come meanwhile
        names = [name for name in self.factors if any(name in shown for _, shown, _ in samples)]
        rows = len(names) + 2
        figure = Figure(figsize=(18, 3.2 + 1.7 * len(names) + 0.55 * len(self.streams)), layout="constrained")
        heights = [*[1.7] * len(names), 0.55 * len(self.streams), 0.9]
        axes = figure.subplots(rows, 1, sharex=True, gridspec_kw={"height_ratios": heights})
        times = [(at - self.began_s) / 60 for at, _, _ in samples]
        colours = dict(zip(names, COLOURS, strict=False))
        for name, ax in zip(names, axes, strict=False):
            values = [shown.get(name, float("nan")) for _, shown, _ in samples]
            ax.fill_between(times, values, step="post", color=colours[name], alpha=0.25, linewidth=0)
            ax.step(times, values, where="post", color=colours[name], linewidth=1.4)
            ax.axhline(THRESHOLD, color="#868e96", linewidth=0.9, linestyle="--")
            ax.set_ylim(0, 105)
            ax.set_ylabel(f"{name}\nusage %", fontsize=10)
            ax.set_title(f"{name}: one analyzer is {self.factors[name]:g} %", loc="left", fontsize=10)
        self._draw_streams(axes[-2], times, [running for _, _, running in samples], colours)
        self._draw_spans(axes[-1])
        for ax in axes[:-1]:
            for span in self._faults():
                ax.axvspan(*self._minutes(span), color="#e03131", alpha=0.12, linewidth=0)
            ax.spines[["top", "right"]].set_visible(False)
        axes[-1].set_xlabel("minutes since the run began")
        figure.suptitle("Posture Farm, end to end: usage, places, moves and faults", fontsize=15, fontweight="bold")
        return figure

    def _draw_streams(
        self, ax: Any, times: Sequence[float], places: Sequence[Mapping[str, list[str]]], colours: Mapping[str, str]
    ) -> None:
        width = SAMPLE_S / 60
        for number, stream in enumerate(self.streams):
            for name, colour in colours.items():
                here = [at for at, running in zip(times, places, strict=True)
                        if name in running.get(stream, [])]  # fmt: skip
                ax.broken_barh(merged(here, width), (number - 0.35, 0.7), color=colour, alpha=0.85, linewidth=0)
        for count, move in enumerate(self.moves(), 1):
            if move.stream in self.streams:
                at, row = (move.at_s - self.began_s) / 60, self.streams.index(move.stream)
                ax.plot([at], [row], marker="v", color="black", markersize=6, zorder=5)
                ax.annotate(str(count), (at, row), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        ax.set_yticks(range(len(self.streams)), self.streams)
        ax.set_ylim(len(self.streams) - 0.4, -0.75)
        ax.set_title(
            "where each stream ran (gaps: nowhere); triangles: moves, numbered as below", loc="left", fontsize=10
        )
        ax.legend(handles=[Patch(color=colour, label=name) for name, colour in colours.items()], ncols=len(colours),
                  loc="lower right", bbox_to_anchor=(1, 1.0), frameon=False, fontsize=9)  # fmt: skip

    def _draw_spans(self, ax: Any) -> None:
        for number, span in enumerate(self.spans, 1):
            start, end = self._minutes(span)
            row, colour = (1, "#e03131") if span.kind == "fault" else (0, "#495057")
            bar, shade = [(start, max(end - start, 0.05))], 0.2 + 0.15 * (number // 2 % 2)
            ax.broken_barh(bar, (row - 0.4, 0.8), color=colour, alpha=shade, linewidth=0)
            ax.text(start, row, str(number), fontsize=8, va="center", ha="left")
        ax.set_yticks([0, 1], ["tests", "faults"])
        ax.set_ylim(1.6, -0.6)
        ax.set_title("tests and faults, numbered as below", loc="left", fontsize=10)
        ax.spines[["top", "right", "left"]].set_visible(False)

    def _faults(self) -> list[Span]:
        return [span for span in self.spans if span.kind == "fault"]

    def _minutes(self, span: Span) -> tuple[float, float]:
        ended_s = span.ended_s if span.ended_s is not None else time.time()
        return (span.began_s - self.began_s) / 60, (ended_s - self.began_s) / 60

    def _page(self, drawing: str) -> str:
        when = datetime.datetime.fromtimestamp(self.began_s, datetime.timezone.utc)
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}"
        failed = [span for span in self.spans if span.outcome.startswith("FAILED")]
        facts = {
            "began": f"{when:%Y-%m-%d %H:%M} UTC", "machine": machine,
            "result": f"{len(failed)} failed" if failed else "all passed", **self.facts,
        }  # fmt: skip
        accounts = [
            (name, one.stream, one.published, one.rows, one.missing, one.doubled, one.pictures, one.pictures_lost,
             one.without_picture, one.taken, one.sent_again, f"{one.downtime_s:g}")
            for name, of_streams in self.accounts for one in of_streams
        ]  # fmt: skip
        moves = [
            (number, clock(one.at_s), one.stream, one.kind, f"{one.source} → {one.destination}", one.why)
            for number, one in enumerate(self.moves(), 1)
        ]
        spans = [
            (number, clock(span.began_s), span.kind, span.what,
             f"{(span.ended_s or time.time()) - span.began_s:.0f}", span.outcome,
             "" if span.seen is None else span.seen.told, Picture(span.picture and f"{PICTURES}/{span.picture}"))
            for number, span in enumerate(self.spans, 1)
        ]  # fmt: skip
        return PAGE.format(
            facts=table(("", ""), list(facts.items())),
            drawing=drawing,
            accounts=table(
                ("during", "stream", "published", "rows", "missing", "doubled", "pictures", "lost with a disk",
                 "none, for a reason", "taken by a restore", "sent again", "longest gap, s"),
                accounts,
            ),
            moves=table(("#", "UTC", "stream", "kind", "way", "why"), moves),
            spans=table(("#", "UTC", "kind", "what", "s", "outcome", "alert", "on the dashboard"), spans),
        )  # fmt: skip


def clock(at_s: float) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.timezone.utc).strftime("%H:%M:%S")


def merged(times: Sequence[float], width: float) -> list[tuple[float, float]]:
    """Samples as bars: those that follow each other become one."""
    bars: list[list[float]] = []
    for at in times:
        if bars and at - (bars[-1][0] + bars[-1][1]) < 1.5 * width:
            bars[-1][1] = at + width - bars[-1][0]
        else:
            bars.append([at, width])
    return [(start, length) for start, length in bars]


@dataclass(frozen=True)
class Picture:
    """A cell of a table that shows a file of the report's folder; empty: none."""

    path: str


def cell(content: object) -> str:
    if not isinstance(content, Picture):
        return html.escape(str(content))
    path = html.escape(content.path)
    return f'<a href="{path}"><img src="{path}" alt="{path}" loading="lazy"></a>' if path else ""


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "<p>none</p>"
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell(content)}</td>" for content in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Posture Farm, end to end</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem;
  color: #212529; }}
svg {{ width: 100%; height: auto; }}
table {{ border-collapse: collapse; margin: .5rem 0 1.5rem; }}
th, td {{ border-bottom: 1px solid #dee2e6; padding: .2rem .7rem; text-align: left; vertical-align: top; }}
th {{ font-weight: 600; }}
td img {{ width: 260px; max-height: 200px; object-fit: cover; object-position: top; border: 1px solid #dee2e6; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
</style></head><body>
<h1>Posture Farm, end to end</h1>
{facts}
{drawing}
<h2>The account: published = rows + missing + taken by a restore, for each stream</h2>
{accounts}
<h2>Moves</h2>
{moves}
<h2>Tests and faults</h2>
{spans}
</body></html>
"""
