"""Landmarks -> measures -> Good, Bad or Unknown. Pure: nothing here reads a file, a clock or a network.

neck is the line from ear to shoulder against the vertical, body the line from shoulder to hip, both in
degrees, both from the side that is seen better, positive when the upper end is in front of the lower one. They
are taken in pixels: normalised x and y have different scales, a lean of 20 degrees would read 12 at 16:9.
The neck angle is not the craniovertebral angle, which needs the seventh cervical vertebra.

From the front those angles say nothing. There the height of the head over the shoulders is compared with that of
the same person's calibrated pose.

This is a posture monitor, not a medical device. On 59 labelled side views the thresholds here agree with the
labels in about 0.8 of the cases. Near a threshold a single frame decides nothing (mean error against
annotated key points: neck 6 degrees, body 3; bent forward 16 and 10), hence the smoothed state in smoothing.py.
No sizeable, licensed set of labelled side views is known to us, so nothing above about 0.85 can be shown.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import numpy.typing as npt

from posture.errors import UserError
from posture.verdict.facing import NOSE, SIDES, Facing
from posture.verdict.geometry import EAR_HIP_KNEE, EARS, SHOULDERS, body_yaw, head_height, sitting_height
from posture.verdict.placement import MovedSince, Placement, placement

MIN_VISIBILITY = 0.5  # the model's own estimate; below it a landmark is a guess
SIDE_YAW_DEG = (45.0, 135.0)  # by which the body of a side view is turned away from the camera
MAX_SHOULDER_RATIO = 0.40  # shoulder distance / torso length, for landmarks without world points
MAX_BODY_DEG = 120.0  # a bend down to the floor stays below; beyond it the model has taken the person upside down
CALIBRATION_S = 6.0  # how long a calibration looks
MIN_CALIBRATION_FRAMES = 5
LEAST_HEAD_HEIGHT = 0.3  # shoulder widths; a head as low as this is bowed, or its owner no person
STEADY_SHARE = 2 / 3  # of a calibration's frames must be as close to its median as these
STEADY_DEG, STEADY_HEIGHT, STEADY_PLACE = 8.0, 0.1, 0.25
# degrees, share of the height, shoulder widths (from the side: trunks)

ISO_FREE_DEG = 20.0  # trunk inclination that ISO 11226 accepts without limit of time
ISO_MAX_DEG = 60.0  # above this it accepts none
ISO_HOLD_S = (240.0, 60.0)  # longest holding time at ISO_FREE_DEG and at ISO_MAX_DEG, linear in between
ISO_RECOVERY_S = 3.0  # this long back under ISO_FREE_DEG ends a held posture; shorter is measuring noise
ISO_GAP_S = 15.0  # unseen for longer than this, a held posture is no longer taken to be held

NO_VERDICT = (
    "no_person",
    "several_people",
    "partial_landmarks",
    "not_side_view",
    "not_front_view",
    "not_calibrated",
    "calibrate_again",
    "upside_down",
)
"""Reasons for which judging gives Unknown."""

ADVICE = {
    "several_people": "only one person may be in the picture",
    "partial_landmarks": "show head and shoulders, and from the side the hip",
    "not_side_view": "look from the side, or use rule set auto",
    "not_front_view": "face the camera, or use rule set auto",
    "not_calibrated": "calibrate this stream: --calibrate",
    "calibrate_again": "moved? calibrate again: --calibrate",
    "upside_down": "set camera_roll_deg if the camera is turned",
}
"""What the user can do about a reason of Unknown."""


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
        reason: Bad: the limits that are passed, names of ``measures`` joined by ``+``. Unknown: why there is no
            verdict: one of NO_VERDICT, or what the caller found before there was a picture (``undecodable``).
            Good: empty.
        neck_angle: signed degrees, forward positive; None where the side view gave no verdict.
        body_angle: likewise.
        side: of the body that was measured, ``left`` or ``right``; empty without a side view.
        rule_set: that decided, a name in RULE_SETS; for ``auto`` the one that it chose.
        head_drop: by what share of its calibrated height over the shoulders the head is lower; None where that
            was not measured.
        sitting_drop: likewise of the calibrated sitting height.
    """

    status: str
    reason: str
    neck_angle: float | None
    body_angle: float | None
    side: str
    rule_set: str
    head_drop: float | None = None
    sitting_drop: float | None = None

    @property
    def measures(self) -> dict[str, float]:
        """What was measured, by the names of the limits."""
        found = {
            "neck": self.neck_angle,
            "body": self.body_angle,
            "head_height": self.head_drop,
            "sitting_height": self.sitting_drop,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Baseline:
    """One person's calibrated upright pose; what the view of the calibration doesn't show is None.

    Attributes:
        neck: signed degrees, forward positive, from the side.
        body: likewise.
        head_height: over the shoulders, in shoulder widths, from the front.
        placement: of the shoulders in the picture, from the front.
        sitting_height: of the ear over the hip, in lengths of the thigh, from the side.
    """

    neck: float | None = None
    body: float | None = None
    head_height: float | None = None
    placement: Placement | None = None
    sitting_height: float | None = None


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


MEASURES = ("neck", "body", "head_height", "sitting_height")
DEFAULT_LIMITS = {"baseline": 12.0, "head_height": 0.07, "sitting_height": 0.07}
"""Degrees, and shares of the calibrated height; ``neck`` and ``body`` stand in the table below."""


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
        f"neck and body within {DEFAULT_LIMITS['baseline']:g} degrees of the calibrated upright pose",
        "this stream's own sitting-straight pose, recorded for 6 s with --calibrate",
    ),
    "head-height": RuleSet(
        f"the head less than {DEFAULT_LIMITS['head_height']:.0%} below its calibrated height over the shoulders",
        "this stream's own sitting-straight pose, seen from the front; nine people",
    ),
    "auto": RuleSet(
        "from the side as upright, from the front as head-height",
        "whichever the view allows",
    ),
}
"""The rule sets by name, each with its source. Magnitudes count, except in ``baseline``.

``first-deployment`` and ``tutorial`` reached an accuracy of 0.80 each on 59
labelled side views (recall of good / bad .78/.81 and .67/.91), the best two thresholds 0.81 under
cross-validation. Of 90 upright side views 35 % read neck <= 10, which ``first-deployment`` calls Bad.
"""
DEFAULT_RULE_SET = "auto"


def loads(
    rule_set: str,
    measures: Mapping[str, float],
    baseline: Baseline | None = None,
    limits: Mapping[str, float] | None = None,
) -> dict[str, float] | None:
    """How much of the rule set's limits these measures use; 1 is the limit.

    Args:
        rule_set: that decides, a name in RULE_SETS other than ``auto``.
        measures: of a Verdict, or smoothed.
        baseline: the calibrated pose.
        limits: in place of the rule set's own; keys it has no use for are passed over.

    Returns:
        None for ``iso11226``, whose limit is a holding time that only its Judge knows.
    """
    if rule_set == "iso11226":
        return None
    own = {**DEFAULT_LIMITS, **(limits or {})}
    found = {name: value / own[name] for name, value in measures.items() if name in DEFAULT_LIMITS}
    bands = _bands(rule_set, limits or {})
    for name in ("neck", "body"):
        if name not in measures:
            continue
        if name in bands:
            found[name] = bands[name].load(measures[name])
        else:
            calibrated = getattr(baseline, name)
            found[name] = abs(measures[name] - calibrated) / own["baseline"]
    return found


def _bands(rule_set: str, limits: Mapping[str, float]) -> dict[str, Band]:
    """The fixed bands of neck and body, with the limits that are given instead."""
    rule = RULE_SETS[rule_set]
    bands = {name: band for name, band in (("neck", rule.neck), ("body", rule.body)) if band is not None}
    return {name: replace(band, high=limits.get(name, band.high)) for name, band in bands.items()}


def check_rule_set(rule_set: str, baseline: Baseline | None, limits: Mapping[str, float] | None = None) -> None:
    """Refuse an unknown rule set, one without the calibrated pose that it needs, and a limit that leaves nothing.

    Raises:
        UserError: naming the value and what is accepted.
    """
    if rule_set not in RULE_SETS:
        raise UserError(f"rule_set: {rule_set!r} is unknown; accepted: {', '.join(RULE_SETS)}")
    baseline = baseline or Baseline()
    if rule_set == "baseline" and (baseline.neck is None or baseline.body is None):
        raise UserError(
            "rule_set: 'baseline' needs this stream's calibrated pose: baseline_neck_deg and baseline_body_deg, "
            "as --calibrate prints them"
        )
    if rule_set == "head-height" and baseline.head_height is None:
        raise UserError(
            "rule_set: 'head-height' needs this stream's calibrated pose: baseline_head_height, "
            "as --calibrate prints it for a camera that looks from the front"
        )
    for name, band in _bands(rule_set, limits or {}).items():
        if band.low is not None and band.high <= band.low:
            raise UserError(
                f"limits.{name}: {band.high:g} leaves nothing Good; accepted by {rule_set}: above {band.low:g}"
            )


class Judge:
    """One stream's judge: it keeps the history that ``iso11226`` and a moved camera need, and where people face."""

    def __init__(
        self,
        rule_set: str = DEFAULT_RULE_SET,
        camera_roll_deg: float = 0.0,
        baseline: Baseline | None = None,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        """Choose the rules.

        Args:
            rule_set: a name in RULE_SETS.
            camera_roll_deg: by how much the picture is turned clockwise: a plumb line whose upper end
                leans to the right of the picture by 5 degrees is a roll of 5. Subtracted from both angles.
            baseline: the calibrated pose. With a sitting height, ``baseline`` judges that, too.
            limits: in place of the rule set's own, by the names of a verdict's measures; ``baseline`` is the
                tolerance of rule set ``baseline``, in degrees.

        Raises:
            UserError: unknown rule set, one without the calibrated pose that it needs, or a limit that leaves
                nothing Good.
        """
        check_rule_set(rule_set, baseline, limits)
        self.rule_set = rule_set
        self._roll = math.radians(camera_roll_deg)
        self._baseline = baseline or Baseline()
        self._limits = limits or {}
        self._holding = _Holding()
        self._facing = Facing()
        calibrated = self._baseline.placement
        self._moved = None if calibrated is None else MovedSince(calibrated, self._roll)

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
        if self.rule_set == "head-height" or (self.rule_set == "auto" and not _side_view(landmarks, side)):
            return self._judge_from_front(landmarks, side, at)
        return self._judge_from_side(landmarks, side, at)

    def _judge_from_side(self, landmarks: Landmarks, side: str, at: float) -> Verdict:
        if not _measurable(landmarks, side):
            return self._unknown("partial_landmarks")
        if not _side_view(landmarks, side):
            return self._unknown("not_side_view")
        neck, body = signed_angles(landmarks.points, side, self._facing.forward, self._roll)
        if abs(body) > MAX_BODY_DEG:
            return self._unknown("upside_down")
        rule_set = "upright" if self.rule_set == "auto" else self.rule_set
        sunk = self._sitting_drop(landmarks, side) if rule_set == "baseline" else None
        return self._decide(Verdict("", "", neck, body, side, rule_set, sitting_drop=sunk), at)

    def _judge_from_front(self, landmarks: Landmarks, side: str, at: float) -> Verdict:
        if not _head_and_shoulders(landmarks):
            return self._unknown("partial_landmarks")
        if not _front_view(landmarks, side):
            return self._unknown("not_front_view")
        if self._baseline.head_height is None:
            return self._unknown("not_calibrated")
        drop = 1.0 - head_height(landmarks.points) / self._baseline.head_height
        here = placement(landmarks.points, landmarks.width, landmarks.height)
        if self._moved is not None and self._moved.update(here, landmarks.height / landmarks.width, drop > 0, at):
            return self._unknown("calibrate_again")
        return self._decide(Verdict("", "", None, None, "", "head-height", head_drop=drop), at)

    def _sitting_drop(self, landmarks: Landmarks, side: str) -> float | None:
        """By what share the person sits lower than calibrated; None without a calibration, or a visible knee."""
        if self._baseline.sitting_height is None or not _thigh_seen(landmarks, side):
            return None
        return 1.0 - sitting_height(landmarks.points, side, self._roll) / self._baseline.sitting_height

    def _unknown(self, reason: str) -> Verdict:
        return Verdict("Unknown", reason, None, None, "", self.rule_set)

    def _decide(self, measured: Verdict, at: float) -> Verdict:
        shares = loads(measured.rule_set, measured.measures, self._baseline, self._limits)
        if shares is None:
            acceptable = self._holding.acceptable(abs(measured.measures["body"]), at)
            shares = {"body": 0.0 if acceptable else 1.0}
        passed = "+".join(name for name in MEASURES if shares.get(name, 0.0) >= 1.0)
        return replace(measured, status="Bad" if passed else "Good", reason=passed)


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
    """The medians of what a sitting-straight pose of CALIBRATION_S seconds shows in the view that most frames have.

    Args:
        landmarks: of every frame of that time.
        camera_roll_deg: as in Judge.

    Raises:
        UserError: fewer than MIN_CALIBRATION_FRAMES frames, or fewer than half of them, can be measured; or the
            person did not keep still, or sat bent.
    """
    roll = math.radians(camera_roll_deg)
    side_judge = Judge("upright", camera_roll_deg)
    sides = [side_judge.judge(pose, 0.0) for pose in landmarks]
    # without a calibrated pose, this reason is left when all else is as it must be
    fronts = [Judge("auto", camera_roll_deg).judge(pose, 0.0).reason for pose in landmarks]
    from_side = [(pose, said) for pose, said in zip(landmarks, sides, strict=True) if pose and said.side]
    from_front = [
        pose for pose, reason in zip(landmarks, fronts, strict=True) if pose and reason == "not_calibrated"
    ]
    measured = max(len(from_side), len(from_front))
    if measured < MIN_CALIBRATION_FRAMES or 2 * measured < len(landmarks):
        reasons = Counter(reason for reason in fronts if reason in NO_VERDICT and reason != "not_calibrated")
        why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "too few frames"
        raise UserError(
            f"calibration: {measured} of {len(landmarks)} frames could be measured ({why}); needed are "
            f"{MIN_CALIBRATION_FRAMES} and half of all, with ear, shoulder and hip seen from the side, or with "
            "nose, ears and shoulders seen from the front"
        )
    if len(from_front) > len(from_side):
        return _calibrate_from_front(from_front)
    return _calibrate_from_side(from_side, roll)


def _calibrate_from_side(frames: Sequence[tuple[Landmarks, Verdict]], roll: float) -> Baseline:
    necks = [said.measures["neck"] for _, said in frames]
    bodies = [said.measures["body"] for _, said in frames]
    heights = [
        sitting_height(pose.points, said.side, roll) for pose, said in frames if _thigh_seen(pose, said.side)
    ]
    baseline = Baseline(
        neck=_steady("neck", necks, STEADY_DEG),
        body=_steady("body", bodies, STEADY_DEG),
        sitting_height=median(heights) if 2 * len(heights) >= len(frames) else None,
    )
    hips, trunks = zip(*(_hip_and_trunk(pose.points, said.side) for pose, said in frames), strict=True)
    for name, axis in (("place of the hip", 0), ("height of the hip", 1)):
        _steady(name, [hip[axis] / median(trunks) for hip in hips], STEADY_PLACE)
    _check_upright({"neck": median(necks), "body": median(bodies)})
    return baseline


def _check_upright(angles: Mapping[str, float]) -> None:
    """Refuse a pose that no rule set calls upright: judged by it, slumping would be Good for good."""
    for name, band in _bands("upright", {}).items():
        if not band.contains(angles[name]):
            raise UserError(
                f"calibration: {name} leans {abs(angles[name]):.0f} degrees; accepted: less than {band.high:g}. "
                "Sit straight and calibrate again"
            )


def _hip_and_trunk(points: npt.NDArray[np.float64], side: str) -> tuple[tuple[float, float], float]:
    """Where the hip of this side is, and the distance from there to the shoulder, in pixels."""
    _, shoulder, hip = (points[index, :2] for index in SIDES[side])
    return (float(hip[0]), float(hip[1])), math.dist(shoulder, hip)


def _calibrate_from_front(frames: Sequence[Landmarks]) -> Baseline:
    heights = [head_height(pose.points) for pose in frames]
    places = [placement(pose.points, pose.width, pose.height) for pose in frames]
    width = median(place.width for place in places)
    if median(heights) < LEAST_HEAD_HEIGHT:
        raise UserError(
            f"calibration: the head stands {median(heights):.2f} shoulder widths over the shoulders; accepted: at "
            f"least {LEAST_HEAD_HEIGHT:g}. Sit straight and look at the camera"
        )
    return Baseline(
        head_height=_steady("head_height", heights, STEADY_HEIGHT * abs(median(heights))),
        placement=Placement(
            _steady("place of the shoulders", [place.x for place in places], STEADY_PLACE * width),
            _steady("height of the shoulders", [place.y for place in places], STEADY_PLACE * width),
            width,
        ),
    )


def _steady(name: str, values: Sequence[float], tolerance: float) -> float:
    """The median of values most of which are close to it; refuses others."""
    middle = median(values)
    close = sum(abs(value - middle) <= tolerance for value in values)
    if close < STEADY_SHARE * len(values):
        raise UserError(
            f"calibration: the person moved: {name} from {min(values):.2f} to {max(values):.2f}, only {close} of "
            f"{len(values)} frames within {tolerance:.2f} of the median {middle:.2f}; accepted: two thirds. "
            "Sit still and calibrate again"
        )
    return middle


def _from_vertical(upwards: npt.NDArray[np.float64], roll: float) -> float:
    """Degrees from the vertical of a vector in picture coordinates (y down), positive to the right."""
    angle = math.degrees(math.atan2(upwards[0], -upwards[1]) - roll)
    return (angle + 180.0) % 360.0 - 180.0


def _seen(landmarks: Landmarks, indices: Sequence[int]) -> bool:
    """Whether all of these are visible and in the picture."""
    x, y, visibility = landmarks.points[list(indices)].T
    inside = (x >= 0) & (x <= landmarks.width) & (y >= 0) & (y <= landmarks.height)
    return bool(np.all(inside & (visibility >= MIN_VISIBILITY)))


def _measurable(landmarks: Landmarks, side: str) -> bool:
    """Whether ear, shoulder and hip of this side are visible, in the picture, and apart from each other."""
    chosen = landmarks.points[list(SIDES[side]), :2]
    return _seen(landmarks, SIDES[side]) and bool(np.all(np.hypot(*np.diff(chosen, axis=0).T) > 0))


def _thigh_seen(landmarks: Landmarks, side: str) -> bool:
    """Whether ear, hip and knee of this side are visible and in the picture, and hip and knee apart."""
    _, hip, knee = EAR_HIP_KNEE[side]
    return _seen(landmarks, EAR_HIP_KNEE[side]) and math.dist(landmarks.points[hip], landmarks.points[knee]) > 1


def _head_and_shoulders(landmarks: Landmarks) -> bool:
    """Whether nose, ears and shoulders are visible, and the shoulders in the picture and apart."""
    left, right = landmarks.points[list(SHOULDERS), :2]
    visible = landmarks.points[[NOSE, *EARS], 2] >= MIN_VISIBILITY
    return _seen(landmarks, SHOULDERS) and bool(np.all(visible)) and math.dist(left, right) > 0


def _side_view(landmarks: Landmarks, side: str) -> bool:
    """Whether the body is seen from the side."""
    if landmarks.world is not None:
        least, most = SIDE_YAW_DEG
        return least <= body_yaw(landmarks.world) <= most
    return _shoulder_ratio(landmarks.points, side) <= MAX_SHOULDER_RATIO


def _front_view(landmarks: Landmarks, side: str) -> bool:
    """Whether the body faces the camera."""
    if landmarks.world is not None:
        return body_yaw(landmarks.world) < SIDE_YAW_DEG[0]
    return not _side_view(landmarks, side)


def _shoulder_ratio(points: npt.NDArray[np.float64], side: str) -> float:
    """The distance between the shoulders as a share of the torso's length."""
    _, shoulder, hip = (points[index, :2] for index in SIDES[side])
    torso = math.dist(shoulder, hip)
    return math.dist(points[SHOULDERS[0], :2], points[SHOULDERS[1], :2]) / torso if torso else math.inf
