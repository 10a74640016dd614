"""The figures that stand above a stream's charts, the same for page and poster."""

from __future__ import annotations

from dataclasses import dataclass

from posture.charts.drawing import duration, percent
from posture.report.content import Report, StreamReport

HOW = (
    "Score: Good of the time with a verdict. Seated: somebody was seen. A break: five minutes without anybody. "
    "A Bad stretch: one slouch of three seconds or more, however long. A frame counts for at most ten seconds."
)


@dataclass(frozen=True)
class Tile:
    """A figure and what it is."""

    figure: str
    label: str


def tiles_of(stream: StreamReport) -> list[Tile]:
    """Return a stream's figures in the order in which they are asked for."""
    longest = stream.longest
    return [
        Tile(percent(stream.spent.score), "score"),
        Tile(duration(stream.spent.sitting_s), "seated"),
        Tile(duration(longest.duration_s) if longest else "\u2013", "longest sitting"),
        Tile(str(stream.breaks), "break" if stream.breaks == 1 else "breaks"),
        Tile(str(len(stream.bad)), "Bad stretch" if len(stream.bad) == 1 else "Bad stretches"),
    ]


def note_of(report: Report, stream: StreamReport) -> str:
    """Return what is to be said about the pictures; nothing where they are the analyzer's own."""
    if report.pictures == "none":
        return "No pictures are shown: analyzer.pictures is none."
    if not any(worst.picture for worst in stream.worst):
        return "No picture of them was kept, or it is not on this machine."
    if report.pictures == "skeleton":
        return "Drawn from the landmarks: analyzer.pictures is skeleton, so no picture of a camera is shown."
    return ""


def caption(report: Report, stream: StreamReport, number: int) -> tuple[str, str]:
    """Return two lines about one of the worst stretches: when and how long, and the angles."""
    worst = stream.worst[number]
    at = worst.at.astimezone(report.zone)
    when = f"{at:%H:%M}" if len(stream.days) == 1 else f"{at:%a} {at:%H:%M}"
    angles = [
        f"{name} {angle:.0f}\u00b0"
        for name, angle in (("neck", worst.neck), ("body", worst.body))
        if angle is not None
    ]
    return f"{when}, Bad for {duration(worst.stretch.duration_s)}", ", ".join(angles)
