"""Everybody in one picture.

The model's detector reports few besides the most striking person, even where another one is as large: asked for
five people, it missed the second one in 8 of 50 pictures of two. So what lies to the left and to the right of
those found is looked at again, as a picture of its own; then it missed none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from posture.verdict.persons import BODY, Person
from posture.verdict.rule_sets import MIN_VISIBILITY, Landmarks

Rgb = npt.NDArray[np.uint8]

MARGIN = 0.08
"""How far a person reaches beyond the landmarks, as a share of their extent."""
NARROWEST = 0.1
"""A strip that is narrower than this share of the picture's height has no room for a person who matters."""
DEPTH = 3
"""How often a strip is divided: nine people side by side, and the search ends in a crowd."""


def persons_of(result: Any, width: int, height: int, left: int = 0, whole_width: int | None = None) -> list[Person]:
    """The landmarker's result for a picture, or for a strip of it.

    Args:
        result: of the landmarker.
        width: of what the landmarker saw, in pixels.
        height: likewise.
        left: where the strip begins in the picture, in pixels.
        whole_width: of the picture, if that was a strip.
    """
    found = []
    for pose, world in zip(result.pose_landmarks, result.pose_world_landmarks, strict=True):
        # In VIDEO mode the library smooths visibility over some ten frames, whoever is in them, but not
        # presence: a hip that has just left the picture would otherwise count as seen.
        points = np.array([(left + p.x * width, p.y * height, min(p.visibility, p.presence)) for p in pose])
        metres = np.array([(p.x, p.y, p.z) for p in world])
        found.append(
            Person(Landmarks(points, whole_width or width, height, metres), _extent(points) / _extent(metres))
        )
    return found


def everybody(rgb: Rgb, detect: Callable[[Rgb], Any], depth: int = DEPTH) -> list[Person]:
    """Everybody who is found, nobody twice.

    Args:
        rgb: the picture.
        detect: the landmarker, for pictures that have nothing to do with each other.
        depth: 0 leaves out what lies beside those who are found in the whole picture.
    """
    return _search(rgb, detect, 0, rgb.shape[1], depth)


def _search(rgb: Rgb, detect: Callable[[Rgb], Any], left: int, right: int, depth: int) -> list[Person]:
    height, whole_width = rgb.shape[:2]
    strip = np.ascontiguousarray(rgb[:, left:right])
    found: list[Person] = []
    for person in persons_of(detect(strip), right - left, height, left, whole_width):
        if not any(person.is_found_again_as(other) for other in found):
            found.append(person)
    if not found or depth == 0:
        return found
    for free_left, free_right in _free(found, left, right):
        if free_right - free_left >= NARROWEST * height:
            found += _search(rgb, detect, free_left, free_right, depth - 1)
    return found


def _free(people: Sequence[Person], left: int, right: int) -> list[tuple[int, int]]:
    """The strips between left and right in which nobody has been found."""
    free = []
    for box in sorted(span(person) for person in people):
        free.append((left, min(right, int(box[0]))))
        left = max(left, int(box[2]))
    return [*free, (left, right)]


def span(person: Person) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a person, in pixels; what is not seen of him is left out, if that isn't most."""
    points = person.landmarks.points
    seen = points[points[:, 2] >= MIN_VISIBILITY]
    if len(seen) < 4:
        seen = points
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    margin = MARGIN * float(np.hypot(*(high - low)))
    return low[0] - margin, low[1] - margin, high[0] + margin, high[1] + margin


def alone(rgb: Rgb, person: Person) -> Rgb:
    """A copy of the picture in which all around this person is blank: a detector has no choice."""
    height, width = rgb.shape[:2]
    left, top, right, bottom = (round(side) for side in span(person))
    rows = slice(max(top, 0), min(max(bottom, 0), height))
    columns = slice(max(left, 0), min(max(right, 0), width))
    blank = np.empty_like(rgb)
    blank[:] = rgb.mean(axis=(0, 1)).astype(np.uint8)
    blank[rows, columns] = rgb[rows, columns]
    return blank


def _extent(points: npt.NDArray[np.float64]) -> float:
    """How far the joints are from their middle, as a root mean square."""
    joints = points[BODY, :2]
    return float(np.sqrt(((joints - joints.mean(axis=0)) ** 2).sum()))
