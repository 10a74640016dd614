"""MediaPipe: picture -> the 33 landmarks of one person.

MediaPipe is imported when the first estimator is made, so that this module can be imported, and a missing
system library be explained, without it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from posture.errors import UserError
from posture.rules import Landmarks

logger = logging.getLogger(__name__)

USEFUL_SIDE = 960
"""Pixels a side that are enough: the model sees a person at 256x256, and its detector all at 224x224."""

DELEGATES = ("auto", "cpu", "gpu")
APT_LINE = "sudo apt-get install --no-install-recommends libegl1 libgles2 libgl1 libglib2.0-0"

_MAX_STEP_MS = 3_600_000  # a camera's clock may jump by years; the model's filters need no more than an hour
# what the libraries beneath say in English to their authors, on the way to every first detection
_LIBRARY_NOISE = re.compile(
    r"(INFO: |WARNING: Logging before|[WIE]\d{4} \d|Stack trace:|\s+@ |libEGL warning|MESA)"
)


class PoseEstimator:
    """One stream's pose model: tracks one person from frame to frame.

    A frame in which tracking found nobody is looked at once more on its own, because at low frame rates the
    tracked region is stale. Use it as a context manager, or call close(): the model's own destructor fails
    when the interpreter exits. Not for use from several threads at once.
    """

    def __init__(self, model: Path, delegate: str = "auto") -> None:
        """Load the model and try it once.

        Args:
            model: a ``.task`` file of the pose landmarker: full (in ``models/``), lite or heavy.
            delegate: ``cpu``, ``gpu`` or ``auto`` (the GPU if it works). Without a working GPU both ``gpu``
                and ``auto`` log a warning and use the CPU.

        Raises:
            UserError: no such model file, not a model, an unknown delegate, or a system library is missing.
        """
        if delegate not in DELEGATES:
            raise UserError(f"delegate: {delegate!r} is unknown; accepted: {', '.join(DELEGATES)}")
        if not model.is_file():
            raise UserError(
                f"model: {model} is not there; it is part of the repository as "
                "models/pose_landmarker_full.task, and models/make_model.py makes it again"
            )
        self._mediapipe = _import_mediapipe()
        self._model = model
        self._clock_ms = 0
        self._last_timestamp_ms: int | None = None
        self._single: Any = None  # made when first needed: each landmarker takes more than 100 MB
        self.delegate = "cpu"
        self._tracking = self._open_tracking(delegate)

    def detect(self, bgr: npt.NDArray[np.uint8], timestamp_ms: int) -> Landmarks | None:
        """Find the person.

        Args:
            bgr: the picture, shape (height, width, 3), blue first. More than USEFUL_SIDE pixels a side cost
                time and gain nothing.
            timestamp_ms: when it was taken, on any clock; a time that stands still or goes back is accepted.

        Returns:
            Landmarks in pixels of this picture, or None when nobody is in it.
        """
        image = self._image(bgr)
        found = self._tracking.detect_for_video(image, self._next_clock_ms(timestamp_ms)).pose_landmarks
        if not found:
            if self._single is None:
                self._single = self._create("IMAGE", self.delegate)
            found = self._single.detect(image).pose_landmarks
        if not found:
            return None
        height, width = bgr.shape[:2]
        points = np.array([(point.x * width, point.y * height, point.visibility) for point in found[0]])
        return Landmarks(points=points, width=width, height=height)

    def close(self) -> None:
        """Free the model. A second call does nothing."""
        for landmarker in (self._tracking, self._single):
            if landmarker is not None:
                landmarker.close()
        self._tracking = self._single = None

    def __enter__(self) -> PoseEstimator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _image(self, bgr: npt.NDArray[np.uint8]) -> Any:
        return self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(bgr[:, :, ::-1])
        )

    def _next_clock_ms(self, timestamp_ms: int) -> int:
        """The model's own time, which always goes forward, by the camera's steps where those make sense."""
        step = 1 if self._last_timestamp_ms is None else timestamp_ms - self._last_timestamp_ms
        self._last_timestamp_ms = timestamp_ms
        self._clock_ms += min(max(step, 1), _MAX_STEP_MS)
        return self._clock_ms

    def _open_tracking(self, delegate: str) -> Any:
        if delegate != "cpu":
            try:
                tracking = self._create("VIDEO", "gpu")
            except (RuntimeError, NotImplementedError, ValueError) as error:
                logger.warning("delegate %s: no usable GPU, the CPU is used (%s)", delegate, _shorten(error))
            else:
                self.delegate = "gpu"
                return tracking
        try:
            return self._create("VIDEO", "cpu")
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"model: {self._model} is no pose landmarker model ({_shorten(error)}); "
                "a .task file is accepted, such as models/pose_landmarker_full.task"
            ) from error

    def _create(self, mode: str, delegate: str) -> Any:
        """A landmarker that has seen a first, empty picture: only that shows that a delegate works."""
        tasks = self._mediapipe.tasks
        base = tasks.BaseOptions
        options = tasks.vision.PoseLandmarkerOptions(
            base_options=base(
                model_asset_path=str(self._model), delegate=getattr(base.Delegate, delegate.upper())
            ),
            running_mode=getattr(tasks.vision.RunningMode, mode),
            num_poses=1,  # more than the people present would run the detector on every frame
        )
        blank = self._image(np.zeros((64, 64, 3), np.uint8))
        with _library_noise_to_debug():
            landmarker = tasks.vision.PoseLandmarker.create_from_options(options)
            try:
                if mode == "VIDEO":
                    landmarker.detect_for_video(blank, self._next_clock_ms(0))
                    self._last_timestamp_ms = None
                else:
                    landmarker.detect(blank)
            except RuntimeError:
                landmarker.close()
                raise
        return landmarker


def _import_mediapipe() -> Any:
    """Import mediapipe, whose import reads a font cache and loads graphics libraries.

    Raises:
        UserError: with the line that installs what is missing.
    """
    if "MPLCONFIGDIR" not in os.environ and not os.access(Path.home(), os.W_OK):
        # Its matplotlib wants to write a cache; on a read-only root it needs another place.
        os.environ["MPLCONFIGDIR"] = tempfile.gettempdir()
    try:
        import mediapipe  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UserError(f"{error}; install it with: pip install 'posture-farm[analyzer]'") from error
    except (ImportError, OSError) as error:
        raise UserError(
            f"mediapipe can't be loaded ({error}); on Debian or Ubuntu install its libraries: {APT_LINE}"
        ) from error
    return mediapipe


@contextmanager
def _library_noise_to_debug() -> Iterator[None]:
    """Keep the native libraries' start-up chatter off standard error; what isn't chatter is passed on.

    They write to file descriptor 2 themselves and know no log level that could be set from Python.
    """
    if logger.isEnabledFor(logging.DEBUG):
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            captured.seek(0)
            for line in captured.read().decode(errors="replace").splitlines():
                if not _LIBRARY_NOISE.match(line):
                    os.write(2, f"{line}\n".encode())


def _shorten(error: Exception) -> str:
    """The cause at the end of the library's chain of causes, which runs over whole screens."""
    lines = str(error).strip().splitlines()
    return lines[0].rpartition(": ")[2][:200] if lines else type(error).__name__
