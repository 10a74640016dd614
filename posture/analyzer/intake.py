"""The first stage: a message becomes an identified, decoded frame."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict

from posture.analyzer.attempts import Attempts
from posture.analyzer.delivery import Acknowledger, Delivery
from posture.analyzer.item import Failures, Item, unknown
from posture.analyzer.pose import PoseEstimator
from posture.settings.table import Analyzer
from posture.system.said_once import SaidOnce
from posture.system.untrusted import shown
from posture.wire import decoding, frame, jpeg

log = logging.getLogger(__name__)

RECENT_IDS = 2_000
"""Ids remembered, so that a frame that is delivered again is not analyzed again. The database has the last word."""
SHOWN_BYTES = 32
"""Of a rejected payload, in the log: enough to tell what it is."""


class Intake:
    """Identifies and decodes frames, in order of arrival.

    Args:
        options: the stream's settings.
        pose: makes the landmarker's view of a picture.
        stream: is told when the camera seems frozen.
        failures: gives up a frame that can't be decoded for a reason that nobody knows.
        attempts: remembers on disk which frames are being worked on; None: nobody does.
    """

    def __init__(
        self,
        options: Analyzer,
        pose: PoseEstimator,
        stream: Acknowledger,
        failures: Failures | None = None,
        attempts: Attempts | None = None,
    ) -> None:
        self._options = options
        self._pose = pose
        self._stream = stream
        self._failures = failures or Failures(options.rule_set)
        self._attempts = attempts
        self._limits = frame.Limits(options.max_payload_bytes, options.max_pixels)
        self._recent: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._last_tail = b""
        self._equal_in_a_row = 0
        self._said = SaidOnce(log)

    def take(self, delivery: Delivery) -> Item:
        """Return the frame of a message. One that can't be decoded has the reason as its verdict."""
        picture = frame.unwrap(delivery.payload, self._options.image_key)
        identity = frame.identify(picture, delivery.properties)
        item = Item(delivery, identity)
        if identity.source == "hash":
            item.digest = item.content = identity.frame_id
        else:
            item.digest, item.content = hashlib.sha256(picture).hexdigest(), frame.content_digest(picture)
        item.again = self._is_repeated(identity.frame_id, item.content)
        self._watch_for_frozen_camera(picture)
        if identity.ignored:
            fields = ", ".join(identity.ignored)
            self._said.warning(
                f"frame {shown(identity.frame_id)}: {fields} is nothing that a camera says", "ignored"
            )
        if item.again:
            return item
        waited = time.monotonic() - delivery.monotonic
        if 0 < self._options.expire_after_s < waited:
            item.verdict = unknown("expired", self._options.rule_set)
        elif self._attempts is not None and not self._attempts.begin(item.digest, redelivered=delivery.redelivered):
            log.error("frame %s has ended the process again and again; it is not opened", shown(identity.frame_id))
            self._reject(item, "ended_the_process")
        else:
            self._decode(item, picture)
        return item

    def _decode(self, item: Item, picture: bytes) -> None:
        try:
            item.picture = decoding.decode(picture, self._limits, self._options.picture_max_width)
            item.view = self._pose.view(item.picture)
        except frame.UndecodableError as error:
            self._reject(item, error.reason)
        except Exception:  # noqa: BLE001 - whatever it is, the frames behind this one are to arrive
            self._failures.give_up(item, "decoded")

    def _reject(self, item: Item, reason: str) -> None:
        payload = item.delivery.payload
        item.verdict = unknown(reason, self._options.rule_set)
        item.quarantine = payload
        begin = payload[:SHOWN_BYTES].hex(" ") or "nothing"
        # a camera that is set up wrongly would fill the log
        self._said.warning(
            f"payloads are rejected as {reason}; the first has {len(payload)} bytes and begins with {begin}", reason
        )

    def _is_repeated(self, frame_id: str, content: str) -> bool:
        # another picture under the same id is another frame
        key = frame_id, content
        repeated = key in self._recent
        self._recent[key] = None
        if len(self._recent) > RECENT_IDS:
            self._recent.popitem(last=False)
        return repeated

    def _watch_for_frozen_camera(self, picture: bytes) -> None:
        # Our own comment, at the front, differs from frame to frame; the scans do not.
        tail = picture[jpeg.first_scan(picture) or 0 :]
        self._equal_in_a_row = self._equal_in_a_row + 1 if tail == self._last_tail else 1
        self._last_tail = tail
        self._stream.camera_frozen = self._equal_in_a_row >= self._options.frozen_after
