"""Still scenes: whether so little has changed since a frame was measured that its landmarks count again. Pure.

What a camera sees of somebody who sits still differs from frame to frame by the noise of its sensor and of its
compression, and by the flicker of lamps. How much the noise is, is learned from frame to frame. What differs by
more than a multiple of it has moved, in however small a part of the person or of the picture: a head that nods
while all else is still changes few cells, but those by much. The comparison is always with the frame that was
measured, never with one for which its landmarks counted again: so a slow movement adds up until it is seen.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from posture.analyzer.people import span
from posture.verdict.persons import Person
from posture.verdict.rule_sets import Landmarks

Cells = npt.NDArray[np.float32]
"""Mean brightness, 0 to 255, of the squares that a part of a picture is divided into."""

OLDEST_S = 2.0
"""So long landmarks count, by the camera's clock."""
GAP_S = 1.0
"""After a longer time without a frame anything may have happened."""
CALM_FRAMES, FOUND_FRAMES = 4, 20
"""So many frames in which nothing moves are measured after a movement, and after somebody was found anew: the
tracker's smoothing lags behind."""
CELLS = 40
"""Along the longer side of the person's region: a trunk that leans by a degree moves the head by a third of one."""
ROOM = 0.1
"""Around the person, as a share of the longer side: what is behind tells the light of a row."""
SMALLEST_CELL = 4
"""Pixels a side."""
FEWEST_CELLS = 6
"""Along the shorter side: in fewer nothing can be told from noise."""
TIMES_NOISE = 7.0
"""What has changed by so many standard deviations has moved: of some thousand cells noise alone reaches four."""
LEAST, MOST = 4.0, 8.0
"""The limit's own bounds, in brightness: compression alone reaches the first; where noise would hide a change of
the second, every frame is measured."""
LEARNED_FROM, REMEMBERED = 5, 50
"""Frames whose noise must be known, and is kept in mind."""
FLICKER = 0.2
"""By what share a lamp's light may differ; by more, somebody has switched it."""
DEVIATIONS = 1.4826
"""Standard deviation of a normal distribution whose absolute values have the median 1."""


@dataclass(frozen=True)
class Frame:
    """What is compared of a frame.

    Attributes:
        picture: BGR.
        thumbnail: all of it in grey, a few cells a side.
        at: when it was taken, in seconds, by the camera's clock.
        clock_id: names that clock; empty: the camera has none, so nobody knows how old its frames are.
    """

    picture: npt.NDArray[np.uint8]
    thumbnail: Cells
    at: float
    clock_id: str


class StillScene:
    """One stream's memory of the frame that was measured last. Give it every frame, in order."""

    def __init__(self) -> None:
        self._region: _Region | None = None
        self._measured_at, self._last_at, self._clock_id = 0.0, 0.0, ""
        self._person, self._all = _Watched(), _Watched()
        self._wait = FOUND_FRAMES

    def lasts(self, frame: Frame) -> bool:
        """Return whether what was measured last counts for this frame, too; if it isn't used, call ``measured``."""
        region, since_last = self._region, frame.at - self._last_at
        self._last_at = frame.at
        if (
            region is None
            or not frame.clock_id
            or frame.clock_id != self._clock_id
            or not 0 < since_last <= GAP_S
            or frame.picture.shape != region.shape
        ):
            self._wait = max(self._wait, CALM_FRAMES)
            return False
        # both are asked, for both learn from the answer
        moved = self._person.has_moved(region.cells(frame.picture)), self._all.has_moved(frame.thumbnail)
        self._wait = max(self._wait - 1, CALM_FRAMES if any(moved) else -1)
        return self._wait < 0 and frame.at - self._measured_at <= OLDEST_S

    def measured(self, frame: Frame, landmarks: Landmarks | None, *, tracked: bool) -> None:
        """Take in a frame that was measured.

        Args:
            frame: given to ``lasts`` before.
            landmarks: of the measured person, with all others who are there; None: nobody is.
            tracked: from the frame before; False: found anew.
        """
        self._region = None
        if not tracked:
            self._wait = FOUND_FRAMES
        if landmarks is None or landmarks.others or landmarks.contested:
            return
        self._region = _region_of(landmarks, frame.picture)
        if self._region is not None:
            self._measured_at, self._clock_id = frame.at, frame.clock_id
            self._person.begin(self._region.cells(frame.picture))
            self._all.begin(frame.thumbnail)


class _Watched:
    """Cells, and whether any of them has changed by more than noise since they were taken in."""

    def __init__(self) -> None:
        self._noise: deque[float] = deque(maxlen=REMEMBERED)
        self._first: Cells = np.zeros((0, 0), np.float32)
        self._last = self._first

    def begin(self, cells: Cells) -> None:
        self._first = self._last = cells

    def has_moved(self, cells: Cells) -> bool:
        since_first = _changes(self._first, cells)
        since_last = since_first if self._last is self._first else _changes(self._last, cells)
        self._last = cells
        # the median, for a person who moves changes less than half of the cells
        self._noise.append(DEVIATIONS * float(np.median(since_last)))
        if len(self._noise) < LEARNED_FROM:
            return True
        limit = min(max(TIMES_NOISE * float(np.median(self._noise)), LEAST), MOST)
        return float(since_first.max()) >= limit


@dataclass(frozen=True)
class _Region:
    """The person's part of a picture, divided into cells."""

    shape: tuple[int, ...]
    rows: slice
    columns: slice
    cell: int

    def cells(self, picture: npt.NDArray[np.uint8]) -> Cells:
        grey = cv2.cvtColor(picture[self.rows, self.columns], cv2.COLOR_BGR2GRAY)
        height, width = grey.shape
        # as floating-point numbers: the mean of many pixels is finer than a pixel's own steps
        small = cv2.resize(
            grey.astype(np.float32), (width // self.cell, height // self.cell), interpolation=cv2.INTER_AREA
        )
        return np.asarray(small, np.float32)


def _region_of(landmarks: Landmarks, picture: npt.NDArray[np.uint8]) -> _Region | None:
    """Where the person is, with some room; None where too little of it is in the picture."""
    height, width = picture.shape[:2]
    left, top, right, bottom = span(Person(landmarks, 1.0))
    room = ROOM * max(right - left, bottom - top)
    left, right = max(math.floor(left - room), 0), min(math.ceil(right + room), width)
    top, bottom = max(math.floor(top - room), 0), min(math.ceil(bottom + room), height)
    cell = max(SMALLEST_CELL, math.ceil(max(right - left, bottom - top) / CELLS))
    rows, columns = (bottom - top) // cell, (right - left) // cell
    if min(rows, columns) < FEWEST_CELLS:
        return None
    return _Region(picture.shape, slice(top, top + rows * cell), slice(left, left + columns * cell), cell)


def _changes(before: Cells, after: Cells) -> Cells:
    """By how much each cell is off what the light of its row makes of it.

    A lamp's flicker is in all of a row alike; it differs from row to row where a camera reads one after the other.
    What is overexposed does not follow it, so a cell may be anything between what it was and what would follow.
    """
    light = np.median((after + 1) / (before + 1), axis=1, keepdims=True)
    light = np.clip(light, 1 - FLICKER, 1 + FLICKER)
    lit = light * before
    beyond = np.maximum(np.minimum(before, lit) - after, after - np.maximum(before, lit))
    return np.asarray(np.maximum(beyond, 0.0), np.float32)
