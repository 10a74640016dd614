#!/usr/bin/env python3
"""Analyse the posture in the pictures of camera pi2: MQTT frames in, annotated pictures and database rows out.

python3 Images_From_Pi2.py                       # settings from cluster.yaml and the environment
POSTURE_MQTT_URL=mqtt://192.0.2.10:1883 python3 Images_From_Pi2.py
python3 Images_From_Pi2.py --calibrate           # six seconds of sitting straight become the baseline
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

PI_ID = "pi2"


def main(argv: Sequence[str] | None = None) -> int:
    """Run this stream's analyzer; see ``--help``."""
    return app.main(PI_ID, argv)


if __name__ == "__main__":
    run_script(main)
