"""The result of a run as one picture: for each stream, annotated frames and the angles over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posture.charts.drawing import draw_shares
from posture.charts.style import VERDICTS, styled
from posture.history.minutes import Spent
from posture.verdict.rule_sets import RULE_SETS

WIDTH_IN, SHARES_IN, PLOT_IN = 16.0, 0.55, 3.6
"""Inches, at 100 pixels each."""
COLUMNS, ROWS = 3, 2
CELL_WIDTH = 640
"""Pixels of one annotated frame in the sheet."""
NECK, BODY = "#1971c2", "#e8590c"

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class StreamResult:
    """One stream of a run.

    Attributes:
        pi_id: the stream's name.
        rows: of ``posture_log``, as mappings, in order of capture.
        pictures: the folder of its annotated pictures.
    """

    pi_id: str
    rows: Sequence[Mapping[str, Any]]
    pictures: Path

    def count(self, status: str) -> int:
        """Return the number of rows with this verdict."""
        return sum(row["posture_status"] == status for row in self.rows)


def draw(streams: Sequence[StreamResult], path: Path) -> None:
    """Write the summary as PNG.

    Args:
        streams: at least one; a stream without rows says so.
        path: of the picture, overwritten.

    Raises:
        OSError: the picture can't be written.
    """
    with styled():
        _draw(streams, path)


def _draw(streams: Sequence[StreamResult], path: Path) -> None:
    sheets = [_sheet(stream) for stream in streams]
    heights = [WIDTH_IN * 0.9 * (0.1 if sheet is None else sheet.shape[0] / sheet.shape[1]) for sheet in sheets]
    figure = Figure(
        figsize=(WIDTH_IN, sum(heights) + len(streams) * (SHARES_IN + PLOT_IN + 0.8)), dpi=100, layout="constrained"
    )
    ratios = [height + SHARES_IN + PLOT_IN for height in heights]
    parts = figure.subfigures(len(streams), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for part, stream, sheet, height in zip(parts, streams, sheets, heights, strict=True):
        top, middle, bottom = part.subplots(3, 1, gridspec_kw={"height_ratios": [height, SHARES_IN, PLOT_IN]})
        part.suptitle(_title(stream), fontsize=16, fontweight="bold")
        _draw_sheet(top, sheet)
        draw_shares(middle, _spent(stream))
        draw_angles(bottom, stream)
    figure.savefig(path, format="png")


def _title(stream: StreamResult) -> str:
    counts = ", ".join(f"{status} {stream.count(status)}" for status in VERDICTS)
    return f"{stream.pi_id}: {len(stream.rows)} frames ({counts})"


def _spent(stream: StreamResult) -> Spent:
    """Return how the run was spent: a camera's frames come evenly, so each counts alike."""
    away = sum(row["reason"] == "no_person" for row in stream.rows)
    return Spent(stream.count("Good"), stream.count("Bad"), stream.count("Unknown") - away, away)


def _sheet(stream: StreamResult) -> Picture | None:
    kept = [row for row in stream.rows if row["filename"]]
    if not kept:
        return None
    chosen = _spread(kept, COLUMNS * ROWS)
    frames = [picture for row in chosen if (picture := _read(stream.pictures / row["filename"])) is not None]
    return contact_sheet(frames) if frames else None


def _draw_sheet(axes: Axes, sheet: Picture | None) -> None:
    axes.axis("off")
    if sheet is None:
        axes.text(0.5, 0.5, "no pictures were kept", ha="center", va="center", fontsize=14)
    else:
        axes.imshow(sheet[:, :, ::-1])


def _spread(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """Return up to ``count`` rows, evenly over time, with every verdict that occurs among them."""
    positions = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))
    chosen = {int(position) for position in positions}
    shown = {rows[position]["posture_status"] for position in chosen}
    for status in VERDICTS:
        of_status = [position for position, row in enumerate(rows) if row["posture_status"] == status]
        if of_status and status not in shown:
            middle = of_status[len(of_status) // 2]
            # it replaces the nearest row whose verdict is shown by another row, too
            others = [
                position
                for position in chosen
                if sum(rows[other]["posture_status"] == rows[position]["posture_status"] for other in chosen) > 1
            ]
            if others:
                chosen.remove(min(others, key=lambda position: abs(position - middle)))
            chosen.add(middle)
    return [rows[position] for position in sorted(chosen)]


def _read(path: Path) -> Picture | None:
    picture = cv2.imread(str(path))
    return None if picture is None else np.asarray(picture, np.uint8)


def contact_sheet(frames: Sequence[Picture]) -> Picture:
    """Lay frames out in a grid.

    Args:
        frames: BGR, HxWx3, of any sizes; at least one.

    Returns:
        One BGR picture, with cells CELL_WIDTH wide and as high as the highest frame, but no higher than that.
    """
    small = [_fitted(frame) for frame in frames]
    height = max(frame.shape[0] for frame in small)
    columns = min(COLUMNS, len(small))
    lines = -(-len(small) // columns)
    gap = 8
    sheet = np.full((lines * (height + gap) - gap, columns * (CELL_WIDTH + gap) - gap, 3), 255, np.uint8)
    for number, frame in enumerate(small):
        top, left = number // columns * (height + gap), number % columns * (CELL_WIDTH + gap)
        sheet[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return sheet


def _fitted(frame: Picture) -> Picture:
    scale = CELL_WIDTH / max(frame.shape[:2])
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def draw_angles(axes: Axes, stream: StreamResult) -> None:
    """Plot neck and body angle (degrees) over time (seconds), on a background coloured by verdict.

    Args:
        axes: to draw on; the legend stands to the right of them.
        stream: its rows, in order of capture.
    """
    axes.set_xlabel("seconds")
    axes.set_ylabel("angle to the vertical (degrees)")
    axes.grid(alpha=0.3)
    if not stream.rows:
        axes.text(0.5, 0.5, "no rows", ha="center", va="center", transform=axes.transAxes, fontsize=14)
        return
    times = _seconds(stream.rows)
    for name, colour in (("neck", NECK), ("body", BODY)):
        # NaN leaves a gap in the line where there is no verdict
        angles = [np.nan if row[f"{name}_angle"] is None else row[f"{name}_angle"] for row in stream.rows]
        axes.plot(times, angles, color=colour, linewidth=1.5, marker=".", markersize=4, label=name)
    # rows without a verdict have the rule set that was chosen, which may be auto
    deciding = [str(row["rule_set"]) for row in stream.rows if row["posture_status"] != "Unknown"]
    rule_set = deciding[-1] if deciding else str(stream.rows[-1]["rule_set"])
    _draw_limits(axes, rule_set)
    _draw_verdicts(axes, times, [str(row["posture_status"]) for row in stream.rows])
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title=f"rule set {rule_set}")


def _draw_limits(axes: Axes, rule_set: str) -> None:
    rule = RULE_SETS[rule_set]
    for name, band, colour in (("neck", rule.neck, NECK), ("body", rule.body, BODY)):
        if band is not None:
            axes.axhline(band.high, color=colour, linestyle="--", linewidth=1, label=f"{name} limit {band.high:g}")
            if band.low is not None:
                axes.axhline(band.low, color=colour, linestyle=":", linewidth=1, label=f"{name} from {band.low:g}")


def _draw_verdicts(axes: Axes, times: Sequence[float], verdicts: Sequence[str]) -> None:
    """Colour the background of each frame's time span by its verdict."""
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    for status, colour in VERDICTS.items():
        stretches = [
            (at, min(following - at, 5 * step))
            for at, following, verdict in zip(times, [*times[1:], times[-1] + step], verdicts, strict=True)
            if verdict == status
        ]
        if stretches:
            axes.broken_barh(
                stretches, (0, 1), transform=axes.get_xaxis_transform(), color=colour, alpha=0.22, linewidth=0,
                label=status,
            )  # fmt: skip
    axes.set_xlim(times[0], times[-1] + step)


def _seconds(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    stamps = [_time(row) for row in rows]
    return [(stamp - stamps[0]).total_seconds() for stamp in stamps]


def _time(row: Mapping[str, Any]) -> datetime:
    # Python 3.10 doesn't read the Z
    return datetime.fromisoformat(str(row["captured_time"] or row["received_time"]).replace("Z", "+00:00"))
