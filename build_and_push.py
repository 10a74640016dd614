#!/usr/bin/env python3
"""Bring the farm up from this machine: images to the registry, streams to nodes, the scaler; ENTER stops it all.

    python3 build_and_push.py --registry registry.example:5000
    python3 build_and_push.py --dry-run                # look at everything, print the plan, touch nothing
    python3 build_and_push.py --skip-build             # with the images of the last build, such as after stop.py
    python3 build_and_push.py --in-cluster --no-wait   # the scaler runs in the cluster, too; don't stay

On a farm that runs it is an upgrade: streams stay where they are, and few at a time are replaced. Whatever fails,
it says what was done and what undoes it; started again, it goes on from there.
"""

import argparse
import dataclasses
import select
import shlex
import sys
import termios
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("scheduler")

from posture.errors import FailedError, UserError
from posture.kube import client
from posture.kube.errors import KubeError
from posture.lifecycle.bring_up import Farm, Options
from posture.lifecycle.preflight import run
from posture.lifecycle.preflight.cluster import no_cluster
from posture.lifecycle.preflight.findings import Finding, Intent, Survey
from posture.lifecycle.scaler_here import NAME as SCALER
from posture.lifecycle.scaler_here import LocalScaler
from posture.lifecycle.scaler_in_cluster import InCluster
from posture.lifecycle.steps import Journal, show_plan
from posture.lifecycle.stopping import stop_farm
from posture.lifecycle.tear_down import TearDown
from posture.manifests import files, scaled_job
from posture.manifests.scaled_job import Manifest
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
from posture.settings.flags import add_config_flag, add_setting_flag, settings_with_flags, text_given
from posture.settings.table import Settings
from posture.system import recorded_processes
from posture.system.addresses import split_listen

WATCH_S = 1.0
"""How often the scaler is looked after while ENTER is waited for."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Build the images, place the streams, start the scaler.")
    add_version_flag(parser)

    def setting(flag: str, name: str, metavar: str, about: str) -> None:
        add_setting_flag(parser, flag, name, about, metavar=metavar)

    add_config_flag(parser)
    parser.add_argument("--dry-run", action="store_true", help="print findings and the whole plan, touch nothing")
    parser.add_argument("--skip-build", action="store_true", help="use the images that were pushed before")
    parser.add_argument("--in-cluster", action="store_true", help="deploy the scaler instead of starting it here")
    parser.add_argument("--no-wait", action="store_true", help="end when all is started; stop.py stops it")
    setting("--registry", "images.registry", "HOST[:PORT][/PATH]", "where the images go")
    setting("--tag", "images.tag", "TAG", "the images' tag")
    setting("--platforms", "images.platforms", "LIST", "linux/amd64,linux/arm64 or one of them")
    setting("--master", "kubernetes.master", "NODE", "taint this node")
    setting("--scaler-address", "scaler.address", "HOST:PORT", "where KEDA finds the scaler")
    parser.add_argument(
        "--build-arg", action="append", default=[], metavar="NAME[=VALUE]", help="another one of the Dockerfile"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of ties (default: follows from streams and usage)")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser.parse_args(argv)


def read_sources(settings: Settings) -> list[Manifest]:
    """Return the ScaledJobs of the farm's streams.

    Raises:
        UserError: a file is not accepted, or the farm has no stream.
    """
    names = streams.names(settings)
    if not names:
        raise UserError(
            f"the farm has no stream: streams in cluster.yaml is empty, and {HERE} has no posture-job-*.yaml; "
            "accepted: at least one name under streams"
        )
    return files.of_streams(names)


def stay(scaler: LocalScaler | None, stop: Stop, stop_command: str) -> bool:
    """Look after the scaler until ENTER or a signal.

    Returns:
        Whether the farm is to be stopped; False if it is none of our business any more.
    """
    if sys.stdin.isatty():
        # what was typed while the images were built
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
    print("the farm runs; press ENTER to stop it", flush=True)
    while True:
        ready = select.select([stop, sys.stdin], [], [], WATCH_S)[0]
        if stop.requested:
            return True
        if sys.stdin in ready:
            if sys.stdin.readline():
                return True
            print(f"standard input is closed, so there is no ENTER to wait for; {stop_command} stops the farm")
            return False
        if scaler is not None and not scaler.watch():
            print("the farm was stopped or taken over from elsewhere")
            return False


def show_findings(findings: Sequence[Finding]) -> bool:
    """Print all findings; return whether the work can go on."""
    for finding in findings:
        print(finding, file=sys.stderr)
    errors = sum(not finding.warning for finding in findings)
    print(f"preflight: {errors} errors, {len(findings) - errors} warnings", file=sys.stderr, flush=True)
    return errors == 0


def intent_of(settings: Settings, options: Options, sources: Sequence[Manifest], scaler: LocalScaler) -> Intent:
    """Return what is about to be done, as far as it is known without a cluster."""
    listens_already = recorded_processes.find(SCALER, scaler.folder) is not None
    port = None if options.in_cluster or listens_already else split_listen(settings.scaler.listen)[1]
    return Intent(
        settings,
        {one.stream: one.data() for one in sources},
        build=options.build,
        scaler_here=not options.in_cluster,
        scaler_address=scaler.address(""),
        scaler_port=port,
    )


def prepare(settings: Settings, flags: argparse.Namespace, stop: Stop, open_clients: ExitStack) -> Farm | None:
    """Look at everything, and return the farm as it is to be; None if something has to be mended first.

    Raises:
        UserError: a file is not accepted.
        FailedError: the exporters were to be started first, and that failed.
    """
    options = Options(
        flags.config, not flags.skip_build, flags.in_cluster, not flags.no_wait, flags.build_arg, flags.seed
    )
    sources = read_sources(settings)
    scaled_job.check_pace(sources, settings.scaler.stabilize_s)
    kubernetes = settings.kubernetes
    folder = recorded_processes.folder_of(kubernetes.namespace, kubernetes.farm)
    scaler = LocalScaler(settings.scaler, flags.config, folder)
    intent = intent_of(settings, options, sources, scaler)
    try:
        cluster = open_clients.enter_context(client.connect(kubernetes, wait=stop.wait))
        trial = open_clients.enter_context(client.connect(kubernetes, dry_run=True, wait=stop.wait))
    except UserError as error:
        show_findings([*run.check_here(intent), *no_cluster(error)])
        return None
    in_cluster = InCluster(cluster, kubernetes.farm, flags.config)
    address = scaler.address(cluster.server)
    if options.in_cluster:
        # cluster.yaml's is that of a scaler on this machine
        address = text_given(flags, "scaler.address") or in_cluster.address
        intent = dataclasses.replace(intent, in_cluster=in_cluster)
    farm = Farm(settings, options, sources, cluster, Survey(), scaler, in_cluster, address, stop)
    with suppress(KubeError):  # preflight says so
        farm.scaler_has_tls = options.in_cluster and in_cluster.has_tls()
    patched = {stream: one.data() for stream, one in farm.patched({}).items()}
    intent = dataclasses.replace(intent, manifests=patched, scaler_address=address)
    findings, farm.survey = run.check(intent, cluster, trial)
    if not show_findings(findings):
        return None
    if flags.dry_run or not (first := farm.exporter_steps()):
        return farm
    with recorded_processes.only_one(farm.folder):
        if not Journal(stop).run(first):
            raise FailedError("the streams can't be placed without the nodes' usage")
    findings, farm.survey = run.check(intent, cluster, trial)
    return farm if show_findings(findings) else None


def bring_up(farm: Farm, stop: Stop) -> int:
    """Do all steps, and stay until the farm is to be stopped.

    Returns:
        The exit status.
    """
    options = farm.options
    with recorded_processes.only_one(farm.folder):
        if not Journal(stop).run(farm.steps()):
            undo = options.stop_command("--delete-scaledjobs", "--clean")
            again = shlex.join(["python3", "build_and_push.py", *sys.argv[1:]])
            print(f"undo all of it: {undo}\ngo on from here: {again}", file=sys.stderr, flush=True)
            return EXIT_INTERRUPTED if stop.requested else EXIT_FAILED
    if not options.wait:
        print(f"started; {options.stop_command()} stops the farm")
        return EXIT_OK
    scaler = None if options.in_cluster else farm.scaler
    if not stay(scaler, stop, options.stop_command()):
        return EXIT_OK
    second = Stop()
    second.install()
    with recorded_processes.only_one(farm.folder):
        return stop_farm(TearDown(farm.settings, second))


def main(argv: Sequence[str] | None = None) -> int:
    """Look, plan, and bring the farm up."""
    flags = parse(argv)
    setup_logging(flags.debug)
    settings = settings_with_flags(flags)
    stop = Stop()
    stop.install()
    kubernetes = settings.kubernetes
    print(f"farm {kubernetes.farm} in namespace {kubernetes.namespace}: looking at everything first", flush=True)
    with ExitStack() as open_clients:
        farm = prepare(settings, flags, stop, open_clients)
        if farm is None:
            return EXIT_USER_ERROR
        if flags.dry_run:
            first = farm.exporter_steps()
            show_plan(first or farm.steps())
            if first:
                print("the rest follows from the nodes' usage, which is known only then")
            return EXIT_OK
        return bring_up(farm, stop)


if __name__ == "__main__":
    run_script(main)
