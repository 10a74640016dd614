#!/usr/bin/env python3
"""Place the streams for the first time: each gets a patched-job-*.yaml with its node.

    python3 patch_scaledjob.py --dry-run             # a table: node, usage, jobs before and after, why
    python3 patch_scaledjob.py                       # all streams of cluster.yaml
    python3 patch_scaledjob.py --seed 7 --output-dir /tmp posture-job-pi1.yaml
    python3 patch_scaledjob.py --new-stream hall-7   # a ScaledJob of its own, for a stream that is to be different

Every node gets as many streams as any other, one at most more; the extra ones go where the GPU has least to do.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("scheduler")

from posture.errors import UserError
from posture.lifecycle import container_images, placement
from posture.lifecycle.preflight import signals
from posture.lifecycle.preflight.machine import check_files
from posture.manifests import files as manifest_files
from posture.manifests import patching, scaled_job, template
from posture.manifests.scaled_job import Manifest
from posture.natural_order import some_of
from posture.runtime import EXIT_OK, add_version_flag, run_script, setup_logging
from posture.settings import loading, streams, table
from posture.settings.flags import add_config_flag, add_setting_flag, settings_with_flags
from posture.usage import ratios
from posture.usage.readings import Reading, UsageUnknownError

log = logging.getLogger("patch_scaledjob")

GPU_QUERIES = loading.GPU_QUERIES
"""Node -> {instance, signal} or {instance, metric}: where its usage is read. Edited in cluster.yaml."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Spread the streams evenly over the nodes whose usage is known.")
    add_version_flag(parser)
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="ScaledJobs (default: those of the farm's streams)"
    )
    add_config_flag(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")
    parser.add_argument("--seed", type=int, metavar="N", help="of ties (default: follows from streams and usage)")
    parser.add_argument(
        "--output-dir", type=Path, default=HERE, metavar="DIR", help="for the files (default: here)"
    )
    add_setting_flag(
        parser,
        "--scaler-address",
        "scaler.address",
        "where KEDA finds the scaler",
        metavar="HOST:PORT",
        default="settings, else as each file has it",
    )
    parser.add_argument(
        "--image", metavar="NAME", help="{pi_id} in it stands for the stream (default: settings, else as it is)"
    )
    add_setting_flag(parser, "--namespace", "kubernetes.namespace", "of the ScaledJobs", metavar="NAME")
    parser.add_argument("--new-stream", metavar="NAME", help="write a posture-job-NAME.yaml, to be edited")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser.parse_args(argv)


def read_settings(flags: argparse.Namespace) -> table.Settings:
    """Return the settings of file, environment and flags.

    Raises:
        UserError: they are not accepted, or GPU_QUERIES is empty.
    """
    settings = settings_with_flags(flags)
    if not settings.gpu_queries:
        raise UserError(
            "GPU_QUERIES is empty: no node's usage is known; accepted: at least one node in cluster.yaml"
        )
    return settings


def read_streams(flags: argparse.Namespace, settings: table.Settings) -> list[Manifest]:
    """Return the ScaledJobs of the files that were named, or else of the farm's streams.

    Raises:
        UserError: a file is not accepted, there are no streams, or streams with different images would get one.
    """
    names = [] if flags.files else streams.names(settings)
    found = manifest_files.load(flags.files) if flags.files else manifest_files.of_streams(names)
    if not found:
        raise UserError(
            f"the farm has no stream: streams in cluster.yaml is empty, and {HERE} has no posture-job-*.yaml; "
            "accepted: at least one name under streams"
        )
    own = [one.stream for one in found if streams.own_script(one.stream) is not None]
    if flags.image and "{pi_id}" not in flags.image and own and len(found) > 1:
        raise UserError(
            f"--image {flags.image!r} would be the image of {len(found)} streams, and {some_of(own)} "
            f"{'has' if len(own) == 1 else 'have'} a script of {'its' if len(own) == 1 else 'their'} own; "
            "accepted: a name with {pi_id} in it"
        )
    return found


def add_stream(flags: argparse.Namespace) -> int:
    """Write the ScaledJob of a stream that is to be different from the others.

    Raises:
        UserError: its name is not accepted, or the file is there already.
    """
    if flags.files:
        raise UserError("--new-stream stands alone; accepted: no FILE beside it")
    name = streams.checked(flags.new_stream, "--new-stream ")
    path = flags.output_dir / f"posture-job-{name}.yaml"
    if path.exists():
        raise UserError(f"{path}: is there already, and is not overwritten")
    settings = settings_with_flags(flags)
    write({path: template.of_its_own(name)}, dry_run=flags.dry_run)
    if settings.streams and name not in settings.streams:
        print(f"stream {name} is not in streams of cluster.yaml yet: add the line - {name}")
    return EXIT_OK


def placed_before(source: Manifest, target: Path) -> str | None:
    """Return the stream's node as the last run has written it, or as the source has it."""
    if not target.is_file():
        return source.node
    try:
        return manifest_files.load([target])[0].node
    except UserError:
        return source.node


def sample(settings: table.Settings) -> dict[str, Reading | UsageUnknownError]:
    """Return node -> its usage, or why it is unknown."""
    from posture.usage.prometheus import Prometheus  # noqa: PLC0415 - requests takes a quarter of the start-up

    return Prometheus(settings.prometheus, settings.gpu_queries, context=settings.kubernetes.context).sample()


def patch(found: Sequence[Manifest], nodes: Mapping[str, str], settings: table.Settings, image: str) -> None:
    """Set in each ScaledJob what the settings say, and its node.

    Args:
        found: the ScaledJobs; they are changed.
        nodes: stream -> node.
        settings: with the flags applied.
        image: the image's name with ``{pi_id}`` in it; empty: the settings', if they name a registry.
    """
    for one in found:
        one.place(nodes[one.stream])
        patching.write_settings(one, settings)
        if settings.scaler.address:
            one.set_scaler_address(settings.scaler.address)
        if image:
            one.set_image(image.replace("{pi_id}", one.stream))
        elif settings.images.registry:
            one.set_image(container_images.analyzer_image(one.stream, settings.images).reference)


def write(files: Mapping[Path, str], *, dry_run: bool) -> None:
    """Write the files that are to change, and say which."""
    changed = [] if dry_run else manifest_files.write(files)
    for path in files:
        done = "would write" if dry_run else "wrote" if path in changed else "unchanged:"
        print(f"{done} {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Plan, show the plan, and write the files."""
    flags = parse(argv)
    setup_logging(flags.debug)
    if not flags.output_dir.is_dir():
        raise UserError(f"--output-dir {flags.output_dir} is no folder; accepted: one that exists")
    if flags.new_stream is not None:
        return add_stream(flags)
    settings = read_settings(flags)
    found = read_streams(flags, settings)
    scaled_job.check_pace(found, settings.scaler.stabilize_s)
    targets = {one.stream: flags.output_dir / f"patched-job-{one.stream}.yaml" for one in found}
    log.info("%s, nodes: %s", settings.prometheus, ", ".join(settings.gpu_queries))
    sampled = sample(settings)
    plan = placement.place(
        {one.stream: placed_before(one, targets[one.stream]) for one in found},
        {one.stream: str(one.node) for one in found if one.pinned},
        placement.qualifying(settings, sampled),
        flags.seed,
    )
    print("\n".join(placement.table(plan.rows)))
    for stream, node in plan.nodes.items():
        print(f"{stream} -> {node}")
    patch(found, plan.nodes, settings, flags.image or "")
    will_be = {one.stream: one.data() for one in found}
    files = () if flags.files else check_files(settings)
    for finding in (*files, *signals.all_at_zero(sampled), *signals.in_advance(settings, will_be)):
        print(finding)
    for suspicion in ratios.by_name(settings.gpu_queries):
        log.warning("%s", suspicion)
    write({targets[one.stream]: one.text() for one in found}, dry_run=flags.dry_run)
    return EXIT_OK


if __name__ == "__main__":
    run_script(main)
