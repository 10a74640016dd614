#!/usr/bin/env python3
"""Stop the farm: containers, scaler and balancer here; ScaledJobs, Jobs and pods in the cluster.

    python3 stop.py                      # the ScaledJobs stay, paused; build_and_push.py --skip-build goes on
    python3 stop.py --dry-run            # only say what would be done
    python3 stop.py --delete-scaledjobs  # leave the cluster as it was before build_and_push.py
    python3 stop.py --clean              # remove the patched-job-*.yaml, too

Only what carries this farm's labels, in its namespace, is touched. It may be run again at any time.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture.errors import FailedError, UserError
from posture.kube import client
from posture.kube.client import KubeClient
from posture.kube.errors import KubeError
from posture.lifecycle.tear_down import TearDown
from posture.runtime import EXIT_FAILED, EXIT_OK, Stop, run_script, setup_logging
from posture.settings import loading
from posture.settings.table import Settings
from posture.system import recorded_processes


def stop_farm(work: TearDown, *, delete_scaledjobs: bool = False, clean: bool = False) -> int:
    """Stop the farm; what can't be done is said, and the rest is done all the same.

    Returns:
        The exit status.
    """
    settings = work.settings.kubernetes
    print(f"stopping farm {settings.farm} in namespace {settings.namespace}", flush=True)
    failures: list[str] = []
    kept: list[str] = []

    def attempt(action: Callable[[], object]) -> bool:
        try:
            action()
        except (FailedError, KubeError, UserError) as error:
            failures.append(str(error))
            return False
        return True

    attempt(work.local)

    def in_cluster(cluster: KubeClient) -> None:
        if attempt(lambda: kept.extend(work.streams(cluster))) and delete_scaledjobs:
            attempt(lambda: work.remove_objects(cluster))
            kept.clear()
        attempt(lambda: work.untaint(cluster))

    def connect() -> None:
        with client.connect(settings, wait=work.stop.wait) as cluster:
            in_cluster(cluster)

    attempt(connect)
    if clean:
        for path in patched_files():
            attempt(lambda path=path: work.remove_file(path))  # type: ignore[misc]
    report(work, kept, failures)
    return EXIT_FAILED if failures else EXIT_OK


def patched_files() -> list[Path]:
    """Return what patch_scaledjob.py has written beside the scripts."""
    return sorted(HERE.glob("patched-job-*.yaml"))


def report(work: TearDown, kept: Sequence[str], failures: Sequence[str]) -> None:
    """Say what is left, and what did not work."""
    if kept:
        print(f"kept, paused: scaledjob {', '.join(kept)} (python3 stop.py --delete-scaledjobs removes them)")
    files = patched_files()
    if files:
        print(f"kept: {', '.join(path.name for path in files)} (python3 stop.py --clean removes them)")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if not failures and not work.dry_run:
        print("stopped", flush=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Stop the farm.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (default: cluster.yaml here)")
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
    settings: Settings = loading.load(flags.config, os.environ)
    stop = Stop()
    stop.install()
    work = TearDown(settings, stop, dry_run=flags.dry_run)
    if flags.dry_run:
        return stop_farm(work, delete_scaledjobs=flags.delete_scaledjobs, clean=flags.clean)
    with recorded_processes.only_one(work.folder):
        return stop_farm(work, delete_scaledjobs=flags.delete_scaledjobs, clean=flags.clean)


if __name__ == "__main__":
    run_script(main)
