"""The third stage: landmarks become a verdict, a state, a row, and a drawn picture."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
import time
from datetime import datetime, timezone
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from posture.analyzer import drawing
from posture.analyzer.item import Item
from posture.analyzer.recording import Recording
from posture.errors import UserError
from posture.pictures.base import marked
from posture.settings.table import Analyzer
from posture.store.base import Row
from posture.verdict.backlog import Lateness
from posture.verdict.placement import Placement
from posture.verdict.rule_sets import Baseline, Judge
from posture.verdict.smoothing import StateTracker
from posture.verdict.stored_landmarks import SCHEMA_VERSION, to_json
from posture.wire import frame
from posture.wire.topics import Topics

KEEP_EVERY_S = 60.0
"""With ``keep: changes`` a picture is kept this often, though the state may not have changed."""
PREVIEW_EVERY_S, PREVIEW_SIDE, PREVIEW_QUALITY = 1.0, 480, 75
"""Small pictures: at most one in so much time, so many pixels a side."""


class Judging:
    """Judges the frames of one stream, in order, and draws those whose picture is kept.

    Its rules and the snooze may be changed from any thread, while frames are judged in another.

    Args:
        options: the stream's settings.
        topics: the stream's topics, for its state and alerts.

    Raises:
        UserError: the settings lack the calibrated pose that their rules need.
    """

    def __init__(self, options: Analyzer, topics: Topics) -> None:
        self._options = options
        self._topics = topics
        self._lock = threading.Lock()
        self.use(options)
        self._state = ""
        self._said: dict[str, Any] | None = None
        self._snoozed_until: datetime | None = None
        self._recording: Recording | None = None
        self._kept: tuple[float, str, float] | None = None
        """When the last frame was taken whose picture is kept, by which clock, and when it arrived."""
        self._lateness = Lateness(options.backlog_after_s)
        self._processed_by = os.environ.get("NODE_NAME") or socket.gethostname()
        self._shows = options.preview and options.pictures != "none"
        self._next_preview = 0.0

    def use(self, options: Analyzer) -> None:
        """Judge by the rule set and the calibrated pose of these settings from now on.

        Raises:
            UserError: they lack the pose that their rules need; nothing has changed.
        """
        baseline, limits = baseline_of(options), dict(options.limits.given)
        judge = Judge(options.rule_set, options.camera_roll_deg, baseline, limits)
        tracker = StateTracker(
            options.rule_set,
            baseline=baseline,
            limits=limits,
            bad_after=options.bad_after_s,
            good_after=options.good_after_s,
            bad_for=options.bad_for_s,
            cooldown=options.alert_cooldown_s,
        )
        with self._lock:
            self._judge, self._tracker = judge, tracker

    @property
    def said(self) -> dict[str, Any] | None:
        """The state as it was told last; None: not yet."""
        return self._said

    @property
    def settled(self) -> bool:
        """Whether frames like the last one leave the state as it is, and no calibration wants to see them."""
        with self._lock:
            return self._recording is None and self._tracker.settled

    def record(self, recording: Recording | None) -> None:
        """Give live frames to a calibration, too, until that has enough; None: to none."""
        with self._lock:
            self._recording = recording

    def snooze(self, until: datetime | None) -> dict[str, Any]:
        """Hold alerts until then, None: no longer; return the state that says so."""
        with self._lock:
            self._snoozed_until = until
            self._tracker.tell_again()  # a state that waits for its commit was judged before
            return self._with_snooze(self._said or self._tracker.describe(time.time()))

    def silent(self, since: datetime) -> dict[str, Any]:
        """Return the state while the camera is silent; its next frame makes the state be told anew.

        Args:
            since: when its last frame came.
        """
        with self._lock:
            self._said = self._tracker.silent(since.timestamp(), time.time())
            return self._with_snooze(self._said)

    def _with_snooze(self, state: dict[str, Any]) -> dict[str, Any]:
        until = self._snoozed_until if self._is_snoozed() else None
        return {**state, "snoozed_until": None if until is None else until.isoformat(timespec="milliseconds")}

    def _is_snoozed(self) -> bool:
        return self._snoozed_until is not None and datetime.now(timezone.utc) < self._snoozed_until

    def judge(self, item: Item) -> None:
        """Give a frame its verdict, its row, and its picture if one is kept; release the decoded picture."""
        if not item.again:
            with self._lock:
                recorded = self._decide(item)
            if recorded is not None:
                recorded.done()
        if item.row is not None and item.picture is not None:
            if item.row.filename:
                item.jpeg = self._draw(item, item.picture)
            if self._shows and time.monotonic() >= self._next_preview:
                self._next_preview = time.monotonic() + PREVIEW_EVERY_S
                item.preview = self._draw_small(item, item.picture)
        item.picture = None

    def pass_over(self, item: Item) -> None:
        """Give a frame that could not be judged a row that says so, and holds nothing that could fail again."""
        item.identity = dataclasses.replace(item.identity, captured_at=None)
        item.row, item.jpeg, item.picture, item.messages = self._row(item, "not_decoded"), None, None, []
        item.preview = None

    def _decide(self, item: Item) -> Recording | None:
        """Judge a frame; return the calibration that has all its frames by now, if one has."""
        at, clock_id = item.stream_time()
        if item.picture is not None:
            item.verdict = self._judge.judge(item.landmarks, at)
        captured = item.identity.captured_at
        live = self._lateness.is_live(
            item.identity.boot_id or "",
            captured.timestamp() if captured else None,
            item.delivery.received_at.timestamp(),
        )
        change = self._tracker.update(item.verdict, at, clock_id=clock_id, live=live and not self._is_snoozed())
        entered = change.state is not None and change.state["state"] != self._state
        event = entered or change.alert is not None
        item.row = self._row(item, self._why_no_picture(item, event, at, clock_id))
        if change.state is not None:
            self._state, self._said = change.state["state"], change.state
            item.messages.append((self._topics.state, self._with_snooze(change.state), True))
        if change.alert is not None:
            item.messages.append((self._topics.alert, self._with_snooze(change.alert), False))
        recording = self._recording
        if recording is None or item.picture is None or item.measured is not None or not live:
            return None
        if not recording.add(item.landmarks, item.delivery.monotonic):
            return None
        self._recording = None
        return recording

    def _why_no_picture(self, item: Item, event: bool, at: float, clock_id: str) -> str:
        """Return why a frame leaves no picture, one of NO_PICTURE; empty if it leaves one."""
        if item.picture is None:
            return "not_decoded"
        if self._options.pictures == "none":
            return "pictures_none"
        if self._options.keep == "none":
            return "keep_none"
        arrived = item.delivery.monotonic
        if self._options.keep == "changes" and not event and not self._is_due(at, clock_id, arrived):
            return "unchanged"
        self._kept = at, clock_id, arrived
        return ""

    def _is_due(self, at: float, clock_id: str, arrived: float) -> bool:
        """Return whether the last picture that was kept is a minute old, by the frames' clock if that runs on."""
        if self._kept is None:
            return True
        last, last_clock, last_arrived = self._kept
        if clock_id == last_clock and at >= last:
            return at - last >= KEEP_EVERY_S
        return arrived - last_arrived >= KEEP_EVERY_S

    def _row(self, item: Item, no_picture: str) -> Row:
        identity, verdict = item.identity, item.verdict
        return Row(
            pi_id=self._topics.pi_id,
            frame_id=identity.frame_id,
            filename=f"{frame.safe_name(identity.frame_id)}.jpg" if not no_picture else "",
            received_time=item.delivery.received_at,
            analyzed_time=datetime.now(timezone.utc),
            captured_time=identity.captured_at,
            neck_angle=None if verdict.neck_angle is None else abs(verdict.neck_angle),
            body_angle=None if verdict.body_angle is None else abs(verdict.body_angle),
            posture_status=verdict.status,
            landmarks_detected=item.landmarks is not None,
            processed_by=self._processed_by,
            side=verdict.side,
            reason=verdict.reason,
            rule_set=verdict.rule_set,
            landmarks=to_json(item.landmarks) if self._options.landmarks else None,
            schema_version=SCHEMA_VERSION,
            seq=identity.seq,
            boot_id=identity.boot_id,
            picture_sha256=item.content or None,
            no_picture=no_picture,
            measured_frame_id=None if item.measured is None else item.measured.identity.frame_id,
        )

    def _draw(self, item: Item, picture: npt.NDArray[np.uint8]) -> bytes:
        return marked(
            self._annotated(item, picture, self._options.picture_max_width, self._options.jpeg_quality),
            item.content,
        )

    def _draw_small(self, item: Item, picture: npt.NDArray[np.uint8]) -> bytes:
        height, width = picture.shape[:2]
        return self._annotated(item, picture, max(1, PREVIEW_SIDE * width // max(width, height)), PREVIEW_QUALITY)

    def _annotated(self, item: Item, picture: npt.NDArray[np.uint8], max_width: int, quality: int) -> bytes:
        annotated = drawing.annotate(
            picture,
            item.landmarks,
            item.verdict,
            pi_id=self._topics.pi_id,
            when=item.identity.captured_at or item.delivery.received_at,
            max_width=max_width,
            pictures=self._options.pictures,
        )
        encoded, data = cv2.imencode(".jpg", annotated, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not encoded:
            raise RuntimeError(f"frame {item.identity.frame_id}: the annotated picture can't be encoded")
        return bytes(data)


def baseline_of(options: Analyzer) -> Baseline:
    """Return the calibrated pose in a stream's settings; what is 0 there has not been calibrated.

    Raises:
        UserError: the sitting height is to be judged and has not been calibrated.
    """
    angles = options.baseline_neck_deg, options.baseline_body_deg
    neck, body = angles if any(angles) else (None, None)
    if options.sitting_height and not options.baseline_sitting_height:
        raise UserError(
            "analyzer.sitting_height: true needs this stream's calibrated pose: baseline_sitting_height, as "
            "--calibrate prints it for a camera that sees the knees from the side"
        )
    width = options.baseline_shoulder_width
    return Baseline(
        neck=neck,
        body=body,
        head_height=options.baseline_head_height or None,
        placement=Placement(options.baseline_shoulder_x, options.baseline_shoulder_y, width) if width else None,
        sitting_height=options.baseline_sitting_height if options.sitting_height else None,
    )
