"""The second stage: a frame's landmarks, by the model, or those of an earlier frame if nothing has moved since."""

from __future__ import annotations

from collections.abc import Callable

from posture.analyzer.item import Item
from posture.analyzer.pose import PoseEstimator, View
from posture.analyzer.still import Frame, StillScene


class Measuring:
    """Measures the frames of one stream, in order.

    Args:
        pose: the model.
        reuse: let landmarks count again where nothing has moved.
        settled: says whether verdicts like the last one leave the stream's state as it is; only then they do.
    """

    def __init__(self, pose: PoseEstimator, *, reuse: bool, settled: Callable[[], bool]) -> None:
        self._pose = pose
        self._settled = settled
        self._still = StillScene() if reuse else None
        self._last: Item | None = None

    def measure(self, item: Item, view: View) -> None:
        """Give a decoded frame its landmarks."""
        at, clock_id = item.stream_time()
        at_ms = int(at * 1000)
        if self._still is None or item.picture is None:
            item.landmarks = self._pose.detect(view, at_ms)
            return
        frame = Frame(item.picture, view.thumbnail, at, clock_id)
        lasts = self._still.lasts(frame) and not self._pose.looking
        if lasts and self._last is not None and self._settled():
            self._pose.pass_over(at_ms)
            item.landmarks, item.measured = self._last.landmarks, self._last
            return
        item.landmarks = self._pose.detect(view, at_ms)
        self._still.measured(frame, item.landmarks, tracked=self._pose.tracked)
        self._last = item
