"""The first stage: a message becomes an identified, decoded frame."""

from __future__ import annotations

import time
from collections import OrderedDict

from posture.analyzer.delivery import Acknowledger, Delivery
from posture.analyzer.item import Item, unknown
from posture.analyzer.pose import PoseEstimator
from posture.settings.table import Analyzer
from posture.wire import frame

RECENT_IDS = 2_000
"""Ids remembered, so that a frame that is delivered again is not analyzed again. The database has the last word."""


class Intake:
    """Identifies and decodes frames, in order of arrival.

    Args:
        options: the stream's settings.
        pose: makes the landmarker's view of a picture.
        stream: is told when the camera seems frozen.
    """

    def __init__(self, options: Analyzer, pose: PoseEstimator, stream: Acknowledger) -> None:
        self._options = options
        self._pose = pose
        self._stream = stream
        self._limits = frame.Limits(options.max_payload_bytes, options.max_pixels)
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._last_tail = b""
        self._equal_in_a_row = 0

    def take(self, delivery: Delivery) -> Item:
        """Return the frame of a message. One that can't be decoded has the reason as its verdict."""
        picture = frame.unwrap(delivery.payload)
        item = Item(delivery, frame.identify(picture, delivery.properties))
        item.again = self._is_repeated(item.identity.frame_id)
        self._watch_for_frozen_camera(picture)
        if item.again:
            return item
        waited = time.monotonic() - delivery.monotonic
        if 0 < self._options.expire_after_s < waited:
            item.verdict = unknown("expired", self._options.rule_set)
            return item
        try:
            item.picture = frame.decode(picture, self._limits, self._options.picture_max_width)
        except frame.UndecodableError as error:
            item.verdict = unknown(error.reason, self._options.rule_set)
            item.quarantine = delivery.payload
        else:
            item.view = self._pose.view(item.picture)
        return item

    def _is_repeated(self, frame_id: str) -> bool:
        repeated = frame_id in self._recent
        self._recent[frame_id] = None
        if len(self._recent) > RECENT_IDS:
            self._recent.popitem(last=False)
        return repeated

    def _watch_for_frozen_camera(self, picture: bytes) -> None:
        # Our own comment, at the front, differs from frame to frame; what follows the last start of scan does not.
        tail = picture[max(0, picture.rfind(b"\xff\xda")) :]
        self._equal_in_a_row = self._equal_in_a_row + 1 if tail == self._last_tail else 1
        self._last_tail = tail
        self._stream.camera_frozen = self._equal_in_a_row >= self._options.frozen_after
