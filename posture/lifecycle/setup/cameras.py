"""The line that makes a Raspberry Pi the camera of a stream. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

SOURCE = "picamera"


def install_line(stream: str, broker: str) -> list[str]:
    """Return the command that is typed on the camera, in a copy of this folder with the camera's own in it."""
    return ["sudo", "sh", "deploy/camera/install.sh", stream, SOURCE, broker, f"broker/camera-{stream}"]


def lines(streams: Sequence[str], broker: str, root: Path) -> Iterator[str]:
    """Return what is told about the cameras.

    Args:
        streams: the farm's.
        broker: its address for cameras.
        root: the folder of the scripts.
    """
    yield f"each camera, on its Raspberry Pi, in a copy of {root.name}/ without broker/ and .env, once its own"
    yield f"folder is copied there (scp -r broker/camera-NAME pi@CAMERA:{root.name}/broker/):"
    for stream in streams:
        yield f"  {shlex.join(install_line(stream, broker))}"
