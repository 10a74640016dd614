"""The pose model, on real pictures."""

from __future__ import annotations

import csv
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from posture.analyzer.pose import PoseEstimator
from posture.errors import UserError
from posture.system.gpu_devices import gpu_devices
from posture.verdict.facing import SIDES
from posture.verdict.rule_sets import Judge, Landmarks, calibrate

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "models" / "pose_landmarker_full.task"
PICTURES = Path(__file__).resolve().parent / "pictures"
CLIP = ROOT / "samples" / "side_walk.mp4"
FRAMES = ROOT.parent / "shared" / "frames"

needs_frames = pytest.mark.skipif(
    not FRAMES.is_dir(), reason="the evaluation pictures are not beside this checkout"
)


class Camera:
    """One estimator for all tests here; each picture comes later than the last, so each is looked at afresh."""

    def __init__(self, estimator: PoseEstimator) -> None:
        self.estimator = estimator
        self.now_ms = 0

    def look(self, picture: np.ndarray, after_ms: int = 10_000) -> Landmarks | None:
        self.now_ms += after_ms
        return self.estimator.detect(self.estimator.view(picture), self.now_ms)


@pytest.fixture(scope="session")
def camera() -> Iterator[Camera]:
    with PoseEstimator(MODEL, "cpu") as estimator:
        yield Camera(estimator)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    return read(PICTURES / "astronaut.jpg")


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None, path
    return picture


def normalised(landmarks: Landmarks | None) -> np.ndarray:
    assert landmarks is not None
    return landmarks.points / (landmarks.width, landmarks.height, 1.0)


def clip_frames(count: int) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(CLIP))
    frames = [video.read()[1] for _ in range(count)]
    video.release()
    return frames


def test_the_landmarks_of_the_reference_picture_are_as_recorded(camera: Camera, astronaut: np.ndarray) -> None:
    recorded = np.array(json.loads((PICTURES / "astronaut_landmarks.json").read_text())["landmarks"])
    assert normalised(camera.look(astronaut)) == pytest.approx(recorded, abs=1e-3)


def test_who_is_tracked_is_tracked_on_after_frames_that_were_passed_over(
    camera: Camera, astronaut: np.ndarray
) -> None:
    camera.look(astronaut)
    assert not camera.estimator.tracked
    camera.look(astronaut, after_ms=200)
    assert camera.estimator.tracked
    for _ in range(10):
        camera.now_ms += 200
        camera.estimator.pass_over(camera.now_ms)
    assert camera.look(astronaut, after_ms=200) is not None
    assert camera.estimator.tracked
    camera.look(astronaut, after_ms=2200)
    assert not camera.estimator.tracked, "as after a time without frames"


def test_landmarks_are_in_pixels_of_the_given_picture(camera: Camera, astronaut: np.ndarray) -> None:
    small = camera.look(astronaut)
    wide = camera.look(cv2.resize(astronaut, (1536, 1024)))
    assert small is not None
    assert wide is not None
    assert (wide.width, wide.height) == (1536, 1024)
    assert wide.points[0, :2] / (3, 2) == pytest.approx(small.points[0, :2], abs=15)


def test_the_landmarks_in_metres_turn_with_the_person_and_not_with_the_picture_s_size(
    camera: Camera, astronaut: np.ndarray
) -> None:
    small = camera.look(astronaut)
    large = camera.look(cv2.resize(astronaut, (1024, 1024)))
    mirrored = camera.look(astronaut[:, ::-1].copy())
    assert small is not None
    assert small.world is not None
    assert large is not None
    assert large.world is not None
    assert mirrored is not None
    assert mirrored.world is not None
    assert large.world == pytest.approx(small.world, abs=0.05)
    assert mirrored.world[[12, 11], 0] == pytest.approx(-small.world[[11, 12], 0], abs=0.05)
    assert 0.2 < float(np.linalg.norm(small.world[11] - small.world[12])) < 0.5


@pytest.mark.parametrize(("rule_set", "reason"), [("auto", "not_calibrated"), ("upright", "partial_landmarks")])
def test_a_frontal_picture_without_hips_gets_no_verdict(
    camera: Camera, astronaut: np.ndarray, rule_set: str, reason: str
) -> None:
    verdict = Judge(rule_set).judge(camera.look(astronaut), 0.0)
    assert (verdict.status, verdict.reason) == ("Unknown", reason)


@needs_frames
def test_a_frontal_webcam_is_told_apart_by_its_own_calibration(camera: Camera) -> None:
    pictures = FRAMES / "frontal_webcam" / "images"
    for camera_height in ("high", "middle"):
        good, bad = (
            [camera.look(read(path)) for path in sorted(pictures.glob(f"{camera_height}_{kind}_*.jpg"))]
            for kind in ("not", "is")
        )
        judge = Judge(baseline=calibrate(good[:6]))
        right = [judge.judge(pose, 0.0).status == "Good" for pose in good[6:]]
        right += [judge.judge(pose, 0.0).status == "Bad" for pose in bad]
        assert sum(right) >= 0.9 * len(right)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 3000), (3000, 1), (7, 5), (480, 640)], ids=lambda shape: "x".join(map(str, shape))
)
def test_nobody_is_found_in_an_empty_picture_of_any_size(camera: Camera, shape: tuple[int, int]) -> None:
    assert camera.look(np.full((*shape, 3), 90, np.uint8)) is None


def test_a_clock_that_stands_still_or_goes_back_is_accepted(camera: Camera, astronaut: np.ndarray) -> None:
    for timestamp_ms in (5_000, 5_000, 4_000, -1, 2**62, 0, 40):
        assert camera.estimator.detect(camera.estimator.view(astronaut), timestamp_ms) is not None


def test_tracking_stays_where_a_fresh_look_finds_the_upper_body(camera: Camera, astronaut: np.ndarray) -> None:
    first = normalised(camera.look(astronaut))
    for _ in range(5):
        again = normalised(camera.look(astronaut, after_ms=40))
    assert again[:13, :2] == pytest.approx(first[:13, :2], abs=0.04)


def test_after_a_pause_tracking_has_no_say(camera: Camera, astronaut: np.ndarray) -> None:
    alone = normalised(camera.look(astronaut))
    moved = np.roll(astronaut, 40, axis=1)
    for _ in range(3):
        camera.look(moved, after_ms=40)
    assert normalised(camera.look(astronaut, after_ms=2_000)) == pytest.approx(alone, abs=1e-3)


def test_after_a_cut_the_new_scene_counts_at_once(astronaut: np.ndarray) -> None:
    walking = clip_frames(101)[100]
    with PoseEstimator(MODEL, "cpu") as estimator:
        alone = normalised(estimator.detect(estimator.view(walking), 0))
    with PoseEstimator(MODEL, "cpu") as estimator:
        for index in range(5):
            estimator.detect(estimator.view(astronaut), 33 * index)
        after_cut = [normalised(estimator.detect(estimator.view(walking), 33 * index)) for index in range(5, 9)]
    hip_and_shoulder = [*SIDES["left"][1:], *SIDES["right"][1:]]
    for found in after_cut:
        assert found[hip_and_shoulder, :2] == pytest.approx(alone[hip_and_shoulder, :2], abs=0.03)
        assert found[hip_and_shoulder, 2].min() > 0.5


def test_somebody_who_was_never_tracked_is_found_by_the_second_look(astronaut: np.ndarray) -> None:
    empty = np.full_like(astronaut, astronaut.mean(axis=(0, 1)).astype(np.uint8))
    with PoseEstimator(MODEL, "cpu") as estimator:
        assert estimator.detect(estimator.view(empty), 0) is None
        assert estimator.detect(estimator.view(astronaut), 33) is not None


def test_the_sample_clip_shows_good_bad_and_nobody() -> None:
    judge = Judge()
    seen: Counter[str] = Counter()
    with PoseEstimator(MODEL, "cpu") as estimator:
        for index, picture in enumerate(clip_frames(194)):
            if index % 3 == 0:
                verdict = judge.judge(estimator.detect(estimator.view(picture), index * 33), index / 30)
                seen[verdict.reason if verdict.status == "Unknown" else verdict.status] += 1
    assert seen["Good"] >= 25
    assert seen["Bad"] >= 8
    assert seen["no_person"] >= 5


@pytest.mark.parametrize("delegate", ["auto", "gpu"])
def test_the_cpu_is_used_without_a_usable_gpu_which_is_a_fault_if_one_is_there_or_asked_for(
    caplog: pytest.LogCaptureFixture, delegate: str
) -> None:
    with caplog.at_level(logging.INFO, "posture.analyzer.pose"), PoseEstimator(MODEL, delegate) as estimator:
        in_use = estimator.delegate
    if in_use == "gpu":
        pytest.skip("this machine has a usable GPU")
    assert in_use == "cpu"
    (said,) = [one for one in caplog.records if f"delegate {delegate}: no usable GPU" in one.getMessage()]
    assert said.levelname == ("WARNING" if delegate == "gpu" or gpu_devices() else "INFO")


def test_an_unknown_delegate_is_refused() -> None:
    with pytest.raises(UserError, match=r"'tpu'.*auto, cpu, gpu"):
        PoseEstimator(MODEL, "tpu")


def test_a_missing_model_names_the_path_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.task.*models/make_model\.py"):
        PoseEstimator(tmp_path / "absent.task")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.task"
    path.write_bytes(b"not a model" * 100)
    with pytest.raises(UserError, match=r"broken\.task is no pose landmarker model"):
        PoseEstimator(path, "cpu")


def test_closing_twice_is_harmless() -> None:
    estimator = PoseEstimator(MODEL, "cpu")
    estimator.close()
    estimator.close()


def run_python(code: str, *path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    places = os.pathsep.join(str(place) for place in (*path, ROOT))
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": places, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


OPEN = "from pathlib import Path; from posture.analyzer.pose import PoseEstimator; import numpy as np\n"
LOOK = (
    f"with PoseEstimator(Path({str(MODEL)!r}), 'auto') as e: e.detect(e.view(np.zeros((64, 64, 3), np.uint8)), 0)"
)


def test_starting_leaves_the_libraries_chatter_off_standard_error() -> None:
    done = run_python(OPEN + LOOK)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "delegate auto" not in line]
    assert lines == []


def test_matplotlib_is_not_loaded_with_mediapipe_and_can_be_afterwards() -> None:
    afterwards = (
        "; import sys; print('matplotlib' in sys.modules); import matplotlib.pyplot as p; print(callable(p.figure))"
    )
    done = run_python(f"{OPEN}PoseEstimator(Path({str(MODEL)!r}), 'cpu').close(){afterwards}")
    assert done.stdout.split() == ["False", "True"], done.stderr


RESIDENT = f"""
import cv2
def resident(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4
with PoseEstimator(Path({str(MODEL)!r}), 'cpu') as estimator:
    view = estimator.view(cv2.imread({str(ROOT / "samples" / "side_walk.jpg")!r}))
    for number in range(80):
        assert estimator.detect(view, 200 * number) is not None
        if number in (10, 79): print(resident())
"""


def test_somebody_alone_is_tracked_without_the_model_for_looking_in_memory() -> None:
    looked, tracking = map(int, run_python(OPEN + RESIDENT).stdout.split())
    assert looked - tracking > 50_000


def test_a_missing_system_library_is_explained_with_the_apt_line(tmp_path: Path) -> None:
    package = tmp_path / "mediapipe"
    package.mkdir()
    (package / "__init__.py").write_text(
        "raise OSError('libEGL.so.1: cannot open shared object file: No such file or directory')"
    )
    done = run_python(f"{OPEN}PoseEstimator(Path({str(MODEL)!r}))", tmp_path)
    assert "posture.errors.UserError: mediapipe can't be loaded (libEGL.so.1" in done.stderr
    assert "apt-get install --no-install-recommends libegl1 libgles2" in done.stderr


def test_without_mediapipe_the_message_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "mediapipe.py").write_text("raise ModuleNotFoundError(\"No module named 'mediapipe'\")")
    done = run_python(f"{OPEN}PoseEstimator(Path({str(MODEL)!r}))", tmp_path)
    assert "pip install 'posture-farm[analyzer]'" in done.stderr


@needs_frames
def test_landmarks_agree_with_what_the_vendor_expects(camera: Camera) -> None:
    folder = FRAMES / "official"
    expected = json.loads((folder / "expected_full.json").read_text())
    found = normalised(camera.look(read(folder / expected["image"])))
    assert found[:25, :2] == pytest.approx(np.array(expected["landmarks_xyz"])[:25, :2], abs=0.03)


@needs_frames
def test_a_frontal_webcam_gets_no_verdicts_without_a_calibration(camera: Camera) -> None:
    judge = Judge()
    statuses = Counter(
        judge.judge(camera.look(read(path)), 0.0).status
        for path in sorted((FRAMES / "frontal_webcam" / "images").glob("*.jpg"))
    )
    assert statuses["Unknown"] >= 0.95 * statuses.total()


@needs_frames
@pytest.mark.parametrize("after_ms", [200, 10_000], ids=["as a stream at 5 a second", "each on its own"])
def test_labelled_side_views_are_told_apart(camera: Camera, after_ms: int) -> None:
    judge = Judge()
    right, wrong, none = 0, [], 0
    with (FRAMES / "side_labelled" / "labels.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            if row["label"] not in {"good", "bad"}:
                continue
            verdict = judge.judge(camera.look(read(FRAMES / "side_labelled" / row["file"]), after_ms), 0.0)
            if verdict.status == "Unknown":
                none += 1
            elif verdict.status.lower() == row["label"]:
                right += 1
            else:
                wrong.append(row["file"])
    assert right >= 0.75 * (right + len(wrong)), wrong
    assert none <= 4


@needs_frames
def test_crowds_and_empty_places_do_no_harm(camera: Camera) -> None:
    pictures = sorted((FRAMES / "coco").glob("*.jpg"))
    assert pictures
    for path in pictures:
        assert Judge().judge(camera.look(read(path)), 0.0).status in {"Good", "Bad", "Unknown"}


@pytest.mark.parametrize("step_ms", [33, 1_667], ids=["as filmed", "each on its own"])
@pytest.mark.parametrize("mirrored", [False, True], ids=["as filmed", "mirrored"])
def test_a_crouching_runner_bends_forward_and_not_back(step_ms: int, mirrored: bool) -> None:
    judge, bent = Judge(), []
    with PoseEstimator(MODEL, "cpu") as estimator:
        for index, picture in enumerate(clip_frames(184)[153:]):
            seen = np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture
            verdict = judge.judge(estimator.detect(estimator.view(seen), index * step_ms), index * step_ms / 1000)
            if verdict.body_angle is not None and abs(verdict.body_angle) > 20:
                bent.append(verdict.body_angle > 0)
    assert len(bent) >= 15
    assert sum(bent) >= 0.95 * len(bent)


@pytest.mark.parametrize("index", [60, 165, 175])
def test_an_unchanged_picture_shows_the_same_side_at_any_rate(index: int) -> None:
    picture = clip_frames(index + 1)[index]
    sides = set()
    for step_ms in (100, 1_667):
        judge = Judge()
        with PoseEstimator(MODEL, "cpu") as estimator:
            for frame in range(8):
                landmarks = estimator.detect(estimator.view(picture), frame * step_ms)
                sides.add(judge.judge(landmarks, frame * step_ms / 1000).side)
    assert len(sides) == 1
    assert sides != {""}
