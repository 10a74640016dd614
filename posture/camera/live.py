"""A camera that films by itself: its newest picture, and a new try with growing pauses whenever it fails."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Protocol

from posture.camera.pictures import as_jpeg
from posture.errors import UserError
from posture.system.backoff import Backoff
from posture.system.untrusted import shown
from posture.wire.frame import UndecodableError

log = logging.getLogger(__name__)

CREDENTIALS = "POSTURE_CAMERA_USERNAME and POSTURE_CAMERA_PASSWORD"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STEADY_S = 30.0
"""A camera that has filmed for so long is trusted again: the pauses begin anew."""
LONGEST_REASON = 300
"""Characters."""
MOST_DAMAGED = 25
"""So many damaged pictures in a row, and the camera is opened anew."""
LOOK_S = 0.5
"""How soon who waits for a picture notices that nobody wants it any more."""
LAST_PICTURE_S = 2.0
"""How long a camera may take to be closed."""


class CameraLostError(Exception):
    """A camera does not film now; it may do so later. The text says why, and what to do, on one line."""

    def __init__(self, why: str) -> None:
        # a part of it may be the camera's own words
        super().__init__(shown(why, LONGEST_REASON))


class CameraRefusedError(CameraLostError):
    """Somebody has to do something before it films: there is no such camera, or it wants other credentials."""


class Camera(Protocol):
    """An open camera.

    Attributes:
        on_demand: it takes a picture when it is asked to; others film by themselves, and what nobody fetches in
            time grows old.
    """

    on_demand: bool

    def wait(self) -> None:
        """Wait for its next picture.

        Raises:
            CameraLostError: none comes.
        """

    def picture(self) -> bytes:
        """Return the picture that has been waited for: a JPEG, PNG or WebP.

        Raises:
            CameraLostError: there is none.
            UndecodableError: it is damaged; the next one may be whole.
        """

    def close(self) -> None:
        """Let go of the camera."""


class _Filming:
    """Fetches pictures in a thread of its own, so that each one is new when it is wanted."""

    def __init__(self, name: str, open_camera: Callable[[], Camera], *, fail_fast: bool) -> None:
        self._name, self._open, self._fail_fast = name, open_camera, fail_fast
        self._ended, self._changed = threading.Event(), threading.Condition()
        self._wanted, self._newest = False, b""
        self._failure: UserError | None = None
        self._filmed = False
        self._damaged = 0
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def next(self, given_up: Callable[[], bool]) -> bytes | None:
        """Wait for a picture that is taken from now on; None if it is given up.

        Raises:
            UserError: there is no such camera, or it refuses us.
        """
        with self._changed:
            self._wanted, self._newest = True, b""
            self._changed.notify_all()
            while not self._changed.wait_for(lambda: self._newest or self._failure, LOOK_S):
                if given_up():
                    return None
                if not self._thread.is_alive():
                    raise UserError(f"--source {self._name}: the program's part that films has failed; see above")
            if self._failure is not None:
                raise self._failure
            return self._newest

    def end(self) -> None:
        """Close the camera."""
        self._ended.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(LAST_PICTURE_S)

    # In the camera's thread.

    def _run(self) -> None:
        pauses = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S, jitter=0.2)
        while not self._ended.is_set():
            try:
                with closing(self._open()) as camera:
                    self._film(camera, pauses)
            except CameraLostError as error:
                refused = isinstance(error, CameraRefusedError) and not self._filmed
                if refused or self._fail_fast:
                    self._fail(error)
                    return
                pause_s = pauses.next_s()
                log.warning("--source %s: %s; next try in %.1f s", self._name, error, pause_s)
                self._ended.wait(pause_s)
            except UserError as error:  # it sends what takes a package that is not installed
                self._fail(error)
                return

    def _film(self, camera: Camera, pauses: Backoff) -> None:
        since: float | None = None
        while not self._ended.is_set():
            if camera.on_demand:
                with self._changed:
                    self._changed.wait_for(lambda: self._wanted or self._ended.is_set())
            camera.wait()
            if self._wanted and not self._ended.is_set():
                self._hand_over(camera)
            if since is None:
                since = time.monotonic()
            elif time.monotonic() - since > STEADY_S:
                pauses.reset()

    def _hand_over(self, camera: Camera) -> None:
        try:
            jpeg = as_jpeg(camera.picture())
        except UndecodableError as error:
            self._damaged += 1
            if self._damaged == 1:
                log.warning("--source %s: a picture is passed over: %s", self._name, error.reason)
            elif self._damaged % MOST_DAMAGED == 0:
                raise CameraLostError(f"{MOST_DAMAGED} pictures in a row are damaged: {error.reason}") from None
            return
        if not self._filmed:
            log.info("--source %s: films", self._name)
        self._filmed, self._damaged = True, 0
        with self._changed:
            self._wanted, self._newest = False, jpeg
            self._changed.notify_all()

    def _fail(self, error: CameraLostError | UserError) -> None:
        with self._changed:
            self._failure = UserError(f"--source {self._name}: {error}")
            self._changed.notify_all()


def film(
    name: str, open_camera: Callable[[], Camera], *, fail_fast: bool, given_up: Callable[[], bool]
) -> Iterator[bytes]:
    """Yield a live camera's pictures as JPEGs, each taken after it was asked for.

    Args:
        name: what messages call the camera; without secrets.
        open_camera: opens it; called again after each failure.
        fail_fast: the first failure is the last one.
        given_up: says that no further picture is wanted, though one is being waited for.

    Raises:
        UserError: there is no such camera, or it refuses us; once it has filmed it is waited for instead.
    """
    filming = _Filming(name, open_camera, fail_fast=fail_fast)
    try:
        while (jpeg := filming.next(given_up)) is not None:
            yield jpeg
    finally:
        filming.end()
