"""Is this container's analyzer getting on? For Docker's HEALTHCHECK and Kubernetes' liveness probe.

    python3 -m posture.health

The analyzer touches the file that ``analyzer.progress_file`` names as long as it gets on: no frame waits in it, or
one was finished, or it waits for a store that is away (to start it anew would not bring the store back). Exit
status 1 says that the file is older than ``analyzer.stuck_after_s``: frames are in hand, and none gets finished.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from posture.errors import UserError
from posture.runtime import EXIT_FAILED, EXIT_OK, run_script
from posture.settings import config

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


def main(argv: object = None) -> int:
    """Compare the file's age with what is accepted."""
    del argv
    settings = config.load(None, os.environ).analyzer
    if not settings.progress_file:
        raise UserError("analyzer.progress_file is not set (POSTURE_ANALYZER_PROGRESS_FILE): nothing to look at")
    path = config.path_of(settings.progress_file)
    try:
        age_s = time.time() - path.stat().st_mtime
    except OSError as error:
        print(f"{path}: {error.strerror}; the analyzer has not started", file=sys.stderr)
        return EXIT_FAILED
    if age_s > settings.stuck_after_s:
        print(f"no progress for {age_s:.0f} s (accepted: {settings.stuck_after_s:g} s)", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


if __name__ == "__main__":
    run_script(main)
