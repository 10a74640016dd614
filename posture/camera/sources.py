"""Sources of pictures: a folder, a picture or video file, and cameras."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

import cv2

from posture.camera.devices import open_picamera, open_rtsp, open_webcam
from posture.camera.http_camera import open_http
from posture.camera.live import CREDENTIALS, Camera, film
from posture.camera.pictures import Pixels, as_jpeg, pixels_of
from posture.errors import UserError
from posture.settings import table
from posture.system import native_output
from posture.wire.frame import Limits, UndecodableError

log = logging.getLogger(__name__)

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
TILT_PERIOD = 150
"""Frames of one full swing of ``--tilt``."""
LEAST_OF_PROMISED = 0.9
"""A video's header may only estimate how many pictures it has."""
SCHEMES = ("rtsp", "http", "https")
ACCEPTED = (
    "accepted: a folder of pictures, a picture, a video file, a webcam's number (0) or device (/dev/video0), "
    "picamera, rtsp://..., http://... or https://..."
)


def is_camera(source: str) -> bool:
    """Return whether a source films by itself, so that it is open only once and has no end."""
    return source == "picamera" or _is_webcam(source) or "://" in source


def open_source(
    source: str,
    *,
    loop: bool,
    tilt_deg: float = 0.0,
    camera: table.Camera = table.Camera(),  # noqa: B008 - it can't be changed
    fail_fast: bool = False,
    given_up: Callable[[], bool] = lambda: False,
) -> Iterator[bytes]:
    """Yield JPEGs. A JPEG is passed on as it is, unless it is to be tilted.

    A camera is opened with the first picture, and again with growing pauses whenever it fails after that.

    Args:
        source: as ``ACCEPTED`` says.
        loop: start a folder or video again at its end.
        tilt_deg: rotate slowly to and fro, by up to so many degrees.
        camera: user and password of one in the network.
        fail_fast: a camera that fails is not waited for.
        given_up: asked while a camera is waited for: no further picture is wanted.

    Raises:
        UserError: there is no such source, or it has no pictures.
    """
    frames: Iterator[bytes]
    if is_camera(source):
        name, opener = _camera(source, camera)
        frames = film(name, opener, fail_fast=fail_fast, given_up=given_up)
    else:
        frames = _files(Path(source), loop)
    return _tilted(frames, tilt_deg) if tilt_deg else frames


def _is_webcam(source: str) -> bool:
    return (source.isascii() and source.isdecimal() and len(source) < 5) or source.startswith("/dev/")


def _camera(source: str, settings: table.Camera) -> tuple[str, Callable[[], Camera]]:
    """Return what messages call a camera, and what opens it."""
    if source == "picamera":
        return source, open_picamera
    if _is_webcam(source):
        return source, partial(open_webcam, source)
    scheme, name = _named(source)
    if scheme != "rtsp":
        return name, partial(open_http, source, settings)
    user, password = (quote(text, safe="") for text in (settings.username, settings.password))
    url = source.replace("://", f"://{user}:{password}@", 1) if user else source
    return name, partial(open_rtsp, url, password)


def _named(url: str) -> tuple[str, str]:
    """Return the scheme of a camera's URL, and the URL without its query, which may hold a password.

    Raises:
        UserError: it is no camera's, or holds a password itself.
    """
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise UserError(f"--source {scheme}://...: is no camera's address; {ACCEPTED}")
    if "@" in url:
        # not where it looks like an authority alone: a password may hold any sign
        raise UserError(
            f"--source {scheme}://...@...: user and password belong into {CREDENTIALS}, where nobody sees them; "
            "another @ is written %40"
        )
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0 and url.isascii() and url.isprintable() and " " not in url
    except ValueError:  # a port that is no number, or a bracket that lacks its other one
        usable = False
    if not usable:
        raise UserError(f"--source {scheme}://...: host or port can't be read; accepted: {scheme}://host:port/path")
    return scheme, f"{scheme}://{parts.netloc}{parts.path}"


def _files(path: Path, loop: bool) -> Iterator[bytes]:
    try:
        if path.is_dir():
            pictures = sorted(name for name in path.iterdir() if name.suffix.lower() in SUFFIXES)
            if not pictures:
                endings = ", ".join(sorted(SUFFIXES))
                raise UserError(f"--source {path}: has no picture; accepted: files ending in {endings}")
            return _pictures(path, pictures, loop)
        if path.is_file():
            return _pictures(path, [path], loop) if path.suffix.lower() in SUFFIXES else _video(path, loop)
    except (OSError, ValueError) as error:  # a folder that may not be read; a name that can be none
        raise UserError(f"--source {path}: {getattr(error, 'strerror', None) or error}; {ACCEPTED}") from None
    raise UserError(f"--source {path}: there is no such folder or file; {ACCEPTED}")


def _pictures(source: Path, paths: list[Path], loop: bool) -> Iterator[bytes]:
    passed_over: set[Path] = set()
    while True:
        count = 0
        for path in paths:
            try:
                jpeg = _jpeg_of(path)
            except (OSError, UndecodableError) as error:
                if path not in passed_over:
                    passed_over.add(path)
                    why = error.strerror if isinstance(error, OSError) else f"not a readable picture ({error})"
                    log.warning("%s: %s; skipped", path, why)
                continue
            count += 1
            yield jpeg
        if not count:
            raise UserError(f"--source {source}: none of its {len(paths)} pictures can be read; {ACCEPTED}")
        if not loop:
            return


def _jpeg_of(path: Path) -> bytes:
    """Return a picture file as JPEG, unchanged if it is one.

    Raises:
        OSError: it can't be read.
        UndecodableError: it is no picture, or too large.
    """
    if not path.is_file() and path.exists():  # a pipe would never end
        raise UndecodableError("not_a_file")
    with path.open("rb") as file:
        return as_jpeg(file.read(Limits.max_bytes + 1))


def _video(path: Path, loop: bool) -> Iterator[bytes]:
    capture = _open_video(path)

    def frames(capture: cv2.VideoCapture) -> Iterator[bytes]:
        while True:
            count = 0
            promised = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            while (read := capture.read())[0]:
                count += 1
                yield _as_frame(path, read[1])
            capture.release()
            if not count:
                raise UserError(f"--source {path}: no picture can be read from it; {ACCEPTED}")
            if count < LEAST_OF_PROMISED * promised:
                log.warning("%s: ends after %d of %d pictures; is it cut off or damaged?", path, count, promised)
            if not loop:
                return
            # to go back to the start is more than every container can
            capture = _open_video(path)

    return frames(capture)


def _as_frame(path: Path, pixels: Pixels) -> bytes:
    try:
        return as_jpeg(pixels)
    except UndecodableError:
        raise UserError(
            f"--source {path}: {pixels.shape[1]} x {pixels.shape[0]} pixels are no JPEG's size"
        ) from None


def _open_video(path: Path) -> cv2.VideoCapture:
    native_output.taken()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise UserError(f"--source {path}: can't be opened as a video; {ACCEPTED}")
    return capture


def _tilted(frames: Iterator[bytes], degrees: float) -> Iterator[bytes]:
    for number, jpeg in enumerate(frames):
        try:
            pixels = pixels_of(jpeg)
            height, width = pixels.shape[:2]
            angle = degrees * math.sin(2 * math.pi * number / TILT_PERIOD)
            turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
            tilted = as_jpeg(cv2.warpAffine(pixels, turn, (width, height), borderMode=cv2.BORDER_REPLICATE))
        except UndecodableError as error:
            log.warning("a picture can't be tilted: %s; skipped", error)
            continue
        yield tilted
