"""One stream's pictures: what a store of them does, whichever it is.

A write is durable when it returns, as far as the store promises it. A picture's name follows from its frame, so a
frame that comes again overwrites its own picture. Neither error ever acknowledges anything.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

PICTURE = ".jpg"
MARK = b"made from sha256 "
MARK_BYTES = 6 + len(MARK) + 64
"""A JPEG's start, the comment's header, the comment."""
NAME = re.compile(r"[A-Za-z0-9._~-]{1,200}\.jpg")
MOST_BYTES = 20_000_000
"""A picture of ours has less than one; what is larger is not read into memory."""

Where = TypeVar("Where")


class PicturesUnavailableError(Exception):
    """The store is full or away: try again later, nothing was acknowledged. Names the store and the cause."""


class PicturesRefusedError(PicturesUnavailableError):
    """A key, a right or a bucket is wrong: a person must act. Names the setting."""


class Pictures(Protocol):
    """One stream's annotated pictures. One writer at a time; any number of readers.

    Attributes:
        place: where they are, for people; holds no credential.
    """

    place: str

    def check(self) -> None:
        """See that pictures can be written there. A folder that is full may have room again later.

        Raises:
            UserError: the folder can't be written.
            PicturesUnavailableError: the server does not answer, or has no room.
            PicturesRefusedError: it refuses us.
        """

    def write_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write pictures durably; one of the same name is overwritten.

        Args:
            files: names without folders, and what goes in.

        Raises:
            PicturesUnavailableError: none of a file is left under its name unless all of it is.
            ValueError: a name is not that of a file.
        """

    def has_another(self, name: str, digest: str) -> bool:
        """Return whether the picture of another frame has this name.

        Args:
            name: without folder.
            digest: SHA-256 of the camera's picture; see ``marked``.

        Raises:
            PicturesUnavailableError: the store can't be read.
        """

    def has(self, name: str) -> bool:
        """Return whether there is such a picture. A name from a database is anybody's text, and may be none.

        Raises:
            PicturesUnavailableError: the store can't be read.
        """

    def read(self, name: str) -> bytes | None:
        """Return a picture; None if there is none of that name, or it is larger than ours are.

        Raises:
            PicturesUnavailableError: the store can't be read.
        """

    def prune(self) -> None:
        """Delete pictures that are older, or more bytes, than is kept. Nothing else is touched.

        Raises:
            PicturesUnavailableError: the store can't be read or changed.
        """

    def delete_all(self) -> int:
        """Delete the stream's pictures; return how many.

        Raises:
            PicturesUnavailableError: the store can't be read or changed; some may be gone.
        """


def marked(jpeg: bytes, digest: str) -> bytes:
    """Return an annotated picture with a comment that says of which frame it is.

    Args:
        jpeg: a JPEG file.
        digest: SHA-256 of the camera's picture without its stamp, in hex.
    """
    comment = MARK + digest.encode()
    return jpeg[:2] + struct.pack(">HH", 0xFFFE, len(comment) + 2) + comment + jpeg[2:]


def is_marked(head: bytes, digest: str) -> bool:
    """Return whether a picture, of which these are the first ``MARK_BYTES``, is that of a frame; see ``marked``."""
    return head.endswith(MARK + digest.encode())


def beyond_bounds(
    files: Iterable[tuple[float, int, Where]],
    *,
    oldest_kept: float | None = None,
    max_bytes: int | None = None,
    max_count: int | None = None,
    spared_before: float | None = None,
) -> Iterator[Where]:
    """Yield which files are to go: those that are too old, then the oldest beyond the other bounds.

    Args:
        files: (time of change in seconds since the epoch, size in bytes, where it is).
        oldest_kept: what changed before this goes.
        max_bytes: of all that stays.
        max_count: of all that stays.
        spared_before: what changed before this goes for its age alone.
    """
    newest_first = sorted(files, key=lambda file: file[:2], reverse=True)
    total = 0
    for index, (changed, size, where) in enumerate(newest_first):
        spared = spared_before is not None and changed < spared_before
        total += 0 if spared else size
        too_old = oldest_kept is not None and changed < oldest_kept
        too_many = max_count is not None and index >= max_count
        too_large = max_bytes is not None and total > max_bytes and not spared
        if too_old or too_many or too_large:
            yield where
