"""Stop a whole farm: what can't be done is reported, and the rest is done all the same."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from posture.errors import FailedError, UserError
from posture.kube import client
from posture.kube.client import KubeClient
from posture.kube.errors import KubeError
from posture.lifecycle.tear_down import TearDown
from posture.natural_order import natural
from posture.runtime import EXIT_FAILED, EXIT_OK, ROOT


def stop_farm(work: TearDown, *, delete_scaledjobs: bool = False, clean: bool = False) -> int:
    """Stop the farm; what fails is reported at the end, and does not keep the rest from being done.

    Args:
        work: the farm, and whether this is a dry run.
        delete_scaledjobs: delete the ScaledJobs and what ``--in-cluster`` made, instead of leaving them paused.
        clean: delete the patched-job-*.yaml.

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
            attempt(partial(work.remove_file, path))
    report(work, kept, failures)
    return EXIT_FAILED if failures else EXIT_OK


def patched_files() -> list[Path]:
    """Return the files that patch_scaledjob.py wrote beside the scripts."""
    return sorted(ROOT.glob("patched-job-*.yaml"), key=lambda path: natural(path.name))


def report(work: TearDown, kept: Sequence[str], failures: Sequence[str]) -> None:
    """Print what is kept, and what failed."""
    if kept:
        print(f"kept, paused: scaledjob {', '.join(kept)} (python3 stop.py --delete-scaledjobs removes them)")
    files = patched_files()
    if files:
        print(f"kept: {', '.join(path.name for path in files)} (python3 stop.py --clean removes them)")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if not failures and not work.dry_run:
        print("stopped", flush=True)
