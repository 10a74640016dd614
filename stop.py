#!/usr/bin/env python3
"""Stop the farm: containers, scaler and balancer here; ScaledJobs, Jobs and pods in the cluster.

    python3 stop.py                      # the ScaledJobs stay, paused; build_and_push.py --skip-build goes on
    python3 stop.py --dry-run            # only say what would be done
    python3 stop.py --delete-scaledjobs  # leave the cluster as it was before build_and_push.py
    python3 stop.py --clean              # remove the patched-job-*.yaml, too

Only what carries this farm's labels, in its namespace, is touched. It may be run again at any time.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("scheduler")

from posture.lifecycle.stopping import stop_farm
from posture.lifecycle.tear_down import TearDown
from posture.runtime import Stop, add_version_flag, run_script, setup_logging
from posture.settings.flags import add_config_flag, settings_with_flags
from posture.settings.table import Settings
from posture.system import recorded_processes


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Stop the farm.")
    add_version_flag(parser)
    add_config_flag(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and touch nothing")
    parser.add_argument(
        "--delete-scaledjobs", action="store_true", help="delete them instead of leaving them paused"
    )
    parser.add_argument("--clean", action="store_true", help="delete the patched-job-*.yaml here")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Stop the farm that cluster.yaml names."""
    flags = parse(argv)
    setup_logging(flags.debug)
    settings: Settings = settings_with_flags(flags)
    stop = Stop()
    stop.install()
    work = TearDown(settings, stop, dry_run=flags.dry_run)
    if flags.dry_run:
        return stop_farm(work, delete_scaledjobs=flags.delete_scaledjobs, clean=flags.clean)
    with recorded_processes.only_one(work.folder):
        return stop_farm(work, delete_scaledjobs=flags.delete_scaledjobs, clean=flags.clean)


if __name__ == "__main__":
    run_script(main)
