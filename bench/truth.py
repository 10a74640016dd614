#!/usr/bin/env python3
"""Score the verdicts on a folder of labelled pictures: what is right, what is wrong, and what is withheld, and why.

python3 bench/truth.py FOLDER                       # as the analyzer judges single pictures, rule set auto
python3 bench/truth.py FOLDER --rule-set upright
python3 bench/truth.py FOLDER --calibrate 6         # six good ones are the calibration, and are not scored
python3 bench/truth.py FOLDER --calibrate 6 --recording "([0-9]{13})"    # for each recording by itself

FOLDER has pictures and a labels.csv with columns file (path of a picture in FOLDER) and label: good, bad, or
anything else for a picture that is not scored, but counted if it gets a verdict.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("analyzer")

import cv2
import numpy as np
import numpy.typing as npt

from posture.analyzer.pose import USEFUL_SIDE, PoseEstimator
from posture.errors import UserError
from posture.runtime import run_script
from posture.settings.flags import degrees, whole
from posture.verdict.rule_sets import DEFAULT_RULE_SET, RULE_SETS, Baseline, Judge, Landmarks, Verdict, calibrate

MODEL = ROOT / "models" / "pose_landmarker_full.task"
APART_MS = 3_600_000
"""Between two pictures: none of them is taken to follow from the one before."""
RESAMPLES, SEED = 2000, 14
LABELS = ("good", "bad")


@dataclass(frozen=True)
class Labelled:
    """A picture with its label, what the model found in it, and the verdict."""

    file: str
    label: str
    recording: str
    landmarks: Landmarks | None
    verdict: Verdict | None = None

    @property
    def decided(self) -> bool:
        """Whether there is a verdict to compare with a label."""
        return self.label in LABELS and self.verdict is not None and self.verdict.status != "Unknown"

    @property
    def right(self) -> bool:
        """Whether the verdict is the label."""
        return self.verdict is not None and self.verdict.status.lower() == self.label


def main(argv: Sequence[str] | None = None) -> int:
    """Score a folder; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Score the verdicts on a folder of labelled pictures.")
    parser.add_argument("folder", type=Path, help="with pictures and labels.csv")
    parser.add_argument("--rule-set", default=DEFAULT_RULE_SET, choices=sorted(RULE_SETS))
    parser.add_argument("--calibrate", type=whole, default=0, metavar="N", help="good pictures for the calibration")
    parser.add_argument(
        "--recording", type=re.compile, default=re.compile("()"), metavar="REGEX",
        help="its first group, in a file's name, names the recording; each one is calibrated by itself",
    )  # fmt: skip
    parser.add_argument("--roll", type=degrees, default=0.0, metavar="DEG", help="camera_roll_deg")
    parser.add_argument("--sitting-height", action="store_true", help="rule set baseline judges it, too")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="FILE", help="another .task file")
    parser.add_argument("--each", action="store_true", help="print a line for each picture, too")
    flags = parser.parse_args(argv)
    labels = read_labels(flags.folder, flags.recording)
    pictures = list(look(flags.folder, labels, flags.model))
    scored = list(judged(pictures, flags.rule_set, flags.roll, flags.calibrate, flags.sitting_height))
    if flags.each:
        for picture in scored:
            print(line(picture))
    print(f"{flags.folder}: rule set {flags.rule_set}, {len(labels) - len(scored)} for calibration")
    print("\n".join(report(scored)))
    return 0


def read_labels(folder: Path, recording: re.Pattern[str]) -> list[tuple[str, str, str]]:
    """Return file, label and recording of every line of labels.csv.

    Raises:
        UserError: there is no such file, or it lacks a column, or a picture's name.
    """
    path = folder / "labels.csv"
    if not recording.groups:
        raise UserError(f"--recording: {recording.pattern!r} has no group; accepted: an expression with ( )")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: can't be read: {error}") from None
    found = []
    for number, entry in enumerate(lines, 2):
        name, label = (entry.get("file") or "").strip(), (entry.get("label") or "").strip().lower()
        if not name or not label:
            raise UserError(
                f"{path}:{number}: file or label is missing; accepted: columns file and label, both filled"
            )
        matched = recording.search(Path(name).name)
        found.append((name, label, (matched.group(1) or "") if matched else ""))
    if not found:
        raise UserError(f"{path}: has no pictures; accepted: a line with file and label for each")
    return found


def look(folder: Path, labels: Sequence[tuple[str, str, str]], model: Path) -> Iterator[Labelled]:
    """Yield every picture with its landmarks.

    Raises:
        UserError: a picture is missing or can't be read, or there is no such model.
    """
    with PoseEstimator(model, "cpu") as pose:
        for number, (name, label, recording) in enumerate(labels, 1):
            bgr = cv2.imread(str(folder / name))
            if bgr is None:
                raise UserError(f"{folder / name}: can't be read; accepted: the pictures that labels.csv names")
            view = pose.view(reduced(np.asarray(bgr, np.uint8)))
            yield Labelled(name, label, recording, pose.detect(view, number * APART_MS))


def reduced(bgr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the picture with at most USEFUL_SIDE pixels a side."""
    scale = USEFUL_SIDE / max(bgr.shape[:2])
    if scale >= 1:
        return bgr
    return np.asarray(cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def judged(
    pictures: Sequence[Labelled], rule_set: str, roll: float, calibration_frames: int, sitting_height: bool
) -> Iterator[Labelled]:
    """Yield the pictures that are not used for a calibration, each judged as if it were the only one.

    Raises:
        UserError: a recording has too few good pictures, or they make no calibration.
    """
    for recording in dict.fromkeys(picture.recording for picture in pictures):
        own = [picture for picture in pictures if picture.recording == recording]
        good = [picture for picture in own if picture.label == "good"]
        first = good[:calibration_frames]
        baseline = None
        if calibration_frames:
            if len(first) < calibration_frames:
                raise UserError(
                    f"--calibrate: {calibration_frames} good pictures are needed; "
                    f"recording {recording!r} has {len(good)}"
                )
            baseline = calibrate([picture.landmarks for picture in first], roll)
            if not sitting_height:
                baseline = replace(baseline, sitting_height=None)
        yield from (
            judge(picture, rule_set, roll, baseline) for picture in own if all(picture is not one for one in first)
        )


def judge(picture: Labelled, rule_set: str, roll: float, baseline: Baseline | None) -> Labelled:
    """Return the picture with its verdict."""
    return replace(picture, verdict=Judge(rule_set, roll, baseline).judge(picture.landmarks, 0.0))


def report(pictures: Sequence[Labelled]) -> list[str]:
    """Return the figures, one a line."""
    labelled = [picture for picture in pictures if picture.label in LABELS]
    decided = [picture for picture in labelled if picture.decided]
    withheld = [picture for picture in labelled if not picture.decided]
    reasons = Counter(picture.verdict.reason for picture in withheld if picture.verdict)
    others = [picture for picture in pictures if picture.label not in LABELS]
    let_in = sum(picture.verdict is not None and picture.verdict.status != "Unknown" for picture in others)
    lines = [
        f"labelled good or bad  {len(labelled)}",
        f"withheld              {share(len(withheld), len(labelled))}",
    ]
    lines += [f"  {reason:19} {count}" for reason, count in reasons.most_common()]
    lines.append(f"accuracy of decided   {share(sum(picture.right for picture in decided), len(decided))}")
    for label in LABELS:
        of_label = [picture for picture in decided if picture.label == label]
        lines.append(f"  of {label:16} {share(sum(picture.right for picture in of_label), len(of_label))}")
    lines.append(f"balanced accuracy     {balanced_with_interval(decided)}")
    lines.append(f"other labels          {len(others)}, of which {let_in} got a verdict")
    return lines


def share(part: int, whole: int) -> str:
    """Return a share with its Wilson interval of 95 %."""
    if not whole:
        return "none"
    z, p = 1.96, part / whole
    centre = (p + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z * float(np.sqrt(p * (1 - p) / whole + z * z / (4 * whole * whole))) / (1 + z * z / whole)
    return f"{part} of {whole} = {p:.3f} [{max(centre - half, 0):.3f}, {min(centre + half, 1):.3f}]"


def balanced_with_interval(decided: Sequence[Labelled]) -> str:
    """Return the mean of the shares of both labels, with the interval of 95 % by resampling within each label."""
    right = [np.array([picture.right for picture in decided if picture.label == label], float) for label in LABELS]
    if not all(len(values) for values in right):
        return "none: it needs decided pictures of both labels"
    chance = np.random.default_rng(SEED)
    means = [chance.choice(values, (RESAMPLES, len(values))).mean(axis=1) for values in right]
    low, high = np.percentile((means[0] + means[1]) / 2, [2.5, 97.5])
    return f"{np.mean([values.mean() for values in right]):.3f} [{low:.3f}, {high:.3f}]"


def line(picture: Labelled) -> str:
    """Return what is known of one picture."""
    verdict = picture.verdict
    if verdict is None:
        return picture.file
    measures = " ".join(f"{name} {value:.3g}" for name, value in verdict.measures.items())
    return f"{picture.file}: {picture.label}, {verdict.status} {verdict.reason} ({verdict.rule_set} {measures})"


if __name__ == "__main__":
    run_script(main)
