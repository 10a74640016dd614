"""MediaPipe: picture -> the 33 landmarks of the person who is measured, and who else is there.

MediaPipe is imported when the first estimator is made, so that this module can be imported, and a missing
system library be explained, without it.
"""

from __future__ import annotations

import copy
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from posture.analyzer import fitting, people
from posture.analyzer.surroundings import Surroundings
from posture.errors import UserError
from posture.system.gpu_devices import gpu_devices
from posture.system.memory import give_back_freed_memory
from posture.verdict.persons import Following, Person
from posture.verdict.rule_sets import Landmarks

log = logging.getLogger(__name__)

USEFUL_SIDE = 960
"""Pixels a side that are enough: the model sees a person at 256x256, and its detector all at 224x224."""

DELEGATES = ("auto", "cpu", "gpu")
APT_LINE = "sudo apt-get install --no-install-recommends libegl1 libgles2 libgl1 libglib2.0-0"

_MAX_STEP_MS = 3_600_000  # a camera's clock may jump by years; the model's filters need no more than an hour
_STALE_MS = 1_000  # a region tracked for longer than this without a look says nothing about where people are
_LOOK_EVERY_MS = 2_000  # how long somebody who joins the measured person may go unseen
_LOOK_AT_LEAST_MS = 30_000  # likewise, if he changes nothing around that person
_LOOK_TAKES_MS = 100  # when a look beside the tracking is taken in, in the frames' time: it must not depend on ours
_IDLE_MS = 10_000  # after so long without a look its model is given back
_PEOPLE = 4  # looked for at once
_THUMBNAIL = 16  # pixels a side
_CUT = 30.0  # mean grey difference of thumbnails: a moving camera or person < 20, another scene > 40
# Log lines of the native libraries to hide: they appear at every first detection and mean nothing to an operator.
_LIBRARY_NOISE = re.compile(
    r"(INFO: |WARNING: Logging before|[WIE]\d{4} \d|Stack trace:|\s+@ |libEGL warning|MESA)"
)

_STANDARD_ERROR = threading.Lock()  # two models may be made at a time


@dataclass(frozen=True)
class View:
    """A picture as the model takes it; made by ``PoseEstimator.view``, in whichever thread has the time."""

    image: Any
    thumbnail: npt.NDArray[np.float32]
    width: int
    height: int


class PoseEstimator:
    """One stream's pose model: tracks one person from frame to frame.

    Every two seconds it looks for everybody else, too, if others are there or something around that person has
    changed; else every thirty. That takes longer than tracking, so it is done beside it, and counts from a frame
    100 ms later on. It looks at once with a frame in which tracking found nobody, or somebody who can't be the one
    of the last frame; at low frame rates, where the tracked region is stale, with every frame; and with one that
    shows another scene. The second model that this takes is in memory for as long as it is in use.

    Use it as a context manager, or call close(): the model's own destructor fails when the interpreter
    exits. ``view`` may be called from any thread, all else from one at a time.

    Attributes:
        delegate: what the model runs on, ``cpu`` or ``gpu``.
        all_in_every_frame: as asked for.
        without_gpu: why it doesn't run on the GPU, if that was tried.
        tracked: the person of the last frame was tracked from the one before, and not found anew.
    """

    def __init__(self, model: Path, delegate: str = "auto", *, all_in_every_frame: bool = False) -> None:
        """Load the model and try it once.

        Args:
            model: a ``.task`` file of the pose landmarker: full (in ``models/``), lite or heavy.
            delegate: ``cpu``, ``gpu`` or ``auto`` (the GPU if it works). Without a working GPU both ``gpu``
                and ``auto`` use the CPU, and ``without_gpu`` says why. The log says it, too, as a warning where the
                GPU was asked for, or there is one.
            all_in_every_frame: look in every frame who is before or behind the measured person, for pictures that
                must hide them, and not only every two seconds.

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
        self._mediapipe, self._cv2 = import_libraries()
        self._model = model
        self._clock_ms = self._tracker_ms = 1
        self._last_timestamp_ms: int | None = None
        self._last_thumbnail: npt.NDArray[np.float32] | None = None
        self._single: Any = None  # in memory only while it is needed: it takes 73 MB, and 0.1 s to make
        self.all_in_every_frame = all_in_every_frame
        self._looked_ms = self._asked_ms = -_LOOK_EVERY_MS
        self._surroundings = Surroundings()
        self._following = Following()
        self._person: Person | None = None  # of the last frame
        self._others: tuple[Landmarks, ...] = ()  # at the last look
        self._locked = False  # the tracker remembers somebody
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="look")
        self._looking: Future[list[Person]] | None = None
        self.tracked = False
        self.delegate = "cpu"
        self.without_gpu = ""
        self._tracking: Any = self._open_tracking(delegate)

    def view(self, bgr: npt.NDArray[np.uint8]) -> View:
        """Prepare a picture.

        Args:
            bgr: the picture, shape (height, width, 3), blue first. More than USEFUL_SIDE pixels a side cost
                time and gain nothing.
        """
        height, width = bgr.shape[:2]
        return View(self._image(bgr), self._thumbnail(bgr), width, height)

    def detect(self, view: View, timestamp_ms: int) -> Landmarks | None:
        """Find the person who is measured.

        Args:
            view: the picture.
            timestamp_ms: when it was taken, on any clock; a time that stands still or goes back is accepted.

        Returns:
            Landmarks in pixels of this picture, or None when nobody is in it. Its ``others``, if there are any, are
            as old as the last look, two seconds at most, or of this frame with ``all_in_every_frame``.
        """
        step_ms = self._step_ms(timestamp_ms)
        self._clock_ms += step_ms
        self._tracker_ms += step_ms
        if not self._same_scene(view.thumbnail):
            self._following.forget()
            self._person = None
            self._release()
        tracked = None
        if self._person is not None and step_ms <= _STALE_MS:
            tracked = self._track(view, self._person)
        if tracked is None:
            self._person = self._look(view, None)
        elif self.all_in_every_frame:
            self._person = self._see_all(view, tracked)
        else:
            self._person = self._take_in_the_look(view, tracked)
            if self._looking is None and self._somebody_may_have_come(view, tracked):
                self._look_beside(view, tracked)
        self.tracked = tracked is not None and self._person is tracked
        if self._person is None:
            return None
        return replace(self._person.landmarks, others=self._others, contested=self._following.contested)

    @property
    def looking(self) -> bool:
        """Whether others are looked for beside; what that finds counts with the next frame that is looked at."""
        return self._looking is not None

    def finish(self) -> None:
        """Return once no picture is worked on any more: others may be looked for when ``detect`` has returned."""
        if self._looking is not None:
            wait([self._looking])

    def pass_over(self, timestamp_ms: int) -> None:
        """Take note of a frame that isn't looked at because nothing has moved: who was there is where he was.

        For the tracker no time passes: it goes on smoothing over what it has seen.

        Args:
            timestamp_ms: as for ``detect``.
        """
        self._clock_ms += self._step_ms(timestamp_ms)
        if self._person is not None:
            self._following.goes_on_as(self._person, self._clock_ms / 1000)

    def close(self) -> None:
        """Free the model. A second call does nothing."""
        self._beside.shutdown()
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
        return self._wrap(self._cv2.cvtColor(bgr, self._cv2.COLOR_BGR2RGB))

    def _wrap(self, rgb: npt.NDArray[np.uint8]) -> Any:
        return self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=rgb)

    def _step_ms(self, timestamp_ms: int) -> int:
        """Milliseconds since the last frame; 1 for the first, and where time stands still or goes back."""
        step = 1 if self._last_timestamp_ms is None else timestamp_ms - self._last_timestamp_ms
        self._last_timestamp_ms = timestamp_ms
        return min(max(step, 1), _MAX_STEP_MS)

    def _thumbnail(self, bgr: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The picture in grey, _THUMBNAIL pixels a side, each the mean of 4 x 4 samples."""
        side = 4 * _THUMBNAIL
        samples = self._cv2.resize(bgr, (side, side), interpolation=self._cv2.INTER_NEAREST)
        small = self._cv2.resize(samples, (_THUMBNAIL, _THUMBNAIL), interpolation=self._cv2.INTER_AREA)
        return np.asarray(small.mean(axis=2, dtype=np.float32))

    def _same_scene(self, thumbnail: npt.NDArray[np.float32]) -> bool:
        """Whether this picture may continue the last one. After a cut, tracking starts anew.

        Its memory would make about ten frames of the new scene wrong (measured).
        """
        last, self._last_thumbnail = self._last_thumbnail, thumbnail
        return last is None or float(np.abs(thumbnail - last).mean()) < _CUT

    def _track(self, view: View, last: Person) -> Person | None:
        """Whom the tracker sees in this frame, if that is the one of the last frame."""
        if self._tracking is None:
            self._tracking = self._create("VIDEO", self.delegate)
        image = view.image
        if not self._locked and self._others:
            image = self._wrap(people.alone(image.numpy_view(), last))
        found = people.persons_of(self._tracking.detect_for_video(image, self._tracker_ms), view.width, view.height)
        self._locked = bool(found)
        if found and self._following.goes_on_as(found[0], self._clock_ms / 1000):
            return found[0]
        self._release()
        return None

    def _look_beside(self, view: View, tracked: Person) -> None:
        """Begin to look for others, in a thread of its own."""
        self._looked_ms = self._clock_ms
        self._surroundings.remember(view.thumbnail, _share_of(view, tracked))
        self._looking = self._beside.submit(self._find, view, tracked, people.DEPTH)

    def _take_in_the_look(self, view: View, tracked: Person) -> Person | None:
        """Whom to follow, by the look that was begun some frames ago, if there is one and its time has come."""
        if self._looking is None or self._clock_ms - self._looked_ms < _LOOK_TAKES_MS:
            return tracked
        looking, self._looking = self._looking, None
        if looking.exception() is None:
            found = [tracked, *looking.result()[1:]]  # the first is who was tracked then
            following = copy.copy(self._following)
            if following.choose(found, self._clock_ms / 1000) is tracked:
                self._following = following
                self._others = tuple(other.landmarks for other in found[1:])
                return tracked
        return self._look(view, tracked)  # another one is to be followed, whose landmarks must be of this frame

    def _see_all(self, view: View, tracked: Person) -> Person | None:
        """Find everybody in this very frame, and whom of them to follow."""
        if self._somebody_may_have_come(view, tracked):
            return self._look(view, tracked)
        found = self._find(view, tracked, depth=0)
        self._others = tuple(other.landmarks for other in found if other is not tracked)
        return tracked

    def _look(self, view: View, tracked: Person | None) -> Person | None:
        """Find everybody, and whom of them to follow; who is tracked stays as the tracker sees him."""
        if self._looking is not None:
            wait([self._looking])  # the model does one thing at a time
            self._looking = None
        self._looked_ms = self._asked_ms = self._clock_ms
        found = self._find(view, tracked, people.DEPTH)
        person = self._following.choose(found, self._clock_ms / 1000)
        self._others = tuple(other.landmarks for other in found if other is not person)
        if person is not tracked:
            self._release()
        if person is None:
            self._surroundings.forget()
        else:
            self._surroundings.remember(view.thumbnail, _share_of(view, person))
        return person

    def _somebody_may_have_come(self, view: View, tracked: Person) -> bool:
        """Whether it is time for a look; if nothing has asked for one for a while, its model is given back."""
        if self._clock_ms - self._asked_ms < _LOOK_EVERY_MS:
            return False
        self._asked_ms = self._clock_ms
        unseen_ms = self._clock_ms - self._looked_ms
        if (
            self._others
            or self._following.contested
            or unseen_ms >= _LOOK_AT_LEAST_MS
            or self._surroundings.have_changed(view.thumbnail, _share_of(view, tracked))
        ):
            return True
        if unseen_ms >= _IDLE_MS and self._single is not None and not self.all_in_every_frame:
            self._single.close()
            self._single = None
            give_back_freed_memory()
        return False

    def _find(self, view: View, tracked: Person | None, depth: int) -> list[Person]:
        if self._single is None:
            self._single = self._create("IMAGE", self.delegate)
        found = people.everybody(view.image.numpy_view(), lambda rgb: self._single.detect(self._wrap(rgb)), depth)
        if tracked is None:
            return found
        return [tracked, *(person for person in found if not person.is_found_again_as(tracked))]

    def _release(self) -> None:
        """Let the tracker find its person anew: what it remembers of another one would spoil some ten frames."""
        if self._locked and self._tracking is not None:
            self._tracking.close()
            self._tracking = None
        self._locked = False

    def _open_tracking(self, delegate: str) -> Any:
        if delegate != "cpu":
            try:
                tracking = self._create("VIDEO", "gpu")
            except (RuntimeError, NotImplementedError, ValueError) as error:
                self.without_gpu = _shorten(error)
                # a machine without one is as good as any: that is no fault unless somebody asked for the GPU
                log.log(
                    logging.WARNING if delegate == "gpu" or gpu_devices() else logging.INFO,
                    "delegate %s: no usable GPU, the CPU is used (%s)%s",
                    delegate,
                    self.without_gpu,
                    "; the GPU was asked for: docs/boards.md says what it needs" if delegate == "gpu" else "",
                )
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
            base_options=base(model_asset_path=str(self._model), delegate=getattr(base.Delegate, delegate.upper())),
            running_mode=getattr(tasks.vision.RunningMode, mode),
            # in VIDEO mode more than the people present would run the detector on every frame
            num_poses=1 if mode == "VIDEO" else _PEOPLE,
        )
        blank = self._image(np.zeros((64, 64, 3), np.uint8))
        with _library_noise_to_debug():
            landmarker = tasks.vision.PoseLandmarker.create_from_options(options)
            try:
                if mode == "VIDEO":
                    landmarker.detect_for_video(blank, self._tracker_ms - 1)
                else:
                    landmarker.detect(blank)
            except RuntimeError:
                landmarker.close()
                raise
        return landmarker


def _share_of(view: View, person: Person) -> tuple[float, float, float, float]:
    left, top, right, bottom = people.span(person)
    return left / view.width, top / view.height, right / view.width, bottom / view.height


def import_libraries() -> tuple[Any, Any]:
    """Import mediapipe and the cv2 that it brings; both load graphics libraries.

    Raises:
        UserError: with the line that installs what is missing, or because this processor is too old.
    """
    fitting.check_that_mediapipe_runs_here()
    try:
        with _left_out("matplotlib", "matplotlib.pyplot", "sounddevice"):
            import cv2  # noqa: PLC0415
            import mediapipe  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UserError(f"{error}; install it with: pip install 'posture-farm[analyzer]'") from error
    except (ImportError, OSError) as error:
        raise UserError(
            f"mediapipe can't be loaded ({error}); on Debian or Ubuntu install its libraries: {APT_LINE}"
        ) from error
    return mediapipe, cv2


@contextmanager
def _left_out(*names: str) -> Iterator[None]:
    """Let what is imported meanwhile find nothing in these modules.

    mediapipe imports matplotlib, 33 MB of memory, for a function that draws in 3D, and sounddevice, which looks for
    the machine's microphones: nobody calls either.
    """
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update({name: ModuleType(name) for name in absent})
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def _library_noise_to_debug() -> Iterator[None]:
    """Keep the native libraries' start-up chatter off standard error; what isn't chatter is passed on.

    They write to file descriptor 2 themselves and know no log level that could be set from Python.
    """
    if log.isEnabledFor(logging.DEBUG):
        yield
        return
    with _STANDARD_ERROR, tempfile.TemporaryFile() as captured:
        sys.stderr.flush()
        kept = os.dup(2)
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
