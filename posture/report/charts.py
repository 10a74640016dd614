"""The charts of one stream, the same for page and poster; each has a heading, and words for who can't see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posture.charts.drawing import STATES, draw_day, draw_days, draw_heat_map, draw_shares, duration, percent
from posture.charts.style import as_svg, styled
from posture.report.content import Report, StreamReport

WIDTH_IN = 8.4


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        heading: what it shows.
        words: what it says, in words.
        height: in inches.
        draw: draws it on axes.
    """

    heading: str
    words: str
    height: float
    draw: Callable[[Axes], None]

    def figure(self) -> Figure:
        """Return it as a figure of its own; within ``styled``."""
        figure = Figure(figsize=(WIDTH_IN, self.height), layout="constrained")
        self.draw(figure.subplots())
        return figure

    def svg(self) -> bytes:
        """Return it as SVG."""
        with styled():
            return as_svg(self.figure())


def charts_of(report: Report, stream: StreamReport) -> list[Chart]:
    """Return a stream's charts in the order in which they are read."""
    spent = stream.spent
    names = report.names_of_days()
    shares = ", ".join(f"{name} {duration(getattr(spent, field))}" for name, field, _ in STATES)
    charts = [Chart("How the time was spent", shares, 0.75, lambda axes: draw_shares(axes, spent))]
    if len(stream.days) == 1:
        (day,) = stream.days
        charts.append(
            Chart(
                "Through the day",
                f"{len(day.sitting)} stretches of sitting, {len(day.bad)} Bad stretches",
                1.15,
                lambda axes: draw_day(axes, day.minutes, day.start, day.end, day.zone),
            )
        )
    else:
        scores = ", ".join(
            f"{name} {percent(day.spent.score)}" for name, day in zip(names, stream.days, strict=True)
        )
        charts.append(
            Chart(
                "Day by day, with each day's score",
                scores,
                2.3,
                lambda axes: draw_days(axes, names, [day.spent for day in stream.days]),
            )
        )
    charts.append(
        Chart(
            "Bad by the hour, per cent of the time with a verdict",
            _hours_in_words(stream),
            0.45 + 0.3 * len(stream.days),
            lambda axes: draw_heat_map(axes, names, [day.hours for day in stream.days]),
        )
    )
    return charts


def _hours_in_words(stream: StreamReport) -> str:
    hours = {
        hour: (
            sum(day.hours[hour].good_s for day in stream.days),
            sum(day.hours[hour].bad_s for day in stream.days),
        )
        for hour in range(24)
    }
    shares = [f"{hour} h {percent(bad / (good + bad))}" for hour, (good, bad) in hours.items() if good + bad]
    return ", ".join(shares) or "no verdicts"
