"""Draws what the database row says: skeleton, measured lines and figures, label, reason, advice, time, stream.

Privacy modes: ``photo`` draws on the picture, ``blurred_face`` leaves the body of the measured person and makes
heads and all the rest coarse first, ``skeleton`` draws on a plain ground and lets no pixel of the camera through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone

import cv2
import numpy as np
import numpy.typing as npt

from posture.analyzer.hiding import hide_people
from posture.verdict.facing import NOSE, SIDES
from posture.verdict.geometry import EARS, SHOULDERS
from posture.verdict.rule_sets import ADVICE, MIN_VISIBILITY, Landmarks, Verdict

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]  # blue, green, red

PICTURES = ("photo", "blurred_face", "skeleton")
STATUS_COLOURS: dict[str, Colour] = {"Good": (96, 214, 96), "Bad": (92, 92, 255), "Unknown": (64, 196, 255)}
WHITE: Colour = (245, 245, 245)
BONE: Colour = (225, 225, 225)
DARK: Colour = (24, 24, 24)  # a grey: _darken counts on it
GROUND: Colour = (48, 44, 40)

FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_CAP = 22.0  # pixels that a capital is high at scale 1
MIN_TEXT = 6  # pixels; smaller capitals can't be read

BONES = (
    *((11, 12), (11, 23), (12, 24), (23, 24)),  # trunk
    *((11, 13), (13, 15), (12, 14), (14, 16)),  # arms
    *((23, 25), (25, 27), (27, 31), (24, 26), (26, 28), (28, 32)),  # legs and feet
    *((7, 0), (8, 0)),  # ears to nose
)


def annotate(
    bgr: Picture,
    landmarks: Landmarks | None,
    verdict: Verdict,
    *,
    pi_id: str,
    when: datetime,
    max_width: int = 960,
    pictures: str = "photo",
) -> Picture:
    """The annotated picture, a new array; the input stays as it is.

    Args:
        bgr: the camera's picture, shape (height, width, 3).
        landmarks: in pixels of that picture, None when nobody was found; with the others, for
            ``blurred_face``.
        verdict: what the row says.
        pi_id: the stream's name.
        when: the picture was taken (aware; drawn in UTC).
        max_width: in pixels; a wider picture is reduced before anything is drawn.
        pictures: ``photo``, ``blurred_face`` or ``skeleton``.

    Raises:
        ValueError: an unknown value of pictures.
    """
    if pictures not in PICTURES:
        raise ValueError(f"pictures: {pictures!r} is unknown; accepted: {', '.join(PICTURES)}")
    height, width = bgr.shape[:2]
    scale = min(1.0, max_width / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    points = None if landmarks is None else landmarks.points * (scale, scale, 1.0)
    canvas: npt.NDArray[np.uint8]
    if pictures == "skeleton":
        canvas = np.full((size[1], size[0], 3), GROUND, np.uint8)
    else:
        canvas = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA) if scale < 1.0 else bgr.copy()
    if pictures == "blurred_face":
        others = () if landmarks is None else landmarks.others
        hide_people(canvas, points, [other.points * (scale, scale, 1.0) for other in others])
    text_px = _text_height(canvas)
    if points is not None:
        _draw_skeleton(canvas, points)
    panel_top = _draw_panel(canvas, verdict, pi_id, when, text_px)
    if points is not None and verdict.side in SIDES:
        _draw_measured(canvas, points, verdict, text_px, panel_top)
    if points is not None and verdict.head_drop is not None:
        _draw_head_height(canvas, points, verdict)
    return canvas


def _draw_skeleton(canvas: Picture, points: npt.NDArray[np.float64]) -> None:
    thick = _stroke(canvas)
    for start, end in BONES:
        if _drawable(points, start) and _drawable(points, end):
            _line(canvas, points[start], points[end], BONE, thick)
    for index in sorted({index for bone in BONES for index in bone}):
        if _drawable(points, index):
            _dot(canvas, points[index], BONE, thick)


def _draw_measured(
    canvas: Picture, points: npt.NDArray[np.float64], verdict: Verdict, text_px: int, panel_top: int
) -> None:
    """The two lines of the measured side, each with its angle beside it."""
    thick = 2 * _stroke(canvas)
    ear, shoulder, hip = (points[index] for index in SIDES[verdict.side])
    passed = verdict.reason.split("+")
    labels: list[tuple[float, float, str, Colour]] = []
    for name, upper, lower, angle in (
        ("neck", ear, shoulder, verdict.neck_angle),
        ("body", shoulder, hip, verdict.body_angle),
    ):
        colour = STATUS_COLOURS["Bad" if name in passed else "Good"]
        _line(canvas, upper, lower, colour, thick)
        if angle is not None:
            x, y = (upper[:2] + lower[:2]) / 2
            labels.append((x, y, _wording(name, angle), colour))
    for point in (ear, shoulder, hip):
        _dot(canvas, point, WHITE, thick)
    gap = 2.0 * text_px
    if panel_top < 8 * text_px:
        return  # the panel fills a small picture, and names both angles
    lowest = panel_top - gap / 2
    for x, y, text, colour in reversed(labels):  # upwards, so that no label covers another or the panel
        level = min(y, lowest)
        lowest = level - gap
        _label_beside(canvas, (x, level), text, colour, text_px)


def _draw_head_height(canvas: Picture, points: npt.NDArray[np.float64], verdict: Verdict) -> None:
    """The shoulder line, and how high the head stands over it; the panel has the figure."""
    thick = 2 * _stroke(canvas)
    left, right = points[list(SHOULDERS)]
    middle, head = (left + right) / 2, (points[list(EARS)].mean(axis=0) + points[NOSE]) / 2
    _line(canvas, left, right, WHITE, thick)
    _line(canvas, middle, head, STATUS_COLOURS[verdict.status], thick)
    for point in (left, right, head):
        _dot(canvas, point, WHITE, thick)


def _label_beside(canvas: Picture, at: tuple[float, float], text: str, colour: Colour, text_px: int) -> None:
    """Text on a plate to the right of a place, or to its left where the right has no room."""
    pad = max(2, text_px // 3)
    height, width = text_px + 2 * pad, _text_width(text, text_px) + 2 * pad
    left = at[0] + text_px
    if left + width > canvas.shape[1]:
        left = at[0] - text_px - width
    left = max(0, min(round(left), canvas.shape[1] - width))
    top = max(0, round(at[1] - height / 2))
    _darken(canvas[top : top + height, left : left + width])
    _text(canvas, text, (left + pad, top + pad + text_px), colour, text_px)


def _darken(region: Picture) -> None:
    """A translucent plate behind text, dark enough on any background."""
    if region.size:
        region[:] = cv2.convertScaleAbs(region, alpha=0.2, beta=0.8 * DARK[0])


def _draw_panel(canvas: Picture, verdict: Verdict, pi_id: str, when: datetime, text_px: int) -> int:
    """A dark panel in the lower left corner that always fits; returns the y of its upper edge."""
    height, width = canvas.shape[:2]
    pad = max(2, text_px // 2)
    room = width - 2 * pad
    lines: list[tuple[str, int, Colour]] = []
    for wordings, colour in _panel_lines(verdict, pi_id, when):
        text, size = _fit(wordings, room, text_px)
        lines.append((text, size, colour))
    step = text_px + max(3, text_px * 2 // 3)
    fitting = max(1, (height - 2 * pad + step - text_px) // step)
    lines = lines[:fitting]
    panel_height = min(height, (len(lines) - 1) * step + text_px + 2 * pad)
    panel_width = min(width, max(_text_width(text, size) for text, size, _ in lines) + 2 * pad)
    top: int = height - panel_height
    _darken(canvas[top:height, :panel_width])
    for index, (text, size, colour) in enumerate(lines):
        _text(canvas, text, (pad, top + pad + text_px + index * step), colour, size)
    return top


def _panel_lines(verdict: Verdict, pi_id: str, when: datetime) -> list[tuple[list[str], Colour]]:
    """Each line of the panel in wordings from the longest to the shortest, the most important line first."""
    name = pi_id.encode("ascii", "replace").decode()
    moment = when.astimezone(timezone.utc)
    clock = moment.strftime("%H:%M:%S")
    status = [f"{verdict.status}: {verdict.reason}", verdict.status] if verdict.reason else [verdict.status]
    lines: list[tuple[list[str], Colour]] = [(status, STATUS_COLOURS[verdict.status])]
    if verdict.neck_angle is not None and verdict.body_angle is not None:
        neck, body = round(abs(verdict.neck_angle)), round(abs(verdict.body_angle))
        long = f"{_wording('neck', verdict.neck_angle)}  {_wording('body', verdict.body_angle)}"
        lines.append(([long, f"neck {neck} body {body}", f"n {neck} b {body}"], WHITE))
    for what, drop in (("head", verdict.head_drop), ("sits", verdict.sitting_drop)):
        if drop is not None:
            low = f"{round(abs(100 * drop))} % {'lower' if drop >= 0 else 'higher'}"
            lines.append(([f"{what} {low} than calibrated", f"{what} {low}"], WHITE))
    if advice := ADVICE.get(verdict.reason):
        lines.append(([advice], WHITE))
    lines.append(([f"{name}  {moment:%Y-%m-%d} {clock} UTC", f"{name} {clock} UTC", f"{clock} UTC"], WHITE))
    return lines


def _wording(name: str, degrees: float) -> str:
    """As the row has it, a magnitude; direction in words. The fonts of cv2 have no degree sign."""
    return f"{name} {round(abs(degrees))} deg{' back' if round(degrees) < 0 else ''}"


def _fit(wordings: Sequence[str], room: int, text_px: int) -> tuple[str, int]:
    """The longest wording that fits into room pixels, and its size; the shortest one is cut if it must be."""
    for text in wordings:
        for size in (text_px, max(MIN_TEXT, text_px * 3 // 4)):
            if _text_width(text, size) <= room:
                return text, size
    text = wordings[-1]
    while len(text) > 1 and _text_width(text, MIN_TEXT) > room:
        text = text[:-1]
    return text, MIN_TEXT


def _text_height(canvas: Picture) -> int:
    """Height of capitals in pixels: a thirty-second of the picture's lesser side, within reason."""
    return int(min(max(min(canvas.shape[:2]) / 32, MIN_TEXT + 1), 28))


def _stroke(canvas: Picture) -> int:
    return max(1, round(int(min(canvas.shape[:2])) / 320))


def _weight(text_px: int) -> int:
    return max(1, round(text_px / 10))


def _text_width(text: str, text_px: int) -> int:
    (width, _), _ = cv2.getTextSize(text, FONT, text_px / FONT_CAP, _weight(text_px))
    return int(width)


def _text(canvas: Picture, text: str, at: tuple[int, int], colour: Colour, text_px: int) -> None:
    cv2.putText(canvas, text, at, FONT, text_px / FONT_CAP, colour, _weight(text_px), cv2.LINE_AA)


def _drawable(points: npt.NDArray[np.float64], index: int) -> bool:
    x, y, visibility = points[index].tolist()
    return math.isfinite(x) and math.isfinite(y) and visibility >= MIN_VISIBILITY


def _pixel(point: npt.NDArray[np.float64]) -> tuple[int, int]:
    # A landmark may lie far outside; drawing clips, but only what fits its integers.
    return min(max(round(float(point[0])), -10_000), 10_000), min(max(round(float(point[1])), -10_000), 10_000)


def _line(
    canvas: Picture,
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    colour: Colour,
    thick: int,
) -> None:
    """A line with a dark edge, visible on any background."""
    cv2.line(canvas, _pixel(start), _pixel(end), DARK, thick + 2, cv2.LINE_AA)
    cv2.line(canvas, _pixel(start), _pixel(end), colour, thick, cv2.LINE_AA)


def _dot(canvas: Picture, point: npt.NDArray[np.float64], colour: Colour, thick: int) -> None:
    cv2.circle(canvas, _pixel(point), thick + 2, DARK, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(canvas, _pixel(point), thick + 1, colour, cv2.FILLED, cv2.LINE_AA)
