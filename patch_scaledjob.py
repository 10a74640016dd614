#!/usr/bin/env python3
"""Place the streams for the first time: each posture-job-*.yaml becomes a patched-job-*.yaml with its node.

    python3 patch_scaledjob.py --dry-run           # a table: node, usage, jobs before and after, why
    python3 patch_scaledjob.py                     # all posture-job-*.yaml here
    python3 patch_scaledjob.py --seed 7 --output-dir /tmp posture-job-pi1.yaml
    python3 patch_scaledjob.py --new-stream pi7    # the two files of one more camera

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
from posture.manifests import files as manifest_files
from posture.manifests import gpu_pod, new_stream, scaled_job
from posture.manifests.scaled_job import Manifest
from posture.natural_order import natural
from posture.runtime import EXIT_OK, add_version_flag, run_script, setup_logging
from posture.settings import loading, table
from posture.settings.flags import add_config_flag, add_setting_flag, settings_with_flags
from posture.usage import ratios
from posture.usage.readings import Reading, UsageUnknownError

log = logging.getLogger("patch_scaledjob")

GPU_QUERIES = loading.GPU_QUERIES
"""Node -> {instance, signal} or {instance, metric}: where its usage is read. Edited in cluster.yaml."""

MODEL = "pi1"
"""The stream whose files a new one's are made from."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Spread the streams evenly over the nodes whose usage is known.")
    add_version_flag(parser)
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="ScaledJobs (default: posture-job-*.yaml here)"
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
    parser.add_argument("--new-stream", metavar="PI_ID", help="write the ScaledJob and the script of a new camera")
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


def check(flags: argparse.Namespace, streams: Sequence[Manifest]) -> None:
    """Refuse flags that don't fit the streams.

    Raises:
        UserError: there are no streams, or all would get one stream's image.
    """
    if not streams:
        raise UserError(f"{HERE}: there is no posture-job-*.yaml; --new-stream NAME writes one")
    if flags.image and "{pi_id}" not in flags.image and len(streams) > 1:
        raise UserError(
            f"--image {flags.image!r} would be the image of {len(streams)} streams, and each has its own; "
            "accepted: a name with {pi_id} in it"
        )


def add_stream(flags: argparse.Namespace) -> int:
    """Write the two files of a new camera.

    Raises:
        UserError: its name is not accepted, or one of the files is there already.
    """
    if flags.files:
        raise UserError("--new-stream stands alone; accepted: no FILE beside it")
    files = new_stream.files_for(flags.new_stream, MODEL, HERE, flags.output_dir)
    write(files, dry_run=flags.dry_run)
    for path in files:
        if path.suffix == ".py" and not flags.dry_run:
            path.chmod(0o755)
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

    return Prometheus(settings.prometheus, settings.gpu_queries).sample()


def patch(streams: Sequence[Manifest], nodes: Mapping[str, str], settings: table.Settings, image: str) -> None:
    """Set in each ScaledJob what the settings say, and its node.

    Args:
        streams: the ScaledJobs; they are changed.
        nodes: stream -> node.
        settings: with the flags applied.
        image: the image's name with ``{pi_id}`` in it; empty: the settings', if they name a registry.
    """
    for one in streams:
        one.place(nodes[one.stream])
        one.set_owner(settings.kubernetes.namespace, settings.kubernetes.farm)
        gpu_pod.set_gpu(one, settings)
        one.set_environment(settings.pod_environment(one.stream))
        if settings.scaler.address:
            one.set_scaler_address(settings.scaler.address)
        if image:
            one.set_image(image.replace("{pi_id}", one.stream))
        elif settings.images.registry:
            one.set_image(container_images.analyzer_image(Path(), one.stream, settings.images).reference)


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
    streams = manifest_files.load(
        flags.files or sorted(HERE.glob("posture-job-*.yaml"), key=lambda path: natural(path.name))
    )
    check(flags, streams)
    scaled_job.check_pace(streams, settings.scaler.stabilize_s)
    targets = {one.stream: flags.output_dir / f"patched-job-{one.stream}.yaml" for one in streams}
    log.info("%s, nodes: %s", settings.prometheus, ", ".join(settings.gpu_queries))
    sampled = sample(settings)
    plan = placement.place(
        {one.stream: placed_before(one, targets[one.stream]) for one in streams},
        {one.stream: str(one.node) for one in streams if one.pinned},
        placement.qualifying(settings, sampled),
        flags.seed,
    )
    print("\n".join(placement.table(plan.rows)))
    for stream, node in plan.nodes.items():
        print(f"{stream} -> {node}")
    patch(streams, plan.nodes, settings, flags.image or "")
    will_be = {one.stream: one.data() for one in streams}
    for finding in (*signals.all_at_zero(sampled), *signals.in_advance(settings, will_be)):
        print(finding)
    for suspicion in ratios.by_name(settings.gpu_queries):
        log.warning("%s", suspicion)
    write({targets[one.stream]: one.text() for one in streams}, dry_run=flags.dry_run)
    return EXIT_OK


if __name__ == "__main__":
    run_script(main)
