"""One picture of a simulated run: each node's load over time, and each move."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from posture.planning.model import MoveKind
from posture.simulator.simulation import Result

# blue to white below the threshold, orange to dark red above it: also told apart by the colour-blind
COLOURS = LinearSegmentedColormap.from_list("load", ["#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b"])
Floats = NDArray[np.float64]
FORMATS = ("png", "svg", "pdf")
LOST = "#555555"
MOVES = {MoveKind.OFFLOAD: "#111111", MoveKind.RESTART: "#1b7837", MoveKind.FAILOVER: "#762a83"}
NAMES_UP_TO = 50
"""With more nodes than this the axis has numbers instead of names."""


def draw(result: Result, path: Path) -> None:
    """Write the picture.

    Args:
        result: a run.
        path: the file; its ending, one of FORMATS, says the format.
    """
    nodes = list(result.scenario.nodes)
    height = 3.2 + min(0.26 * len(nodes), 7.0)
    figure, (heat, lines) = plt.subplots(
        2,
        1,
        sharex=True,
        figsize=(11, height),
        layout="constrained",
        gridspec_kw={"height_ratios": [height - 2.6, 1.6]},
    )
    minutes = np.array(result.timeline.times_s) / 60
    usage = np.array(result.timeline.usage)
    _draw_heat(heat, result, minutes, usage)
    _draw_moves(heat, result, nodes)
    _draw_lines(lines, result, minutes, usage)
    figure.suptitle(headline(result), x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def headline(result: Result) -> str:
    """Return the outcome in one line."""
    scenario = result.scenario
    end = f"stable after {result.loops_to_stable} loops" if result.stable else f"not stable in {result.loops} loops"
    return (
        f"{scenario.jobs} streams on {len(scenario.nodes)} nodes, {scenario.policy}, "
        f"threshold {scenario.threshold:g}: {end}, {result.moves} moves"
    )


def _draw_heat(axes: Axes, result: Result, minutes: Floats, usage: Floats) -> None:
    threshold = min(max(result.scenario.threshold, 1.0), 99.0)
    norm = TwoSlopeNorm(vcenter=threshold, vmin=0, vmax=100)
    colours = COLOURS.copy()
    colours.set_bad(LOST)
    step = minutes[1] - minutes[0] if len(minutes) > 1 else 1.0
    extent = (0.0, float(minutes[-1] + step), len(usage[0]) - 0.5, -0.5)
    image = axes.imshow(usage.T, aspect="auto", interpolation="nearest", cmap=colours, norm=norm, extent=extent)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, ticks=[0, threshold / 2, threshold, 100], extend="max")
    bar.set_label("load, points (white: the threshold)")
    names = list(result.scenario.nodes)
    if len(names) <= NAMES_UP_TO:
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_yticks(np.arange(0.5, len(names) - 1), minor=True)
        axes.grid(which="minor", axis="y", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
    else:
        axes.set_ylabel("node, by number")


def _draw_moves(axes: Axes, result: Result, nodes: list[str]) -> None:
    """Draw each move as a line from its source to a dot at its destination."""
    index = {name: number for number, name in enumerate(nodes)}
    many = len(result.timeline.moves) > 150
    seen = set()
    before: dict[float, int] = {}
    aside = result.timeline.times_s[-1] / 60 / 250
    for time_s, move in result.timeline.moves:
        # moves of one loop side by side, or they would hide each other
        nth = before[time_s] = before.get(time_s, -1) + 1
        minute = time_s / 60 + (0.0 if many else aside * nth)
        ends = [index[move.source], index[move.destination]]
        seen.add(move.kind)
        colour = MOVES[move.kind]
        axes.plot([minute, minute], ends, color=colour, linewidth=0.3 if many else 1, alpha=0.3 if many else 0.9)
        axes.plot(minute, ends[1], "o", color=colour, markersize=1.5 if many else 4)
    marks: list[Line2D | Patch] = [
        Line2D([], [], color=MOVES[kind], marker="o", markersize=4, linewidth=1, label=f"{kind.value} (dot: to)")
        for kind in MoveKind
        if kind in seen
    ]
    if any(np.isnan(row).any() for row in result.timeline.usage):
        marks.append(Patch(color=LOST, label="node lost"))
    if marks:
        axes.legend(
            handles=marks, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(marks), fontsize=8, frameon=False
        )


def _draw_lines(axes: Axes, result: Result, minutes: Floats, usage: Floats) -> None:
    axes.plot(minutes, np.nanmax(usage, axis=1), color="#b2182b", label="fullest node")
    axes.plot(minutes, np.nanmean(usage, axis=1), color="#2166ac", label="mean")
    axes.axhline(result.scenario.threshold, color="#111111", linewidth=1, linestyle="--", label="threshold")
    axes.axhline(
        result.bounds.max_load, color="#888888", linewidth=1, linestyle=":", label="least possible maximum"
    )
    axes.set_ylim(0, max(float(np.nanmax(usage)), result.scenario.threshold) * 1.1)
    axes.set_xlabel("minutes")
    axes.set_ylabel("points")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, fontsize=8, frameon=False, borderaxespad=0.2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
