"""The file that says that the analyzer gets on; ``python3 -m posture.health`` looks at its age."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from posture.errors import UserError

TOUCH_EVERY_S = 1.0


class Progress:
    """The file that says that the analyzer gets on.

    Args:
        path: of the file; None writes none.

    Raises:
        UserError: the file can't be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._next = 0.0
        if path is not None:
            try:
                path.touch()
            except OSError as error:
                raise UserError(
                    f"analyzer.progress_file: {path} can't be written: {error.strerror}; "
                    "accepted: a path in a folder that the analyzer may write to"
                ) from None

    def getting_on(self) -> None:
        """Say so; cheap enough to be called at every turn of a loop."""
        if self._path is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + TOUCH_EVERY_S
            with contextlib.suppress(OSError):  # an old file is what tells of it
                self._path.touch()
