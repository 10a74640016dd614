"""The Raspberry Pi's own camera; picamera2 comes from the Pi's system packages, and encodes by itself."""

from __future__ import annotations

import io
from typing import Any

from posture.camera.live import CameraLostError, CameraRefusedError
from posture.system import native_output

SIZE = (1280, 720)
QUALITY = 92


class PiCamera:
    """The Raspberry Pi's own camera."""

    on_demand = True

    def __init__(self, camera: Any) -> None:
        self._camera = camera

    def wait(self) -> None:
        """See ``Camera``: picamera2 hands out the newest picture whenever it is asked."""

    def picture(self) -> bytes:
        """See ``Camera``."""
        # so that no noise of months piles up; what it says of one picture helps nobody
        native_output.taken()
        jpeg = io.BytesIO()
        try:
            # not capture_file, which logs two lines for each picture and adds EXIF
            self._camera.capture_image().save(jpeg, "JPEG", quality=QUALITY)
        except (RuntimeError, OSError) as error:
            raise CameraLostError(f"gives no picture: {error}") from error
        return jpeg.getvalue()

    def close(self) -> None:
        """See ``Camera``."""
        self._camera.close()


def open_picamera() -> PiCamera:
    """Open the Raspberry Pi's camera.

    Raises:
        CameraRefusedError: picamera2 is not installed, or finds no camera.
    """
    try:
        from picamera2 import Picamera2  # noqa: PLC0415 - on a Pi only, from its system packages
    except ModuleNotFoundError as error:
        if error.name != "picamera2":
            raise CameraRefusedError(f"picamera2 can't be loaded: {error}") from None
        raise CameraRefusedError(
            "picamera2 is not installed: sudo apt-get install python3-picamera2, and a virtual environment made "
            "with --system-site-packages"
        ) from None
    except (ImportError, ValueError) as error:  # ValueError: made for another numpy
        raise CameraRefusedError(f"picamera2 can't be loaded: {error}") from None
    try:
        camera: Any = Picamera2()
        camera.configure(camera.create_video_configuration({"format": "RGB888", "size": SIZE}))
        camera.start()
    except (IndexError, RuntimeError, OSError) as error:
        raise CameraRefusedError(
            f"there is no camera that can be used ({error}); is its cable in, is another program using it?"
        ) from error
    return PiCamera(camera)
