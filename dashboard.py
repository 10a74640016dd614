#!/usr/bin/env python3
"""The farm's page: all streams, their history, and where they run. It only reads, and nothing depends on it.

    python3 dashboard.py                            # http://127.0.0.1:8470/, for this machine alone
    python3 dashboard.py --listen 127.0.0.1:9000

Its first line says where the page is.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("dashboard")

from posture.dashboard.serving import serve
from posture.runtime import EXIT_OK, add_version_flag, run_script, setup_logging
from posture.settings.flags import add_config_flag, add_setting_flag, settings_with_flags


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Show the farm on a page.")
    add_version_flag(parser)
    add_config_flag(parser)
    add_setting_flag(parser, "--listen", "dashboard.listen", "where the page is served", metavar="HOST:PORT")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until SIGTERM or Ctrl-C."""
    flags = parse(argv)
    setup_logging(flags.debug)
    serve(settings_with_flags(flags))
    return EXIT_OK


if __name__ == "__main__":
    run_script(main)
