"""The first stage: what is seen again, frozen, broken or too old, told before the landmarker sees it."""

from __future__ import annotations

import base64
import dataclasses
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from farm import noise_jpeg

from posture.analyzer import intake
from posture.analyzer.delivery import Delivery
from posture.analyzer.intake import Intake
from posture.analyzer.pose import PoseEstimator
from posture.settings.table import Analyzer
from posture.wire import frame

MODEL = Path(__file__).resolve().parents[3] / "models" / "pose_landmarker_full.task"
OPTIONS = Analyzer()
JPEG = noise_jpeg(1, 96, 64)


@pytest.fixture(scope="module")
def pose() -> Iterator[PoseEstimator]:
    with PoseEstimator(MODEL, "cpu") as estimator:
        yield estimator


class Stream:
    """Takes what the pipeline says to the stream, as Acknowledger asks for."""

    camera_frozen = False
    outstanding = 0

    def settled(self, delivery: Delivery) -> None:
        raise AssertionError("the first stage settles nothing")

    def publish(self, topic: str, payload: Mapping[str, Any], *, retain: bool = False) -> None:
        raise AssertionError("the first stage publishes nothing")

    def hold(self, held: bool) -> None:
        raise AssertionError("the first stage knows no store")


def delivery(payload: bytes, waited_s: float = 0.0) -> Delivery:
    return Delivery(payload, {}, datetime.now(timezone.utc), time.monotonic() - waited_s, packet_id=1, connection=1)


def stamped(jpeg: bytes, name: str) -> bytes:
    return frame.stamp(jpeg, frame.Identity(name))


def test_a_picture_becomes_a_decoded_frame_with_the_landmarkers_view_raw_or_in_base64(pose: PoseEstimator) -> None:
    for payload in (stamped(JPEG, "a"), base64.b64encode(stamped(JPEG, "a"))):
        item = Intake(OPTIONS, pose, Stream()).take(delivery(payload))
        assert item.identity.frame_id == "a"
        assert not item.again
        assert item.picture is not None
        assert item.picture.shape == (64, 96, 3)
        assert item.view is not None
        assert (item.view.width, item.view.height) == (96, 64)
        assert item.quarantine is None


def test_a_wide_picture_is_reduced_to_the_setting(pose: PoseEstimator) -> None:
    options = dataclasses.replace(OPTIONS, picture_max_width=64)
    item = Intake(options, pose, Stream()).take(delivery(noise_jpeg(1, 192, 96)))
    assert item.picture is not None
    assert item.picture.shape == (32, 64, 3)


def test_a_frame_that_comes_again_is_not_decoded_again(
    pose: PoseEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "RECENT_IDS", 3)
    stage = Intake(OPTIONS, pose, Stream())
    taken = [stage.take(delivery(stamped(JPEG, name))) for name in "abca"]
    assert [item.again for item in taken] == [False, False, False, True]
    assert taken[-1].picture is None
    assert taken[-1].view is None
    forgotten = [stage.take(delivery(stamped(JPEG, name))).again for name in "defa"]
    assert forgotten == [False] * 4, "a is more than RECENT_IDS frames ago: the database has the last word"


def test_another_picture_under_a_known_id_is_another_frame(pose: PoseEstimator) -> None:
    stage = Intake(OPTIONS, pose, Stream())
    taken = [stage.take(delivery(stamped(jpeg, "one"))) for jpeg in (JPEG, noise_jpeg(2, 96, 64), JPEG)]
    assert [item.again for item in taken] == [False, False, True]
    assert taken[0].content == taken[2].content != taken[1].content


def test_equal_pictures_in_a_row_are_a_frozen_camera_whatever_their_ids_until_another_picture_comes(
    pose: PoseEstimator,
) -> None:
    stream = Stream()
    stage = Intake(dataclasses.replace(OPTIONS, frozen_after=3), pose, stream)
    frozen = []
    for number, jpeg in enumerate((JPEG, JPEG, JPEG, JPEG, noise_jpeg(2, 96, 64), JPEG)):
        stage.take(delivery(stamped(jpeg, f"frame-{number}")))
        frozen.append(stream.camera_frozen)
    assert frozen == [False, False, True, True, False, False]


@pytest.mark.parametrize(
    ("payload", "options", "reason"),
    [
        pytest.param(b"", OPTIONS, "empty", id="empty"),
        pytest.param(b"no picture", OPTIONS, "not_a_picture", id="text"),
        pytest.param(JPEG[:-40], OPTIONS, "truncated", id="truncated"),
        pytest.param(JPEG, dataclasses.replace(OPTIONS, max_payload_bytes=100), "too_many_bytes", id="bytes"),
        pytest.param(JPEG, dataclasses.replace(OPTIONS, max_pixels=100), "too_many_pixels", id="pixels"),
    ],
)
def test_what_cannot_be_decoded_is_unknown_with_its_reason_and_goes_to_quarantine_as_it_came(
    pose: PoseEstimator, payload: bytes, options: Analyzer, reason: str
) -> None:
    for sent in (payload, base64.b64encode(payload)) if payload.startswith(frame.JPEG) else (payload,):
        item = Intake(options, pose, Stream()).take(delivery(sent))
        assert (item.verdict.status, item.verdict.reason) == ("Unknown", reason)
        assert item.verdict.rule_set == options.rule_set
        assert item.quarantine == sent
        assert item.picture is None
        assert item.view is None


@pytest.mark.parametrize(("limit_s", "expired"), [(2.0, True), (60.0, False), (0.0, False)])
def test_a_frame_that_waited_too_long_is_expired_and_kept_nowhere(
    pose: PoseEstimator, limit_s: float, expired: bool
) -> None:
    options = dataclasses.replace(OPTIONS, expire_after_s=limit_s)
    item = Intake(options, pose, Stream()).take(delivery(JPEG, waited_s=10.0))
    assert (item.verdict.reason == "expired") is expired
    assert (item.picture is None) is expired
    assert item.quarantine is None
