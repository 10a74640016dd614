"""Still scenes: what counts as movement, and when landmarks count again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from posture.analyzer.still import CALM_FRAMES, FOUND_FRAMES, OLDEST_S, Frame, StillScene
from posture.verdict.rule_sets import Landmarks

WIDTH, HEIGHT = 320, 240
HIP, SHOULDER, HEAD = (160.0, 200.0), (160.0, 115.0), (160.0, 80.0)
FPS = 5.0
WARM_UP = FOUND_FRAMES + 1
"""Frames until somebody who was found is measured well."""

BODY = Landmarks(
    np.array([(*place, 0.9) for place in 11 * [HEAD, SHOULDER, HIP]]) + np.array([0.0, -10.0, 0.0]), WIDTH, HEIGHT
)


def scene(lean_deg: float = 0.0, nod_px: float = 0.0, stranger: bool = False) -> np.ndarray:
    """Somebody before a wall, dressed in little that stands out from it."""
    wall = cv2.resize(np.random.default_rng(1).uniform(90, 130, (12, 16)).astype(np.float32), (WIDTH, HEIGHT))
    picture = np.dstack([wall, wall * 0.95, wall * 1.05])
    turn = np.radians(lean_deg)
    upwards = np.array([np.sin(turn), -np.cos(turn)])
    shoulder, head = (np.array(HIP) + (HIP[1] - y) * upwards for _, y in (SHOULDER, HEAD))
    head[1] += nod_px
    scale = 16  # cv2 draws in sixteenths of a pixel
    points = [tuple(int(value * scale) for value in place) for place in (HIP, shoulder, head)]
    cv2.line(picture, points[0], points[1], (70, 75, 70), 45, cv2.LINE_AA, 4)
    cv2.circle(picture, points[2], 21 * scale, (150, 165, 190), -1, cv2.LINE_AA, 4)
    if stranger:
        cv2.rectangle(picture, (295, 75), (319, 239), (60, 60, 60), -1)
    return picture


NOISE = np.random.default_rng(2).normal(0, 1, (2 * HEIGHT, 2 * WIDTH, 3)).astype(np.float32)


def jpeg_of(picture: np.ndarray, noise: float = 0.0, quality: int = 85, seed: int = 0) -> np.ndarray:
    """What arrives of it from a camera with a sensor's noise."""
    height, width = picture.shape[:2]
    top, left = (int(first) for first in np.random.default_rng(seed).integers(0, (HEIGHT, WIDTH)))
    noisy = picture + noise * NOISE[top : top + height, left : left + width]
    encoded = cv2.imencode(".jpg", np.clip(noisy, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


class Stream:
    """Asks about one frame after the other, and measures those whose landmarks are not to count again."""

    def __init__(self) -> None:
        self.still = StillScene()
        self.at = 1000.0
        self.landmarks: Landmarks | None = BODY
        self.tracked = True

    def see(self, picture: np.ndarray, after_s: float = 1 / FPS, clock_id: str = "boot") -> bool:
        """Return whether the landmarks of the frame that was measured last count for this one."""
        self.at += after_s
        thumbnail = cv2.resize(
            cv2.resize(picture, (64, 64), interpolation=cv2.INTER_NEAREST), (16, 16), interpolation=cv2.INTER_AREA
        ).mean(axis=2, dtype=np.float32)
        frame = Frame(picture, thumbnail, self.at, clock_id)
        if self.still.lasts(frame):
            return True
        self.still.measured(frame, self.landmarks, tracked=self.tracked)
        return False

    def settle(self, noise: float = 2.0, quality: int = 85) -> Stream:
        """Let it learn the camera's noise; the next frame is to be one whose landmarks count again."""
        for seed in range(WARM_UP):
            assert not self.see(jpeg_of(scene(), noise, quality, seed + 1000))
        assert self.see(jpeg_of(scene(), noise, quality, 999))
        return self


@pytest.mark.parametrize(("noise", "quality"), [(0.0, 95), (2.0, 95), (2.0, 50), (6.0, 95), (6.0, 75)])
def test_a_sensor_s_noise_and_its_compression_are_no_movement(noise: float, quality: int) -> None:
    stream = Stream().settle(noise, quality)
    again = [stream.see(jpeg_of(scene(), noise, quality, seed)) for seed in range(100)]
    assert sum(again) >= 88, "10 of 11 at 5 frames a second"


@pytest.mark.parametrize("noise", [2.0, 6.0])
def test_a_head_that_nods_while_all_else_is_still_is_seen_at_once(noise: float) -> None:
    stream = Stream().settle(noise)
    assert not stream.see(jpeg_of(scene(nod_px=3), noise))


def test_after_a_movement_some_frames_are_measured_until_the_tracker_has_settled() -> None:
    stream = Stream().settle()
    assert not stream.see(jpeg_of(scene(nod_px=15), 2.0))
    after = [stream.see(jpeg_of(scene(nod_px=15), 2.0, seed=seed)) for seed in range(CALM_FRAMES + 1)]
    assert after == CALM_FRAMES * [False] + [True]


@pytest.mark.parametrize("deg_per_s", [0.05, 0.1, 1.0])
def test_a_slow_lean_adds_up_until_it_is_seen(deg_per_s: float) -> None:
    stream = Stream().settle()
    measured_deg, again = 0.0, ""
    for number in range(1, 60):
        degrees = number / FPS * deg_per_s
        again += "y" if stream.see(jpeg_of(scene(lean_deg=degrees), 2.0, seed=number)) else " "
        if again[-1] == " ":
            measured_deg = degrees
        assert degrees - measured_deg < 0.5
    longest = max(map(len, again.split(" ")))
    assert longest < 7, "sooner than after two seconds"
    assert (longest > 0) is (deg_per_s < 1)


@pytest.mark.parametrize("fps", [5.0, 2.0, 15.0])
def test_landmarks_count_for_two_seconds_of_the_camera_s_clock(fps: float) -> None:
    stream = Stream().settle()
    measured_at, oldest = stream.at, 0.0
    for seed in range(round(8 * fps)):
        if stream.see(jpeg_of(scene(), 2.0, seed=seed), after_s=1 / fps):
            oldest = max(oldest, stream.at - measured_at)
        else:
            measured_at = stream.at
    assert OLDEST_S - 1 / fps < oldest <= OLDEST_S + 1e-6


@pytest.mark.parametrize(
    ("after_s", "clock_id"),
    [(1.5, "boot"), (0.0, "boot"), (-5.0, "boot"), (0.2, "another boot"), (0.2, "")],
    ids=["gap", "clock stands still", "clock set back", "camera restarted", "camera without a clock"],
)
def test_a_frame_that_does_not_follow_by_the_camera_s_clock_is_measured(after_s: float, clock_id: str) -> None:
    stream = Stream().settle()
    assert not stream.see(jpeg_of(scene(), 2.0), after_s, clock_id)
    assert not stream.see(jpeg_of(scene(), 2.0), 0.2, clock_id), "and so is the next one"


def test_without_a_camera_s_clock_every_frame_is_measured() -> None:
    stream = Stream()
    assert not any(stream.see(jpeg_of(scene(), 2.0, seed=seed), clock_id="") for seed in range(30))


def test_a_cut_and_a_change_of_size_are_measured_and_so_are_the_frames_after_it() -> None:
    stream = Stream().settle()
    other = scene()[:, ::-1] * 0.6
    assert not any(stream.see(jpeg_of(other, 2.0, seed=seed)) for seed in range(CALM_FRAMES))
    stream = Stream().settle()
    half = np.ascontiguousarray(jpeg_of(scene(), 2.0)[::2, ::2])
    assert not any(stream.see(half) for _ in range(CALM_FRAMES))


def lights(kind: str) -> Iterator[np.ndarray]:
    rows = np.arange(HEIGHT)[:, None, None] / HEIGHT
    for number in range(60):
        if kind == "all at once":
            yield np.full((1, 1, 1), 1 + 0.07 * np.sin(2 * np.pi * 0.37 * number))
        else:
            yield 1 + 0.06 * np.sin(2 * np.pi * (0.37 * number + 1.5 * rows))


@pytest.mark.parametrize("kind", ["all at once", "in bands"])
@pytest.mark.parametrize("window", [False, True], ids=["evenly lit", "an overexposed window"])
def test_the_flicker_of_light_is_no_movement(kind: str, window: bool) -> None:
    lit = scene()
    if window:
        lit[20:100, 190:280] = 400.0
    stream = Stream()
    again = [stream.see(jpeg_of(lit * light, 2.0, seed=seed)) for seed, light in enumerate(lights(kind))]
    assert sum(again[WARM_UP:]) >= 0.8 * (60 - WARM_UP)


def test_a_lamp_that_is_switched_off_is_no_flicker() -> None:
    stream = Stream().settle()
    assert not stream.see(jpeg_of(scene() * 0.5, 2.0))


def test_somebody_who_comes_in_far_from_the_person_is_seen() -> None:
    stream = Stream().settle()
    assert not stream.see(jpeg_of(scene(stranger=True), 2.0))


@pytest.mark.parametrize(
    ("landmarks", "tracked"),
    [
        (None, True),
        (dataclasses.replace(BODY, others=(BODY,)), True),
        (dataclasses.replace(BODY, contested=True), True),
        (BODY, False),
        (dataclasses.replace(BODY, points=BODY.points + np.array([5000.0, 0, 0])), True),
    ],
    ids=["nobody", "several people", "whom to measure is open", "found anew", "outside the picture"],
)
def test_only_somebody_alone_who_was_tracked_counts_again(landmarks: Landmarks | None, tracked: bool) -> None:
    stream = Stream().settle()
    stream.landmarks, stream.tracked = landmarks, tracked
    stream.see(jpeg_of(scene(nod_px=15), 2.0))  # is measured
    assert not any(stream.see(jpeg_of(scene(nod_px=15), 2.0, seed=seed)) for seed in range(20))


def test_where_noise_would_hide_a_movement_every_frame_is_measured() -> None:
    stream = Stream()
    assert not any(stream.see(jpeg_of(scene(), 60.0, seed=seed)) for seed in range(30))


def test_somebody_who_moves_all_the_time_is_not_taken_for_noise() -> None:
    stream = Stream()
    moves = [4 * np.sin(number) for number in range(60)]
    again = [stream.see(jpeg_of(scene(nod_px=px), 2.0, seed=seed)) for seed, px in enumerate(moves)]
    assert not any(again)
