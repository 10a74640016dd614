"""Frames that can't be decoded, as they came, on the disk of this machine."""

from __future__ import annotations

from pathlib import Path

from posture.pictures.base import PicturesUnavailableError
from posture.pictures.folder import delete_oldest, make_folder, remove_leftovers, write_durably
from posture.system.files import sync_folder

UNREADABLE = ".bin"


class Quarantine:
    """The bytes of frames that can't be decoded, bounded in count and bytes: the oldest go first.

    Args:
        folder: made at the first write, for its owner alone.
        max_count: files at most.
        max_bytes: bytes at most; a larger payload is not kept at all.
        enabled: False keeps nothing.
    """

    def __init__(self, folder: Path, max_count: int, max_bytes: int, enabled: bool) -> None:
        self._folder, self._max_count, self._max_bytes = folder, max_count, max_bytes
        self._enabled = enabled and max_count > 0
        remove_leftovers(folder)

    def keep(self, name: str, payload: bytes) -> None:
        """Keep a payload, after making room for it.

        Args:
            name: that of the file, without its ending.
            payload: as it came.

        Raises:
            PicturesUnavailableError: the disk is full or away.
            ValueError: the name is not that of a file in this folder.
        """
        if not self._enabled or len(payload) > self._max_bytes:
            return
        room = self._max_bytes - len(payload)
        try:
            make_folder(self._folder, 0o700)
            delete_oldest(self._folder, UNREADABLE, max_bytes=room, max_count=self._max_count - 1)
            write_durably(self._folder, name + UNREADABLE, payload, 0o600)
            sync_folder(self._folder)
        except OSError as error:
            raise PicturesUnavailableError(f"quarantine {self._folder}: {error.strerror}") from error
