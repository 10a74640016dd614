"""Which Bad stretches are shown, and with what picture.

By ``analyzer.pictures``: ``photo`` and ``blurred_face`` show what the analyzer has kept, ``skeleton`` draws the
row's landmarks anew, whatever lies on the disk from before, so that no pixel of a camera gets in; ``none`` shows
nothing.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, UnidentifiedImageError

from posture.history.questions import Day, History, captured
from posture.history.reader import StoredRow
from posture.history.stretches import Stretch
from posture.pictures.base import Pictures
from posture.pictures.folder import PictureFolder
from posture.pictures.opening import open_pictures
from posture.settings.paths import pictures_of
from posture.settings.table import Analyzer

MOST = 6
"""Pictures of a stream."""
LOOKED_AT = 12
"""So many of the longest stretches are looked at: some have no picture that was kept."""
ROWS = 3_000
"""Of a stretch, so many rows are looked through."""
LATE = timedelta(minutes=1)
SIZE = (480, 360)
MOST_PIXELS = 40_000_000
"""A picture of the analyzer has less than one; what says that it has more is not opened."""
GROUND, BONE, WARNING = "#302c28", "#e1e1e1", "#ffa585"
BONES = (
    *((11, 12), (11, 23), (12, 24), (23, 24)),
    *((11, 13), (13, 15), (12, 14), (14, 16)),
    *((23, 25), (25, 27), (24, 26), (26, 28)),
    *((7, 0), (8, 0), (7, 11), (8, 12)),
)
SEEN = 0.5
"""A landmark less visible than this is not drawn."""


@dataclass(frozen=True)
class Worst:
    """A Bad stretch with its worst frame.

    Attributes:
        stretch: the stretch.
        at: when the frame was captured.
        neck: its angle in degrees, if it has one.
        body: likewise.
        picture: JPEG; None where none may or can be shown.
    """

    stretch: Stretch
    at: datetime
    neck: float | None
    body: float | None
    picture: bytes | None


def worst_of(
    history: History, pi_id: str, days: Sequence[Day], options: Analyzer, folder: Path | None
) -> list[Worst]:
    """Return the longest Bad stretches, the longest first, with their worst frames.

    Args:
        history: of the database.
        pi_id: the stream.
        days: whose stretches.
        options: what may be shown, and where it is.
        folder: of all streams' pictures, instead of the store in the settings.

    Raises:
        PicturesUnavailableError: the store of the pictures does not answer, or refuses us.
    """
    stretches = sorted((stretch for day in days for stretch in day.bad), key=lambda stretch: -stretch.duration_s)
    if folder is None:
        pictures = open_pictures(options, pi_id)
    else:
        pictures = PictureFolder(folder / pictures_of(options, pi_id).name)
    found: list[Worst] = []
    for stretch in stretches[:LOOKED_AT]:
        rows = itertools.islice(history.rows(pi_id, stretch.start, stretch.end, late=LATE), ROWS)
        worst = _worst_frame(history, pi_id, stretch, rows, options.pictures, pictures)
        if worst is not None:
            found.append(worst)
        if len([worst for worst in found if worst.picture or options.pictures == "none"]) == MOST:
            break
    return [worst for worst in found if worst.picture] or found[:MOST]


def _worst_frame(
    history: History, pi_id: str, stretch: Stretch, rows: Iterable[StoredRow], mode: str, pictures: Pictures
) -> Worst | None:
    bad = sorted((row for row in rows if row["posture_status"] == "Bad"), key=_badness, reverse=True)
    if mode != "none":
        for row in bad[:LOOKED_AT] if mode == "skeleton" else [row for row in bad if row["filename"]][:LOOKED_AT]:
            picture = _drawn(history.frame(pi_id, row["frame_id"])) if mode == "skeleton" else _kept(pictures, row)
            if picture is not None:
                return _shown(stretch, row, picture)
    return _shown(stretch, bad[0], None) if bad else None


def _badness(row: StoredRow) -> float:
    return float((row["neck_angle"] or 0.0) + (row["body_angle"] or 0.0))


def _shown(stretch: Stretch, row: StoredRow, picture: bytes | None) -> Worst:
    return Worst(stretch, captured(row), row["neck_angle"], row["body_angle"], picture)


def _kept(pictures: Pictures, row: StoredRow) -> bytes | None:
    """Return the picture that a row names, made small; None if there is none that can be read."""
    kept = pictures.read(str(row["filename"]))
    if kept is None:
        return None
    try:
        with Image.open(io.BytesIO(kept), formats=("JPEG",)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                return None
            picture.draft("RGB", (2 * SIZE[0], 2 * SIZE[1]))
            small = picture.convert("RGB")
            small.thumbnail(SIZE)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None
    return _jpeg(small)


def _drawn(row: StoredRow | None) -> bytes | None:
    """Return a drawing of a row's landmarks on plain ground; None if it has none that can be drawn."""
    points = _points(row["landmarks"]) if row is not None else {}
    if len(points) < 3:
        return None
    left, right = min(x for x, _ in points.values()), max(x for x, _ in points.values())
    top, bottom = min(y for _, y in points.values()), max(y for _, y in points.values())
    scale = min(0.84 * SIZE[0] / max(right - left, 1e-6), 0.84 * SIZE[1] / max(bottom - top, 1e-6))
    middle = ((left + right) / 2, (top + bottom) / 2)
    at = {
        index: (SIZE[0] / 2 + (x - middle[0]) * scale, SIZE[1] / 2 + (y - middle[1]) * scale)
        for index, (x, y) in points.items()
    }
    # drawn twice as large and made small, so that lines are smooth
    picture = Image.new("RGB", (2 * SIZE[0], 2 * SIZE[1]), GROUND)
    pen = ImageDraw.Draw(picture)
    for start, end in BONES:
        if start in at and end in at:
            colour = WARNING if {start, end} <= {7, 8, 11, 12, 23, 24} else BONE
            pen.line([_twice(at[start]), _twice(at[end])], fill=colour, width=9)
    for point in at.values():
        x, y = _twice(point)
        pen.ellipse((x - 8, y - 8, x + 8, y + 8), fill=BONE)
    return _jpeg(picture.resize(SIZE, Image.Resampling.LANCZOS))


def _twice(point: tuple[float, float]) -> tuple[float, float]:
    return 2 * point[0], 2 * point[1]


def _points(text: Any) -> dict[int, tuple[float, float]]:
    """Return the landmarks that were seen and are drawn, in pixels of the camera's picture."""
    wanted = {index for bone in BONES for index in bone}
    try:
        found = [[float(number) for number in point[:3]] for point in json.loads(text or "[]")]
        return {
            index: (x, y)
            for index, (x, y, visibility) in enumerate(found)
            if index in wanted and visibility >= SEEN and abs(x) < 1e6 and abs(y) < 1e6
        }
    except (TypeError, ValueError, KeyError, RecursionError):
        return {}


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=82)
    return file.getvalue()
