#!/usr/bin/env python3
"""Make a cluster with deploy/stack a farm: nodes, passwords, certificates, and a user for each camera.

    kubectl apply -k deploy/stack
    python3 setup_farm.py --dry-run      # only say what would be done
    python3 setup_farm.py                # labels nodes, writes GPU_QUERIES, makes Secrets; a line for each camera
    python3 setup_farm.py --recover      # a lost .env or broker/ comes back from the cluster
    python3 setup_farm.py --undo         # take away what it has made, and nothing else

Passwords are kept in .env and broker/, for the owner alone, and are never printed. It may be run again at any time:
after a new camera in cluster.yaml, a new node, an interruption. docs/setup.md says what it looks at and makes.
"""

import argparse
import ipaddress
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("scheduler")

from posture.errors import UserError
from posture.kube import client
from posture.kube.client import KubeClient
from posture.kube.errors import KubeError
from posture.lifecycle.preflight.findings import Finding
from posture.lifecycle.setup import addresses, cameras, checks, kept, objects, plan, survey, undoing
from posture.lifecycle.setup.environment_file import EnvironmentFile
from posture.lifecycle.setup.survey import Survey
from posture.lifecycle.steps import Journal, Step, show_plan
from posture.runtime import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USER_ERROR,
    Stop,
    add_version_flag,
    run_script,
    setup_logging,
)
from posture.settings import streams
from posture.settings.flags import add_config_flag, settings_with_flags
from posture.settings.table import Settings
from posture.system import recorded_processes


def host(text: str) -> str:
    """Return a host's name or address, as a certificate can be for it."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", text):
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r}; accepted: a host's name or an address, without a port"
            ) from None
    return text


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Make a cluster with deploy/stack a farm.")
    add_version_flag(parser)
    add_config_flag(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and touch nothing")
    parser.add_argument(
        "--broker-name", action="append", default=[], metavar="HOST", type=host,
        help="a name or address by which cameras reach the broker, beside the nodes'; may be repeated; "
        "the next runs know it (default: those of the last run that was given some)",
    )  # fmt: skip
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--recover", action="store_true", help="write .env and broker/ as the cluster was set up with them"
    )
    other.add_argument("--undo", action="store_true", help="take away what this script has made; asks first")
    parser.add_argument("--yes", action="store_true", help="with --undo: don't ask")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser.parse_args(argv)


def findings(
    cluster: KubeClient, settings: Settings, names: Sequence[str], found: Survey, *, recover: bool
) -> Iterator[Finding]:
    """Yield what stands in the way; nothing has been changed by then."""
    namespace = settings.kubernetes.namespace
    yield from checks.check_rights(cluster)
    yield from checks.check_farm(settings, names)
    yield from checks.check_stack(settings, found)
    yield from checks.check_nodes(settings, found)
    yield from checks.check_registry(settings, found)
    yield from checks.check_parts(settings, found, EnvironmentFile(HERE / ".env"))
    if not recover:
        yield from kept.lost(HERE, found, namespace, names)


def show(found: Sequence[Finding]) -> bool:
    """Print the findings; return whether the work can go on."""
    for finding in found:
        print(finding, file=sys.stderr)
    return all(finding.warning for finding in found)


def work(journal: Journal, steps: Sequence[Step], *, dry_run: bool) -> int:
    """Do the steps, or show them; return the exit status."""
    if not steps:
        print("everything is as it must be: nothing to do")
        return EXIT_OK
    if dry_run:
        show_plan(steps)
        return EXIT_OK
    if journal.run(steps):
        return EXIT_OK
    print("what is done stays; the same command goes on from here", file=sys.stderr)
    return EXIT_INTERRUPTED if journal.stop.requested else EXIT_FAILED


def set_up(cluster: KubeClient, settings: Settings, flags: argparse.Namespace, stop: Stop) -> int:
    """Look, and make what is missing."""
    namespace, names = settings.kubernetes.namespace, streams.names(settings)
    found = survey.look(cluster, settings.kubernetes.farm)
    if not show([*findings(cluster, settings, names, found, recover=flags.recover)]):
        return EXIT_USER_ERROR
    secrets = kept.keep(HERE, settings, names, found, recover=flags.recover)
    broker_names = objects.broker_names(found, namespace, flags.broker_name)
    wanted = objects.wanted(secrets, settings, names, found, broker_names)
    if not show([*checks.check_objects(found, wanted, settings.kubernetes.farm)]):
        return EXIT_USER_ERROR
    config = flags.config or HERE / "cluster.yaml"
    steps = plan.steps(cluster, settings, config, secrets, wanted, found, stop)
    status = work(Journal(stop), steps, dry_run=flags.dry_run)
    if status == EXIT_OK and not flags.dry_run:
        broker = addresses.broker_for_cameras(found, namespace, broker_names)
        for line in cameras.lines(names, broker, HERE):
            print(line)
        if secrets.tells_operators_password():
            print(f"the page: user {kept.OPERATOR}, password {kept.OPERATOR_PASSWORD} of .env")
        print("next: python3 build_and_push.py --in-cluster")
    return status


def undo(cluster: KubeClient, settings: Settings, flags: argparse.Namespace, stop: Stop) -> int:
    """Take away what was made here."""
    found = survey.look(cluster, settings.kubernetes.farm)
    lost = kept.lost(HERE, found, settings.kubernetes.namespace, streams.names(settings))
    if not show([*undoing.check(found), *lost]):
        return EXIT_USER_ERROR
    config = flags.config or HERE / "cluster.yaml"
    steps, theirs = undoing.steps(cluster, settings, config, found)
    if theirs:
        print(f"{config}: somebody has changed these lines since, and they stay: {'; '.join(theirs)}")
    if steps and not flags.dry_run and not flags.yes and not agreed(steps):
        print("nothing was changed")
        return EXIT_OK
    status = work(Journal(stop), steps, dry_run=flags.dry_run)
    if status == EXIT_OK:
        print("\n".join(["what stays:", *(f"  {what}" for what in undoing.STAYS)]))
    return status


def agreed(steps: Sequence[Step]) -> bool:
    """Ask a person.

    Raises:
        UserError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise UserError("--undo asks first, and standard input is no terminal; accepted: --undo --yes")
    show_plan(steps)
    return input("do all this? [y/N] ").strip().lower() in {"y", "yes"}


def main(argv: Sequence[str] | None = None) -> int:
    """Set a farm up, or take it back."""
    flags = parse(argv)
    setup_logging(flags.debug)
    if flags.yes and not flags.undo:
        raise UserError("--yes answers the question of --undo, which is not given")
    settings = settings_with_flags(flags)
    stop = Stop()
    stop.install()
    kubernetes = settings.kubernetes
    print(f"farm {kubernetes.farm} in namespace {kubernetes.namespace}: looking at everything first", flush=True)
    with ExitStack() as opened:
        try:
            cluster = opened.enter_context(client.connect(kubernetes, wait=stop.wait))
            if not flags.dry_run:
                opened.enter_context(
                    recorded_processes.only_one(recorded_processes.folder_of(kubernetes.namespace, kubernetes.farm))
                )
            return (undo if flags.undo else set_up)(cluster, settings, flags, stop)
        except (KubeError, UserError) as error:
            if isinstance(error, UserError) and not isinstance(error, KubeError):
                raise
            show([checks.no_cluster(error)])
            return EXIT_USER_ERROR


if __name__ == "__main__":
    run_script(main)
