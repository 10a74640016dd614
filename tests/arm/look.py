"""Runs on the emulated machine: what PoseEstimator finds in pictures, as JSON.

python3 look.py MODEL PICTURE...
"""

import importlib.metadata
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from posture.analyzer.pose import PoseEstimator
from posture.runtime import run_script
from posture.verdict.rule_sets import Judge


def main(argv: object = None) -> int:
    """Look at each picture by itself, as if ten seconds lay between them."""
    del argv
    import cv2  # noqa: PLC0415 - the packages that fit the processor have been chosen by now

    model, *pictures = sys.argv[1:]
    judge, found = Judge(), []
    with PoseEstimator(Path(model), "cpu") as estimator:
        for number, path in enumerate(pictures):
            pose = estimator.detect(estimator.view(cv2.imread(path)), 10_000 * number)
            verdict = judge.judge(pose, 10.0 * number)
            points = None if pose is None else (pose.points / (pose.width, pose.height, 1.0)).tolist()
            found.append({
                "landmarks": points, "status": verdict.status, "reason": verdict.reason,
                "angles": [verdict.neck_angle, verdict.body_angle],
            })  # fmt: skip
    print(json.dumps({"mediapipe": importlib.metadata.version("mediapipe"), "found": found}))
    return 0


if __name__ == "__main__":
    run_script(main)
