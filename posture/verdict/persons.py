"""Whom a stream measures where several people are in the picture. Pure: the caller passes people and time.

The largest is measured. Where another one is nearly as large it is not clear whom to measure, so nobody gets a
verdict, unless one of them was measured before and can be told by where he was: then he still is, whoever joins
him. Measuring never goes over from one person to another without frames in between that say ``several_people``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from posture.verdict.rule_sets import MIN_VISIBILITY, Landmarks

RIVAL_SIZE = 0.6
"""From this share of the measured person's size another one may as well be meant."""
STEP_M, STEP_M_PER_S = 0.5, 1.5
"""How far a person's shoulders get from one frame to the next: at once, and with each second between them."""
STEP_SIZE = 1.5
"""By how much a person's size changes at most from one frame to the next."""
WAIT_S = 5.0
"""How long the measured person may go unseen beside others before one of them is measured instead."""
SAME_M = 0.25
"""Two findings whose joints are no farther apart than this, in the median, are one person."""

BODY = slice(0, 25)  # without the legs, which a desk may hide
SHOULDERS = [11, 12]


@dataclass(frozen=True)
class Person:
    """Somebody who was found.

    Attributes:
        landmarks: of this person.
        size: pixels a metre, by the model's own idea of how long the body is: a person who sits, is turned or
            partly hidden is as large as one who stands in the same place.
    """

    landmarks: Landmarks
    size: float

    def distance(self, other: Person) -> float:
        """How far apart the shoulders of both are, in metres by the size of this one."""
        here, there = (person.landmarks.points[SHOULDERS, :2].mean(axis=0) for person in (self, other))
        return math.dist(here, there) / self.size

    def is_found_again_as(self, other: Person) -> bool:
        """Whether both findings, in one picture, are of the same person."""
        apart = self.landmarks.points[BODY, :2] - other.landmarks.points[BODY, :2]
        return float(np.median(np.hypot(*apart.T))) < SAME_M * max(self.size, other.size)

    def stands_out(self) -> bool:
        """Whether the shoulders were seen, and not only guessed."""
        return float(self.landmarks.points[SHOULDERS, 2].mean()) >= MIN_VISIBILITY


@dataclass
class Following:
    """One stream's memory of whom it measures.

    Attributes:
        contested: it is not clear whom to measure; somebody is followed nevertheless.
    """

    contested: bool = False
    _followed: Person | None = None
    _followed_at: float = 0.0
    _subject: Person | None = None  # whom it was clear to measure, as last seen
    _subject_at: float = 0.0
    _others: list[Person] = field(default_factory=list)  # who was there besides the subject, as last seen
    _replaced: bool = False  # in the last frame the subject was gone and nobody but a newcomer there

    def forget(self) -> None:
        """Begin anew: nobody is there, or this picture has nothing to do with the last one."""
        self.contested, self._followed, self._subject, self._others = False, None, None, []
        self._replaced = False

    def goes_on_as(self, person: Person, at: float) -> bool:
        """Take in who was tracked from the last frame to this one; False, and nothing is taken in, for another one.

        Args:
            person: as the tracker sees him.
            at: seconds; only differences count.
        """
        if self._followed is None or not _may_become(self._followed, person, at - self._followed_at):
            return False
        if self._replaced:
            self.contested = self._replaced = False
            self._others = [other for other in self._others if other is not self._followed]
        self._follow(person, at)
        return True

    def choose(self, people: Sequence[Person], at: float) -> Person | None:
        """Take in everybody in the picture, and say whom to follow; ``contested`` then says how clear that is.

        Args:
            people: all who were found, in any order.
            at: seconds; only differences count.
        """
        if not people:
            self.forget()
            return None
        self._replaced = False
        if self._subject is not None and at - self._subject_at > WAIT_S:
            self._subject = None
        subject = self._the_subject_among(people, at)
        chosen = subject or max(people, key=lambda person: (person.stands_out(), person.size))
        others = [person for person in people if person is not chosen]
        largest = max((person.size for person in others if person.stands_out()), default=0.0)
        if subject is not None:
            # somebody has come who is much nearer to the camera: whom to measure is open again
            self.contested = RIVAL_SIZE * largest > chosen.size
            if self.contested:
                self._subject = None
        else:
            rivalled = largest >= RIVAL_SIZE * chosen.size
            missing = self._subject is not None
            self.contested = rivalled or missing
            # Beside somebody who was there before, the subject is waited for. A newcomer is measured from the next
            # frame on.
            if missing and not any(self._was_another(person) for person in people):
                self._subject, self._replaced = None, not rivalled
        self._others = list(people) if self.contested else others
        self._follow(chosen, at)
        return chosen

    def _follow(self, person: Person, at: float) -> None:
        self._followed, self._followed_at = person, at
        if not self.contested:
            self._subject, self._subject_at = person, at

    def _the_subject_among(self, people: Sequence[Person], at: float) -> Person | None:
        """Whoever is where the subject may be by now; nobody if that may be two, or one of the others of then."""
        subject, elapsed = self._subject, at - self._subject_at
        if subject is None:
            return None
        near = [
            person for person in people if _may_become(subject, person, elapsed) and not self._was_another(person)
        ]
        near.sort(key=subject.distance)
        if len(near) > 1 and subject.distance(near[1]) < 2 * subject.distance(near[0]):
            return None
        return near[0] if near else None

    def _was_another(self, person: Person) -> bool:
        """Whether somebody who was there besides the subject was nearer to this place than the subject was."""
        return self._subject is not None and any(
            person.distance(other) < person.distance(self._subject) for other in self._others
        )


def _may_become(before: Person, after: Person, elapsed: float) -> bool:
    """Whether a person can have got from one place to the other within this time, in seconds."""
    grown = after.size / before.size
    return before.distance(after) <= STEP_M + STEP_M_PER_S * elapsed and 1 / STEP_SIZE <= grown <= STEP_SIZE
