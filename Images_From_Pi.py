#!/usr/bin/env python3
"""Analyse the posture in the pictures of any camera: MQTT frames in, annotated pictures and database rows out.

POSTURE_STREAM names the stream: one of those in cluster.yaml. A stream that has a script of its own runs that one.

POSTURE_STREAM=hall-1 python3 Images_From_Pi.py               # settings from cluster.yaml and the environment
POSTURE_STREAM=hall-1 python3 Images_From_Pi.py --calibrate   # six seconds of sitting straight become the baseline
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("analyzer")

from posture.analyzer import app
from posture.runtime import run_script


def main(argv: Sequence[str] | None = None) -> int:
    """Run the analyzer of the stream that the environment names; see ``--help``."""
    return app.main(None, argv)


if __name__ == "__main__":
    run_script(main)
