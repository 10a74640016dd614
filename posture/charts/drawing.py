"""Each drawing on axes of the caller's: shares, the day's time line, days side by side, the heat map by hour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MultipleLocator

from posture.charts.style import AWAY, BAD, GOOD, LINE, MUTED, NO_FRAMES, SOFT, TEXT, UNKNOWN, plain
from posture.history.minutes import Spent, SpentMinute

STATES = (
    ("Good", "good_s", GOOD),
    ("Bad", "bad_s", BAD),
    ("Unknown", "unknown_s", UNKNOWN),
    ("nobody there", "away_s", AWAY),
    ("no frames", "no_frames_s", NO_FRAMES),
)
"""In the order of every drawing and legend."""
SEATED = STATES[:3]
HEAT = LinearSegmentedColormap.from_list("heat", ["#dff1e9", "#f8e3a8", BAD])
HEAT.set_bad(SOFT)
STEP_MIN = 5
LEAST_JUDGED_S = 60
"""An hour with less time with a verdict has no colour in the heat map: a minute says nothing about it."""


def duration(seconds: float) -> str:
    """Return a length of time in words that fit a tile: 5 h 12 min, 47 min, 31 s."""
    if seconds < 60:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def percent(share: float | None) -> str:
    """Return a share as whole per cent; none is a dash."""
    return "\u2013" if share is None else f"{100 * share:.0f} %"


def draw_shares(axes: Axes, spent: Spent) -> None:
    """Draw one bar that is divided as the time was, with a legend below it."""
    plain(axes)
    left = 0.0
    for name, field, colour in STATES:
        share = getattr(spent, field) / spent.total_s if spent.total_s else 0.0
        if not share:
            continue
        axes.barh(0, share, left=left, color=colour, height=1, linewidth=0, label=f"{name} {percent(share)}")
        if share >= 0.06:
            ink = "white" if colour in (GOOD, BAD) else TEXT
            axes.text(left + share / 2, 0, percent(share), ha="center", va="center", color=ink, fontsize=9)
        left += share
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.5, 0.5)
    if not left:
        axes.text(0.5, 0, "no frames", ha="center", va="center", color=MUTED)
        return
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=5, frameon=False, handlelength=0.9, handleheight=0.9,
        labelcolor=MUTED, fontsize=8.5,
    )  # fmt: skip


def draw_day(axes: Axes, minutes: Sequence[SpentMinute], start: datetime, end: datetime, zone: ZoneInfo) -> None:
    """Draw how each five minutes of a day were spent, over the viewer's clock.

    Args:
        axes: to draw on.
        minutes: the day's, from its first moment on.
        start: the day's first moment.
        end: the next day's.
        zone: the viewer's.
    """
    length = round((end - start).total_seconds() / 60)
    groups = [minutes[at : at + STEP_MIN] for at in range(0, len(minutes), STEP_MIN)]
    edges = [*range(0, len(groups) * STEP_MIN, STEP_MIN), len(groups) * STEP_MIN]
    bottom = np.zeros(len(groups))
    axes.axhspan(0, 1, color=NO_FRAMES, linewidth=0)
    for _, field, colour in STATES[:4]:
        shares = [sum(getattr(minute.spent, field) for minute in group) / (60 * len(group)) for group in groups]
        top = bottom + np.array(shares)
        if groups:
            axes.stairs(top, edges, baseline=bottom, fill=True, color=colour, linewidth=0)
        bottom = top
    ticks = list(range(0, length + 1, 180))
    clock = [(start + timedelta(minutes=at)).astimezone(zone).strftime("%H:%M") for at in ticks]
    axes.set_xticks(ticks, clock)
    axes.set_yticks([])
    axes.set_xlim(0, length)
    axes.set_ylim(0, 1)


def draw_days(axes: Axes, names: Sequence[str], spent: Sequence[Spent]) -> None:
    """Draw days side by side: how many hours somebody sat well, badly, and without a verdict; the score above."""
    bottom = np.zeros(len(spent))
    for name, field, colour in SEATED:
        hours = np.array([getattr(each, field) for each in spent]) / 3600
        axes.bar(names, hours, bottom=bottom, color=colour, width=0.62, linewidth=0, label=name)
        bottom += hours
    highest = max(1.0, float(bottom.max()))
    for at, (top, each) in enumerate(zip(bottom, spent, strict=True)):
        axes.text(at, top + highest * 0.02, percent(each.score), ha="center", va="bottom", fontsize=8.5)
    axes.set_ylim(0, highest * 1.14)
    axes.set_ylabel("hours seated")
    axes.yaxis.set_major_locator(MultipleLocator(max(1, math.ceil(highest / 5))))
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)


def draw_heat_map(axes: Axes, names: Sequence[str], hours: Sequence[Sequence[Spent]]) -> None:
    """Draw for each day a line of its 24 hours: the share of Bad of the time with a verdict, in per cent.

    Args:
        axes: to draw on.
        names: of the days.
        hours: each day's, by the clock.
    """
    shares = np.full((len(hours), 24), np.nan)
    for row, day in enumerate(hours):
        for hour, spent in enumerate(day):
            if spent.score is not None and spent.good_s + spent.bad_s >= LEAST_JUDGED_S:
                shares[row, hour] = 1 - spent.score
    axes.pcolormesh(shares, cmap=HEAT, vmin=0, vmax=1, edgecolors="white", linewidth=1.5)
    for row, hour in zip(*np.nonzero(~np.isnan(shares)), strict=True):
        share = shares[row, hour]
        ink = "white" if share > 0.75 else TEXT
        axes.text(hour + 0.5, row + 0.5, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks([hour + 0.5 for hour in range(0, 24, 2)], [f"{hour:02}" for hour in range(0, 24, 2)])
    axes.set_yticks([row + 0.5 for row in range(len(names))], names)
    axes.invert_yaxis()
    axes.spines["bottom"].set_visible(False)
