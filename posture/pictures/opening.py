"""The store of a stream's pictures, as the settings name it."""

from __future__ import annotations

from pathlib import Path

from posture.pictures.base import Pictures, PicturesRefusedError
from posture.pictures.folder import PictureFolder
from posture.settings.paths import path_of, pictures_of
from posture.settings.picture_store import bucket_address
from posture.settings.table import Analyzer


def open_pictures(options: Analyzer, pi_id: str) -> Pictures:
    """Return the store of a stream's pictures; nothing is asked of it yet.

    Args:
        options: the stream's settings.
        pi_id: its name.

    Raises:
        PicturesRefusedError: a key is missing.
    """
    days = options.pictures_keep_days
    max_age_s = days * 86_400 if days else None
    folder = pictures_of(options, pi_id)
    if not options.pictures_url:
        spares_earlier = options.pictures_max_bytes == "auto"
        return PictureFolder(folder, options.pictures_bound, max_age_s, spares_earlier=spares_earlier)
    for key, variable in (
        (options.pictures_key_id, "POSTURE_PICTURES_KEY_ID"),
        (options.pictures_secret_key, "POSTURE_PICTURES_SECRET_KEY"),
    ):
        if not key:
            raise PicturesRefusedError(f"{variable} is not set, and analyzer.pictures_url needs it")
    # the client takes 7 MB: only who uses it loads it
    from posture.pictures.bucket import PictureBucket  # noqa: PLC0415

    ca_file = str(path_of(options.pictures_ca_file)) if options.pictures_ca_file else ""
    if ca_file and not Path(ca_file).is_file():
        raise PicturesRefusedError(f"analyzer.pictures_ca_file: {ca_file} can't be read; accepted: a PEM file")
    return PictureBucket(
        bucket_address(options.pictures_url),
        folder.name,
        options.pictures_key_id,
        options.pictures_secret_key,
        ca_file,
        options.pictures_bound,
        max_age_s,
    )
