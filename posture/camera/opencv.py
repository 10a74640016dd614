"""OpenCV is imported only where a source needs it: folders of JPEGs, MJPEG and the Pi's own camera do without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from posture.errors import UserError

PIP = "python3 -m pip install -r requirements/camera-video.txt (in a virtual environment)"
OF_DEBIAN = {"cv2", "numpy"}
"""Packages that come with python3-opencv, too, which is three times as large."""


@contextmanager
def needed_for(what: str) -> Iterator[None]:
    """Let an import of OpenCV, or of what comes with it, that fails in this block be a user's error.

    Args:
        what: what needs it, such as ``a webcam``.

    Raises:
        UserError: it is not installed, or can't be loaded.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        get = f"{PIP}, or on a 32-bit Pi sudo apt-get install python3-opencv" if name in OF_DEBIAN else PIP
        raise UserError(f"{what} needs the Python package {name}, which is not installed; get it: {get}") from None
    except ImportError as error:  # a shared library that is missing, or one made for another numpy
        raise UserError(
            f"{what} needs OpenCV, which can't be loaded: {error}; requirements/camera-video.txt has one "
            "that needs no other library"
        ) from None
