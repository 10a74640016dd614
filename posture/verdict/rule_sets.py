"""Landmarks -> angles -> Good, Bad or Unknown. Pure: nothing here reads a file, a clock or a network.

neck is the line from ear to shoulder against the vertical, body the line from shoulder to hip, both in
degrees, both from the side nearer to the camera, positive when the upper end is in front of the lower one. They
are taken in pixels: normalised x and y have different scales, a lean of 20 degrees would read 12 at 16:9.
The neck angle is not the craniovertebral angle, which needs the seventh cervical vertebra.

This is a posture monitor, not a medical device. On 59 labelled side views the thresholds here agree with the
labels in about 0.8 of the cases. Near a threshold a single frame decides nothing (mean error against
annotated key points: neck 6 degrees, body 3; bent forward 16 and 10), hence the smoothed state in smoothing.py.
No sizeable, licensed set of labelled side views is known to us, so nothing above about 0.85 can be shown.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from posture.errors import UserError
from posture.verdict.facing import SIDES, Facing

MIN_VISIBILITY = 0.5  # the model's own estimate; below it a landmark is a guess
MAX_SHOULDER_RATIO = 0.40  # shoulder distance / torso length; upright: side views <= 0.36, frontal >= 0.42
MAX_BODY_DEG = 120.0  # a bend down to the floor stays below; beyond it the model has taken the person upside down
BASELINE_TOLERANCE_DEG = 12.0
CALIBRATION_S = 6.0  # how long a calibration looks
MIN_CALIBRATION_FRAMES = 5

ISO_FREE_DEG = 20.0  # trunk inclination that ISO 11226 accepts without limit of time
ISO_MAX_DEG = 60.0  # above this it accepts none
ISO_HOLD_S = (240.0, 60.0)  # longest holding time at ISO_FREE_DEG and at ISO_MAX_DEG, linear in between
ISO_RECOVERY_S = 3.0  # this long back under ISO_FREE_DEG ends a held posture; shorter is measuring noise
ISO_GAP_S = 15.0  # unseen for longer than this, a held posture is no longer taken to be held

NO_VERDICT = ("no_person", "several_people", "partial_landmarks", "not_side_view", "upside_down")
"""Reasons for which judging gives Unknown."""


@dataclass(frozen=True)
class Landmarks:
    """The pose of one person in one picture.

    Attributes:
        points: shape (33, 3), float: x and y in pixels (may lie outside the picture), visibility 0..1.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        world: shape (33, 3), the same landmarks in metres from the middle of the hips by the camera's axes: x to
            the right, y down, z away. None in rows of before version 2.
        others: everybody else who was found.
        contested: another person may as well be meant, see ``posture.verdict.persons``.
    """

    points: npt.NDArray[np.float64]
    width: int
    height: int
    world: npt.NDArray[np.float64] | None = None
    others: tuple[Landmarks, ...] = ()
    contested: bool = False


@dataclass(frozen=True)
class Verdict:
    """What one frame says.

    Attributes:
        status: Good, Bad or Unknown.
        reason: Bad: the limit that is passed, ``neck``, ``body`` or ``neck+body``. Unknown: why there is no
            verdict: ``no_person``, ``several_people``, ``partial_landmarks``, ``not_side_view``, ``upside_down``,
            or what the caller found before there was a picture (``undecodable``). Good: empty.
        neck_angle: signed degrees, forward positive; None without a verdict.
        body_angle: likewise.
        side: of the body that was measured, ``left`` or ``right``; empty without a verdict.
        rule_set: name in RULE_SETS.
    """

    status: str
    reason: str
    neck_angle: float | None
    body_angle: float | None
    side: str
    rule_set: str


@dataclass(frozen=True)
class Baseline:
    """One person's calibrated upright pose: signed degrees, forward positive."""

    neck: float
    body: float


@dataclass(frozen=True)
class Band:
    """The open interval of an angle's magnitude, in degrees, that is Good."""

    high: float
    low: float | None = None

    def contains(self, degrees: float) -> bool:
        """Whether this angle's magnitude lies strictly inside the band."""
        return abs(degrees) < self.high and (self.low is None or abs(degrees) > self.low)

    def load(self, degrees: float) -> float:
        """How much of the limit is used: 0 in the best pose, 1 at the limit, above 1 beyond it."""
        if self.low is None:
            return abs(degrees) / self.high
        centre, half_width = (self.high + self.low) / 2, (self.high - self.low) / 2
        return abs(abs(degrees) - centre) / half_width


@dataclass(frozen=True)
class RuleSet:
    """A row of the table below. ``neck`` and ``body`` are None where the rule is no fixed band."""

    good_when: str
    source: str
    neck: Band | None = None
    body: Band | None = None


RULE_SETS: dict[str, RuleSet] = {
    "upright": RuleSet(
        "neck < 35 and body < 20",
        "trunk limit of ISO 11226 and RULA (20 degrees); neck limit fitted on labelled side views",
        neck=Band(35.0),
        body=Band(20.0),
    ),
    "tutorial": RuleSet(
        "neck < 40 and body < 10",
        "the widely copied MediaPipe posture tutorial",
        neck=Band(40.0),
        body=Band(10.0),
    ),
    "first-deployment": RuleSet(
        "10 < neck < 50 and body < 20",
        "the first deployments of this system; the lower bound rejects many upright people",
        neck=Band(50.0, low=10.0),
        body=Band(20.0),
    ),
    "iso11226": RuleSet(
        "body <= 20; 20 to 60 for at most 240 s falling linearly to 60 s; above 60 never",
        "ISO 11226, static trunk posture; needs the stream's history",
    ),
    "baseline": RuleSet(
        f"neck and body within {BASELINE_TOLERANCE_DEG:g} degrees of the calibrated upright pose",
        "this stream's own sitting-straight pose, recorded for 6 s with --calibrate",
    ),
}
"""The rule sets by name, each with its source. Magnitudes count, except in ``baseline``.

``upright`` is the default. ``first-deployment`` and ``tutorial`` reached an accuracy of 0.80 each on 59
labelled side views (recall of good / bad .78/.81 and .67/.91), the best two thresholds 0.81 under
cross-validation. Of 90 upright side views 35 % read neck <= 10, which ``first-deployment`` calls Bad.
"""
DEFAULT_RULE_SET = "upright"


def loads(rule_set: str, neck: float, body: float, baseline: Baseline | None = None) -> tuple[float, float] | None:
    """How much of the rule set's limits these signed angles use, for neck and body; 1 is the limit.

    Returns:
        None for ``iso11226``, whose limit is a holding time that only its Judge knows.
    """
    rule = RULE_SETS[rule_set]
    if rule.neck is not None and rule.body is not None:
        return rule.neck.load(neck), rule.body.load(body)
    if baseline is not None:
        return (
            abs(neck - baseline.neck) / BASELINE_TOLERANCE_DEG,
            abs(body - baseline.body) / BASELINE_TOLERANCE_DEG,
        )
    return None


def check_rule_set(rule_set: str, baseline: Baseline | None) -> None:
    """Refuse an unknown rule set, and ``baseline`` without a calibrated pose.

    Raises:
        UserError: naming the value and what is accepted.
    """
    if rule_set not in RULE_SETS:
        raise UserError(f"rule_set: {rule_set!r} is unknown; accepted: {', '.join(RULE_SETS)}")
    if rule_set == "baseline" and baseline is None:
        raise UserError(
            "rule_set: 'baseline' needs this stream's calibrated pose: baseline_neck_deg and baseline_body_deg, "
            "as --calibrate prints them"
        )


class Judge:
    """One stream's judge: it keeps the history that ``iso11226`` needs, and which way the person faces."""

    def __init__(
        self,
        rule_set: str = DEFAULT_RULE_SET,
        camera_roll_deg: float = 0.0,
        baseline: Baseline | None = None,
    ) -> None:
        """Choose the rules.

        Args:
            rule_set: a name in RULE_SETS.
            camera_roll_deg: by how much the picture is turned clockwise: a plumb line whose upper end
                leans to the right of the picture by 5 degrees is a roll of 5. Subtracted from both angles.
            baseline: the calibrated pose, for rule set ``baseline``.

        Raises:
            UserError: unknown rule set, or ``baseline`` without one.
        """
        check_rule_set(rule_set, baseline)
        self.rule_set = rule_set
        self._roll = math.radians(camera_roll_deg)
        self._baseline = baseline
        self._holding = _Holding()
        self._facing = Facing()

    def judge(self, landmarks: Landmarks | None, at: float) -> Verdict:
        """The verdict on one frame.

        Args:
            landmarks: of the person, None when nobody was found.
            at: seconds on the stream's own time line; only differences count.
        """
        if landmarks is None:
            self._facing.forget()
            return self._unknown("no_person")
        if landmarks.contested:
            self._facing.forget()
            return self._unknown("several_people")
        self._facing.update(landmarks.points, landmarks.world)
        side = self._facing.side
        if not _measurable(landmarks, side):
            return self._unknown("partial_landmarks")
        if not _side_view(landmarks.points, side):
            return self._unknown("not_side_view")
        neck, body = signed_angles(landmarks.points, side, self._facing.forward, self._roll)
        if abs(body) > MAX_BODY_DEG:
            return self._unknown("upside_down")
        passed = self._limits_passed(neck, body, at)
        return Verdict("Bad" if passed else "Good", "+".join(passed), neck, body, side, self.rule_set)

    def _unknown(self, reason: str) -> Verdict:
        return Verdict("Unknown", reason, None, None, "", self.rule_set)

    def _limits_passed(self, neck: float, body: float, at: float) -> list[str]:
        rule = RULE_SETS[self.rule_set]
        if rule.neck is not None and rule.body is not None:
            good = {"neck": rule.neck.contains(neck), "body": rule.body.contains(body)}
        elif self._baseline is not None:
            good = {
                "neck": abs(neck - self._baseline.neck) <= BASELINE_TOLERANCE_DEG,
                "body": abs(body - self._baseline.body) <= BASELINE_TOLERANCE_DEG,
            }
        else:
            good = {"body": self._holding.acceptable(abs(body), at)}
        return [name for name, holds in good.items() if not holds]


class _Holding:
    """How long a trunk posture beyond 20 degrees has been held, as a share of what ISO 11226 allows.

    The share grows by time / allowed time at the angle of the moment, so that a constant angle is Bad after
    exactly its own limit, and a changing one is weighed by how far it went.
    """

    def __init__(self) -> None:
        self._share = 0.0
        self._upright_s = 0.0
        self._last: float | None = None

    def acceptable(self, degrees: float, at: float) -> bool:
        """Take in one frame's trunk inclination (magnitude) and say whether the posture is still allowed."""
        elapsed = self._elapsed(at)
        if degrees <= ISO_FREE_DEG:
            self._upright_s += elapsed
            if self._upright_s >= ISO_RECOVERY_S:
                self._share = 0.0
            return True
        self._upright_s = 0.0
        if degrees > ISO_MAX_DEG:
            return False
        at_free, at_max = ISO_HOLD_S
        allowed = at_free + (at_max - at_free) * (degrees - ISO_FREE_DEG) / (ISO_MAX_DEG - ISO_FREE_DEG)
        self._share += elapsed / allowed
        return self._share <= 1.0

    def _elapsed(self, at: float) -> float:
        """Seconds since the last measured frame; 0 when time went back, and a fresh start after a gap."""
        elapsed = 0.0 if self._last is None else at - self._last
        self._last = at
        if elapsed > ISO_GAP_S:
            self._share = self._upright_s = 0.0
            return 0.0
        return max(elapsed, 0.0)


def signed_angles(
    points: npt.NDArray[np.float64], side: str, forward: int, roll: float = 0.0
) -> tuple[float, float]:
    """Neck and body angle of one side.

    Args:
        points: shape (33, 3), pixels.
        side: ``left`` or ``right``.
        forward: 1 when the person faces to the right of the picture, -1 to the left.
        roll: of the camera, in radians, clockwise.

    Returns:
        Degrees in (-180, 180], positive when leaning to where the face points.
    """
    ear, shoulder, hip = (points[index, :2] for index in SIDES[side])
    return forward * _from_vertical(ear - shoulder, roll), forward * _from_vertical(shoulder - hip, roll)


def calibrate(landmarks: Sequence[Landmarks | None], camera_roll_deg: float = 0.0) -> Baseline:
    """The median of both signed angles over a sitting-straight pose of CALIBRATION_S seconds.

    Args:
        landmarks: of every frame of that time.
        camera_roll_deg: as in Judge.

    Raises:
        UserError: fewer than MIN_CALIBRATION_FRAMES frames, or fewer than half of them, can be measured.
    """
    judge = Judge(camera_roll_deg=camera_roll_deg)
    verdicts = [judge.judge(pose, 0.0) for pose in landmarks]
    pairs = [
        (verdict.neck_angle, verdict.body_angle)
        for verdict in verdicts
        if verdict.neck_angle is not None and verdict.body_angle is not None
    ]
    if len(pairs) < MIN_CALIBRATION_FRAMES or 2 * len(pairs) < len(verdicts):
        reasons = Counter(verdict.reason for verdict in verdicts if verdict.status == "Unknown")
        why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "too few frames"
        raise UserError(
            f"calibration: {len(pairs)} of {len(verdicts)} frames could be measured ({why}); needed are "
            f"{MIN_CALIBRATION_FRAMES} and half of all, with ear, shoulder and hip seen from the side"
        )
    return Baseline(neck=median(neck for neck, _ in pairs), body=median(body for _, body in pairs))


def _from_vertical(upwards: npt.NDArray[np.float64], roll: float) -> float:
    """Degrees from the vertical of a vector in picture coordinates (y down), positive to the right."""
    angle = math.degrees(math.atan2(upwards[0], -upwards[1]) - roll)
    return (angle + 180.0) % 360.0 - 180.0


def _measurable(landmarks: Landmarks, side: str) -> bool:
    """Whether ear, shoulder and hip of this side are visible, in the picture, and apart from each other."""
    chosen = landmarks.points[list(SIDES[side])]
    x, y, visibility = chosen.T
    inside = (x >= 0) & (x <= landmarks.width) & (y >= 0) & (y <= landmarks.height)
    apart = np.hypot(*np.diff(chosen[:, :2], axis=0).T) > 0
    return bool(np.all(inside & (visibility >= MIN_VISIBILITY)) and np.all(apart))


def _side_view(points: npt.NDArray[np.float64], side: str) -> bool:
    """Whether the shoulders are close enough to each other, as a share of the torso's length."""
    _, shoulder, hip = SIDES[side]
    left, right = SIDES["left"][1], SIDES["right"][1]
    distance = math.dist(points[left, :2], points[right, :2])
    torso = math.dist(points[shoulder, :2], points[hip, :2])
    return distance <= MAX_SHOULDER_RATIO * torso
