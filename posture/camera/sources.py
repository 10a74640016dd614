"""Sources of pictures: a folder, a picture or video file, and cameras."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

from posture.camera import opencv
from posture.camera.http_camera import open_http
from posture.camera.live import CREDENTIALS, Camera, film
from posture.camera.pi_camera import open_picamera
from posture.camera.pictures import as_jpeg
from posture.errors import UserError
from posture.natural_order import natural
from posture.settings import table
from posture.wire.frame import Limits, UndecodableError

log = logging.getLogger(__name__)

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
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
    if not tilt_deg:
        return frames
    with opencv.needed_for("--tilt"):
        from posture.camera.tilting import tilted  # noqa: PLC0415 - see opencv
    return tilted(frames, tilt_deg)


def _is_webcam(source: str) -> bool:
    return (source.isascii() and source.isdecimal() and len(source) < 5) or source.startswith("/dev/")


def _camera(source: str, settings: table.Camera) -> tuple[str, Callable[[], Camera]]:
    """Return what messages call a camera, and what opens it."""
    if source == "picamera":
        return source, open_picamera
    if _is_webcam(source):
        with opencv.needed_for(f"--source {source}: a webcam"):
            from posture.camera.devices import open_webcam  # noqa: PLC0415 - see opencv
        return source, partial(open_webcam, source)
    scheme, name = _named(source)
    if scheme != "rtsp":
        return name, partial(open_http, source, settings)
    with opencv.needed_for(f"--source {name}: RTSP"):
        from posture.camera.devices import open_rtsp  # noqa: PLC0415 - see opencv
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
            found = (one for one in path.iterdir() if one.suffix.lower() in SUFFIXES)
            pictures = sorted(found, key=lambda one: natural(one.name))
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
            except UserError as error:
                raise UserError(f"--source {path}: {error}") from None
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
        UserError: it takes a package that is not installed.
    """
    if not path.is_file() and path.exists():  # a pipe would never end
        raise UndecodableError("not_a_file")
    with path.open("rb") as file:
        return as_jpeg(file.read(Limits.max_bytes + 1))


def _video(path: Path, loop: bool) -> Iterator[bytes]:
    with opencv.needed_for(f"--source {path}: a video"):
        from posture.camera.video_file import open_video  # noqa: PLC0415 - see opencv
    return open_video(path, loop=loop)
