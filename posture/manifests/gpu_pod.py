"""What an analyzer's pod needs to use its node's NVIDIA GPU: written into a ScaledJob, and taken out of it again.

What the file says itself is left as it is, in both directions: an annotation says which parts were written here.
docs/boards.md says what each is for.
"""

from __future__ import annotations

from posture.kube.annotations import GPU
from posture.manifests.scaled_job import CONTAINER, POD, Manifest
from posture.settings.table import Settings

RUNTIME_CLASS = "nvidia"
"""NVIDIA's container runtime, which mounts the driver's libraries and devices."""
VIDEO_GROUP = 44
"""``video`` on Debian, Ubuntu and JetPack: on a Jetson /dev/nvmap is open to root and this group alone."""
DELEGATE = "POSTURE_ANALYZER_DELEGATE"
VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"
VARIABLES = {
    VISIBLE_DEVICES: "all",  # unset means none
    "NVIDIA_DRIVER_CAPABILITIES": "all",  # the default set has no graphics, and the model runs on OpenGL
    DELEGATE: "gpu",  # with auto nobody would be told that the CPU is used instead
}
DEVICE_PLUGIN = "nvidia.com/"
"""A limit whose name begins so lets NVIDIA's device plugin choose the GPU."""

_RUNTIME = (*POD, "runtimeClassName")
_GROUPS = (*POD, "securityContext", "supplementalGroups")
_NOTE = ("metadata", "annotations", GPU)
_ENV = (*CONTAINER, "env")


def set_gpu(manifest: Manifest, settings: Settings) -> None:
    """Give a stream's pod the GPU if ``kubernetes.gpu`` says so, else take away what was written for that before.

    A stream whose delegate is ``cpu``, by the settings or by its file, gets none. Call it before
    ``Manifest.set_environment``, which leaves variables that are there alone.

    Args:
        manifest: its ScaledJob; it is changed.
        settings: with the flags applied.
    """
    _take_away(manifest)
    delegate = _variables(manifest).get(DELEGATE, settings.for_stream(manifest.stream).delegate)
    if settings.kubernetes.gpu == "nvidia" and delegate != "cpu":
        _give(manifest)


def _give(manifest: Manifest) -> None:
    written = []
    if manifest.get(*_RUNTIME) is None:
        manifest.set(RUNTIME_CLASS, *_RUNTIME)
        written.append(_RUNTIME[-1])
    groups = manifest.get(*_GROUPS) or []
    if VIDEO_GROUP not in groups:
        manifest.set([*groups, VIDEO_GROUP], *_GROUPS)
        written.append(_GROUPS[-1])
    given = _variables(manifest)
    limits = manifest.get(*CONTAINER, "resources", "limits") or {}
    chosen_for_us = any(name.startswith(DEVICE_PLUGIN) for name in limits)
    for name, value in VARIABLES.items():
        if name not in given and not (name == VISIBLE_DEVICES and chosen_for_us):
            manifest.set({"name": name, "value": value}, *_ENV, len(manifest.get(*_ENV) or []))
            written.append(name)
    if written:
        manifest.set(" ".join(written), *_NOTE)


def _take_away(manifest: Manifest) -> None:
    written = str(manifest.get(*_NOTE) or "").split()
    if not written:
        return
    if _RUNTIME[-1] in written:
        manifest.remove(*_RUNTIME)
    if _GROUPS[-1] in written:
        left = [group for group in manifest.get(*_GROUPS) or [] if group != VIDEO_GROUP]
        if left:
            manifest.set(left, *_GROUPS)
        else:
            manifest.remove(*_GROUPS)
    kept = [entry for entry in manifest.get(*_ENV) or [] if entry.get("name") not in written]
    manifest.set(kept, *_ENV)
    manifest.remove(*_NOTE)


def _variables(manifest: Manifest) -> dict[str, str]:
    """Return the analyzer's variables; those from Secrets and the like are empty."""
    return {entry.get("name", ""): str(entry.get("value", "")) for entry in manifest.get(*_ENV) or []}
