"""The report as one picture, for where HTML can't be shown: strips below each other, the charts as on the page."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from posture.charts.drawing import STATES, duration, percent
from posture.charts.style import LINE, MUTED, NO_FRAMES, SOFT, TEXT, as_png, plain, styled
from posture.report.charts import WIDTH_IN, charts_of
from posture.report.content import Report, StreamReport
from posture.report.tiles import HOW, caption, note_of, tiles_of

MARGIN_PX = 75
COLUMNS = 3
MOST_STREAMS = 8
"""With more the picture has the table of all alone: it would be taller than viewers take."""


def as_poster(report: Report) -> bytes:
    """Return the report as PNG."""
    with styled():
        strips = [_text(report.title, 17, bold=True), _text(_subject(report), 9.5, MUTED)]
        if len(report.streams) > 1:
            strips += [_text("All streams", 13, bold=True, space=0.25), _overview(report)]
        if len(report.streams) <= MOST_STREAMS:
            for stream in report.streams:
                if stream.has_frames:
                    strips += _stream(report, stream)
        strips += [_rule(), *[_text(line, 8, MUTED) for line in textwrap.wrap(HOW, 118)]]
        images = [_image(strip) for strip in strips]
    height = sum(image.height for image in images) + 2 * MARGIN_PX
    sheet = Image.new("RGB", (images[0].width + 2 * MARGIN_PX, height), "white")
    top = MARGIN_PX
    for image in images:
        sheet.paste(image, (MARGIN_PX, top))
        top += image.height
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def _image(figure: Figure) -> Image.Image:
    with Image.open(io.BytesIO(as_png(figure))) as picture:
        return picture.convert("RGB")


def _subject(report: Report) -> str:
    streams = f"Stream {report.streams[0].name}" if len(report.streams) == 1 else f"{len(report.streams)} streams"
    return f"{streams}. Times are those of {report.zone.key}."


def _strip(height: float) -> tuple[Figure, Axes]:
    """Return a strip of that height with axes in inches."""
    figure = Figure(figsize=(WIDTH_IN, height))
    axes = figure.add_axes((0, 0, 1, 1))
    plain(axes)
    axes.set_xlim(0, WIDTH_IN)
    axes.set_ylim(0, height)
    return figure, axes


def _text(text: str, size: float, colour: str = TEXT, *, bold: bool = False, space: float = 0.0) -> Figure:
    """Return a line of text with ``space`` inches above it."""
    height = size / 72 * 1.5
    figure, axes = _strip(height + space)
    axes.text(0, height / 2, text, size=size, color=colour, weight="bold" if bold else "normal", va="center")
    return figure


def _rule() -> Figure:
    figure, axes = _strip(0.4)
    axes.axhline(0.2, color=LINE, linewidth=0.8)
    return figure


def _overview(report: Report) -> Figure:
    row = 0.3
    figure, axes = _strip(row * (len(report.streams) + 1))
    columns = (0.0, 2.5, 3.1, 4.2)
    top = row * (len(report.streams) + 0.5)
    for left, heading in zip(columns, ("Stream", "Score", "Seated", "Bad stretches"), strict=True):
        axes.text(left, top, heading, color=MUTED, size=8.5, va="center")
    for number, stream in enumerate(report.streams):
        at = row * (len(report.streams) - number - 0.5)
        axes.axhline(at + row / 2, color=LINE, linewidth=0.6)
        axes.text(columns[0], at, textwrap.shorten(stream.name, 34, placeholder="..."), size=9, va="center")
        if not stream.has_frames:
            axes.text(columns[1], at, "no frames", color=MUTED, size=9, va="center")
            continue
        figures = (percent(stream.spent.score), duration(stream.spent.sitting_s), str(len(stream.bad)))
        for left, text in zip(columns[1:], figures, strict=True):
            axes.text(left, at, text, size=9, va="center")
        left, width = 5.3, WIDTH_IN - 5.3
        axes.add_patch(Rectangle((left, at - 0.06), width, 0.12, color=NO_FRAMES, linewidth=0))
        for _, field, colour in STATES:
            share = width * getattr(stream.spent, field) / stream.spent.total_s
            axes.add_patch(Rectangle((left, at - 0.06), share, 0.12, color=colour, linewidth=0))
            left += share
    return figure


def _stream(report: Report, stream: StreamReport) -> list[Figure]:
    strips = [_rule(), _tiles(stream)]
    if len(report.streams) > 1:
        strips.insert(1, _text(stream.name, 13, bold=True))
    for chart in charts_of(report, stream):
        strips += [_text(chart.heading, 9, MUTED, bold=True, space=0.2), chart.figure()]
    if stream.worst:
        strips.append(_text("The longest Bad stretches, each at its worst", 9, MUTED, bold=True, space=0.2))
        numbers = range(len(stream.worst))
        strips += [_pictures(report, stream, numbers[at : at + COLUMNS]) for at in range(0, len(numbers), COLUMNS)]
        if note := note_of(report, stream):
            strips.append(_text(note, 8, MUTED))
    return strips


def _tiles(stream: StreamReport) -> Figure:
    tiles = tiles_of(stream)
    height, gap = 0.72, 0.12
    figure, axes = _strip(height + 0.1)
    width = (WIDTH_IN - gap * (len(tiles) - 1)) / len(tiles)
    for number, tile in enumerate(tiles):
        left = number * (width + gap)
        axes.add_patch(
            FancyBboxPatch((left + 0.08, 0.13), width - 0.16, height - 0.16, boxstyle="round,pad=0.08",
                           color=SOFT, linewidth=0)
        )  # fmt: skip
        axes.text(left + 0.13, 0.52, tile.figure, size=14, weight="bold", va="center")
        axes.text(left + 0.13, 0.23, tile.label, size=8, color=MUTED, va="center")
    return figure


def _pictures(report: Report, stream: StreamReport, numbers: Sequence[int]) -> Figure:
    shown = any(stream.worst[number].picture is not None for number in numbers)
    gap, below = 0.15, 0.42
    width = (WIDTH_IN - gap * (COLUMNS - 1)) / COLUMNS
    height = width * 3 / 4 if shown else 0.0
    figure, axes = _strip(height + below + 0.08)
    for column, number in enumerate(numbers):
        left = column * (width + gap)
        picture = stream.worst[number].picture
        if picture is not None:
            axes.add_patch(Rectangle((left, below), width, height, color=SOFT, linewidth=0))
            with Image.open(io.BytesIO(picture)) as image:
                scale = min(width / image.width, height / image.height)
                wide, high = image.width * scale, image.height * scale
                x, y = left + (width - wide) / 2, below + (height - high) / 2
                axes.imshow(
                    image, extent=(x, x + wide, y, y + high), aspect="auto", interpolation="lanczos", zorder=2
                )
        when, angles = caption(report, stream, number)
        axes.text(left, below - 0.12, when, size=8.5, va="center")
        axes.text(left, below - 0.29, angles, size=8.5, color=MUTED, va="center")
    axes.set_xlim(0, WIDTH_IN)
    axes.set_ylim(0, height + below + 0.08)
    return figure
