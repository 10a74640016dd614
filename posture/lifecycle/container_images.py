"""The farm's container images: their names, and docker's commands that build and push them."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from posture.runtime import ROOT, Stop
from posture.settings import streams
from posture.settings.table import Images
from posture.system import commands, files

ANALYZER_TARGET, SCHEDULER_TARGET = "analyzer", "scheduler"
"""The Dockerfile's two targets."""


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        app: the script that it runs.
        target: the Dockerfile's target.
        reference: registry/name:tag.
    """

    app: str
    target: str
    reference: str


def analyzer_image(stream: str, settings: Images) -> Image:
    """Return the image of a stream's analyzer: its own if it has a script of its own, else the common one."""
    script = streams.own_script(stream)
    if script is not None:
        return Image(script.name, ANALYZER_TARGET, _reference(f"posture-{stream}", settings))
    return Image(streams.COMMON_SCRIPT, ANALYZER_TARGET, _reference("posture-analyzer", settings))


def scheduler_image(settings: Images) -> Image:
    """Return the image of scaler and balancer."""
    return Image("cpu_monitor_and_offload.py", SCHEDULER_TARGET, _reference("posture-scheduler", settings))


def _reference(name: str, settings: Images) -> str:
    return f"{settings.registry}/{name}:{settings.tag}"


def build_command(
    image: Image, settings: Images, arguments: Sequence[str] = (), metadata: str = "METADATA"
) -> list[str]:
    """Return the command that builds an image for all platforms and pushes it.

    Args:
        image: which one.
        settings: builder and platforms.
        arguments: more of the Dockerfile's arguments, each NAME=VALUE, or NAME alone to pass the environment's on.
        metadata: the file that is to tell the digest.
    """
    return [
        "docker", "buildx", "build",
        *(["--builder", settings.builder] if settings.builder else []),
        "--platform", ",".join(settings.platform_list()),
        "--target", image.target,
        *(part for argument in (f"APP={image.app}", *arguments) for part in ("--build-arg", argument)),
        "--tag", image.reference,
        "--metadata-file", metadata,
        "--progress", "plain",
        "--push", str(ROOT),
    ]  # fmt: skip


def build(image: Image, settings: Images, arguments: Sequence[str], stop: Stop) -> str:
    """Build and push an image, showing docker's progress.

    Returns:
        The reference with the digest of what was pushed, so that no other image can take its place.

    Raises:
        CommandError: docker failed.
        StoppedError: the stop was requested meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix="posture-build-") as folder:
        metadata = Path(folder) / "metadata.json"
        command = build_command(image, settings, arguments, str(metadata))
        commands.run(command, settings.build_timeout_s, stop=stop, show=True)
        try:
            digest = json.loads(metadata.read_text(encoding="utf-8"))["containerimage.digest"]
        except (OSError, ValueError, KeyError):
            raise commands.CommandError(f"{shlex.join(command)}\n  did not tell what it has pushed") from None
    return f"{image.reference}@{digest}"


def same_image(running: str, wanted: str) -> bool:
    """Return whether an image is the wanted one; a reference without a digest stands for whatever its tag was."""
    if "@" in running and "@" in wanted:
        return running.partition("@")[2] == wanted.partition("@")[2]
    return running.partition("@")[0] == wanted.partition("@")[0]


@dataclass(frozen=True)
class Builder:
    """What buildx says about a builder."""

    name: str
    driver: str
    platforms: frozenset[str]


def inspect_builder(settings: Images) -> Builder:
    """Return the builder that will be used.

    Raises:
        CommandError: there is no such builder, or docker does not answer.
    """
    command = ["docker", "buildx", "inspect", *([settings.builder] if settings.builder else [])]
    said = commands.run(command, settings.timeout_s)
    fields: dict[str, str] = {}
    for line in said.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    # buildx marks with an asterisk what the operator has chosen over what the node reports
    platforms = frozenset(
        part.strip().rstrip("*") for part in fields.get("Platforms", "").split(",") if part.strip()
    )
    return Builder(fields.get("Name", ""), fields.get("Driver", ""), platforms)


def remember(references: Sequence[str], folder: Path) -> None:
    """Keep the references with digests of what was pushed, for --skip-build."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {**pushed(folder), **{reference.partition("@")[0]: reference for reference in references}}
    files.replace(folder / "images.json", f"{json.dumps(known, indent=1)}\n".encode())


def pushed(folder: Path) -> dict[str, str]:
    """Return what was pushed from here: references without digest -> the same with digest."""
    try:
        known = json.loads((folder / "images.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in known.items()} if isinstance(known, dict) else {}
