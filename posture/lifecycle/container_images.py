"""The farm's container images: their names, and docker's commands that build and push them."""

from __future__ import annotations

import functools
import json
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from posture import __version__
from posture.runtime import ROOT, Stop
from posture.settings import streams
from posture.settings.table import Images
from posture.system import commands, files

ANALYZER_TARGET, SCHEDULER_TARGET, DASHBOARD_TARGET = "analyzer", "scheduler", "dashboard"
"""The Dockerfile's targets."""
LABEL = "org.opencontainers.image"
"""What an image says of itself. Source: OCI image specification, "Annotations"."""


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

    @property
    def name(self) -> str:
        """Its name without registry and tag."""
        return self.reference.rpartition("/")[2].partition(":")[0]


def analyzer_image(stream: str, settings: Images) -> Image:
    """Return the image of a stream's analyzer: its own if it has a script of its own, else the common one."""
    script = streams.own_script(stream)
    if script is not None:
        return Image(script.name, ANALYZER_TARGET, _reference(f"posture-{stream}", settings))
    return Image(streams.COMMON_SCRIPT, ANALYZER_TARGET, _reference("posture-analyzer", settings))


def scheduler_image(settings: Images) -> Image:
    """Return the image of scaler, balancer and exporter."""
    return Image("cpu_monitor_and_offload.py", SCHEDULER_TARGET, _reference("posture-scheduler", settings))


def dashboard_image(settings: Images) -> Image:
    """Return the image of the page."""
    return Image("dashboard.py", DASHBOARD_TARGET, _reference("posture-dashboard", settings))


def image_labels(image: Image, timeout_s: float) -> dict[str, str]:
    """Return what an image is to say of itself: its name, the farm's version, its commit.

    Args:
        image: which one.
        timeout_s: how long git may take.

    Without git, or in a copy without its history, the commit and where it can be had are left out.
    """
    found = {f"{LABEL}.title": image.name, f"{LABEL}.version": __version__, f"{LABEL}.licenses": "MIT"}
    revision = _of_git("rev-parse HEAD", timeout_s)
    if revision:
        changed = _of_git("status --porcelain --untracked-files=no", timeout_s)
        found[f"{LABEL}.revision"] = f"{revision}-dirty" if changed else revision
    source = urlsplit(_of_git("remote get-url origin", timeout_s))
    # an address may have a user and a password in it, and a path of this machine is nobody's business
    if source.scheme in {"http", "https", "ssh", "git"} and source.hostname:
        port = f":{source.port}" if source.port else ""
        found[f"{LABEL}.source"] = f"{source.scheme}://{source.hostname}{port}{source.path}"
    return found


@functools.cache
def _of_git(arguments: str, timeout_s: float) -> str:
    """Return what git says of this checkout; nothing if it is a folder in somebody else's."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        return commands.run(["git", "-C", str(ROOT), *arguments.split()], timeout_s).strip()
    except commands.CommandError:
        return ""


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
    labels = image_labels(image, settings.timeout_s)
    return [
        "docker", "buildx", "build",
        *(["--builder", settings.builder] if settings.builder else []),
        "--platform", ",".join(settings.platform_list()),
        "--target", image.target,
        *(part for argument in (f"APP={image.app}", *arguments) for part in ("--build-arg", argument)),
        "--tag", image.reference,
        *(part for label in labels.items() for part in ("--label", "=".join(label))),
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
