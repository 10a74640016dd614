"""Whether somebody may have joined the measured person: only then is a search for others worth its time.

Somebody who comes changes what is seen around that person. Small pictures in grey show as much, at no cost.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Thumbnail = npt.NDArray[np.float32]
Cells = tuple[slice, slice]

CHANGED = 0.05
"""Of the picture's mean brightness; noise and shadows mostly stay below it, for each cell is the mean of several
pixels."""
SHARE = 0.05
"""Of the person's cells: as many changed ones may be somebody. One of the same size changes half of them (the
sample clip), one who is large enough to matter a fifth."""


class Surroundings:
    """What was seen around the measured person when others were last looked for."""

    def __init__(self) -> None:
        self._thumbnail: Thumbnail | None = None
        self._covered: Cells = (slice(0), slice(0))

    def remember(self, thumbnail: Thumbnail, span: tuple[float, float, float, float]) -> None:
        """Take in the picture in which others have just been looked for.

        Args:
            thumbnail: the picture in grey, a few cells a side.
            span: left, top, right and bottom of the measured person, as shares of the picture.
        """
        self._thumbnail, self._covered = thumbnail, _cells(thumbnail, span)

    def forget(self) -> None:
        """Nothing is known of the surroundings."""
        self._thumbnail = None

    def have_changed(self, thumbnail: Thumbnail, span: tuple[float, float, float, float]) -> bool:
        """Return whether there may be somebody who was not there then; what nobody remembers has changed.

        Args:
            thumbnail: of a later picture.
            span: of the person in it.
        """
        if self._thumbnail is None:
            return True
        changed = np.abs(thumbnail - self._thumbnail) > CHANGED * float(thumbnail.mean())
        covered = _cells(thumbnail, span)
        person = changed[covered].size
        changed[covered] = changed[self._covered] = False
        return bool(np.count_nonzero(changed) > SHARE * person)


def _cells(thumbnail: Thumbnail, span: tuple[float, float, float, float]) -> Cells:
    rows, columns = thumbnail.shape
    left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in span)
    return (
        slice(math.floor(top * rows), math.ceil(bottom * rows)),
        slice(math.floor(left * columns), math.ceil(right * columns)),
    )
