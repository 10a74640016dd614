"""Colours and type of all drawings, those of the page's light theme; how figures become files."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.use("Agg")  # no display is needed

GOOD, BAD, UNKNOWN, AWAY, NO_FRAMES = "#3fa27e", "#dd6b43", "#b3bac2", "#a9c1d8", "#eef0ed"
TEXT, MUTED, LINE, SOFT = "#1d2320", "#5a635e", "#e2e5e0", "#f6f7f5"
VERDICTS = {"Good": GOOD, "Bad": BAD, "Unknown": UNKNOWN}
DPI = 150
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "text.color": TEXT,
    # a stream's name is no formula
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "svg.hashsalt": "posture",
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draw in our style; figures have to be saved within it, too."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # a letter that the font lacks, in a stream's name, is a box
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def as_png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, facecolor="white")
    return file.getvalue()


def as_svg(figure: Figure) -> bytes:
    """Return a figure as SVG whose letters are outlines, so that it looks the same everywhere."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def plain(axes: Axes) -> None:
    """Leave nothing of the axes but what is drawn on them."""
    axes.axis("off")
