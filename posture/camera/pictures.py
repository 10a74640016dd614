"""Pictures as JPEGs: those that are JPEGs stay as they are."""

from __future__ import annotations

from posture.camera import opencv
from posture.wire.frame import JPEG, PNG, Limits, UndecodableError

RIFF = b"RIFF"
"""What a WebP begins with."""


def as_jpeg(picture: bytes) -> bytes:
    """Return a picture as JPEG, unchanged if it is one.

    Args:
        picture: a JPEG, PNG or WebP.

    Raises:
        UndecodableError: it is none, it is damaged, or larger than an analyzer takes.
        UserError: it is no JPEG, and OpenCV is not installed.
    """
    if len(picture) > Limits.max_bytes:
        raise UndecodableError("too_many_bytes")
    if picture.startswith(JPEG):
        return picture
    if not picture.startswith((PNG, RIFF)):
        raise UndecodableError("not_a_picture" if picture else "empty")
    with opencv.needed_for("a PNG or WebP"):
        from posture.camera import pixels  # noqa: PLC0415 - see opencv
    return pixels.encoded(pixels.decoded(picture))
