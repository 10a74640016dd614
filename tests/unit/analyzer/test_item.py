"""A frame on its way: whose clock its time is by, and what is left of one that can't be analyzed."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pytest

from posture.analyzer.delivery import Delivery
from posture.analyzer.item import Item
from posture.wire.frame import Identity

CAPTURED = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
RECEIVED = datetime(2026, 11, 24, 13, tzinfo=timezone.utc)


def an_item(identity: Identity) -> Item:
    return Item(Delivery(b"payload", {}, RECEIVED, 0.0, packet_id=1, connection=1), identity)


def test_a_frames_time_is_by_the_clock_of_its_cameras_boot() -> None:
    item = an_item(Identity("frame", captured_at=CAPTURED, boot_id="boot"))
    assert item.stream_time() == (CAPTURED.timestamp(), "boot")


@pytest.mark.parametrize(
    "identity",
    [
        pytest.param(Identity("frame"), id="neither"),
        pytest.param(Identity("frame", captured_at=CAPTURED), id="no-boot"),
        pytest.param(Identity("frame", boot_id="boot"), id="no-time"),
    ],
)
def test_without_a_captured_time_or_a_boot_the_time_of_arrival_counts(identity: Identity) -> None:
    assert an_item(identity).stream_time() == (RECEIVED.timestamp(), "")


def test_a_frame_that_is_given_up_says_why_keeps_its_payload_and_leaves_no_picture() -> None:
    item = an_item(Identity("frame"))
    item.picture = np.zeros((4, 4, 3), np.uint8)
    item.give_up("upright")
    assert (item.verdict.status, item.verdict.reason, item.verdict.rule_set) == (
        "Unknown", "analysis_failed", "upright",
    )  # fmt: skip
    assert item.quarantine == b"payload"
    assert item.picture is None
