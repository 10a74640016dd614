"""Is this container's analyzer getting on? For Docker's HEALTHCHECK and Kubernetes' liveness probe.

    python3 -m posture.health

The analyzer touches the file that ``analyzer.progress_file`` names as long as it gets on: no frame waits in it, or
one was finished, or it waits for a store that is away (to start it anew would not bring the store back). Exit
status 1 says that the file is older than ``analyzer.stuck_after_s``: frames are in hand, and none gets finished.
"""

from __future__ import annotations

import os
import sys
import time

from posture.errors import UserError
from posture.runtime import EXIT_FAILED, EXIT_OK, run_script
from posture.settings import loading, paths


def main(argv: object = None) -> int:
    """Compare the file's age with what is accepted."""
    del argv
    settings = loading.load(None, os.environ).analyzer
    if not settings.progress_file:
        raise UserError("analyzer.progress_file is not set (POSTURE_ANALYZER_PROGRESS_FILE): nothing to look at")
    path = paths.path_of(settings.progress_file)
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
