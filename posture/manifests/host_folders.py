"""Folders of the node in which pods keep pictures and damaged frames: written into a ScaledJob and taken out again.

What the file says itself, such as a claim, stays as it is: an annotation says which volumes were laid on the node.
"""

from __future__ import annotations

from posture.kube import ownership
from posture.kube.annotations import HOST_FOLDERS
from posture.manifests.scaled_job import CONTAINER, POD, Manifest
from posture.settings.table import Settings

FOLDERS = {"pictures": "analyzed_images", "quarantine": "quarantine"}
"""Volume -> folder, in the analyzer's image below /app."""
OWNER = "10001:10001"
INIT_CONTAINER = "folders"

_NOTE = ("metadata", "annotations", HOST_FOLDERS)
_VOLUMES = (*POD, "volumes")
_INIT = (*POD, "initContainers")


def set_host_folders(manifest: Manifest, settings: Settings) -> None:
    """Lay a stream's empty volumes on the node if ``kubernetes.pictures_host_path`` says so, else take that back.

    Farms other than the default one get folders of their own below it.

    Args:
        manifest: its ScaledJob; it is changed.
        settings: with the flags applied.
    """
    _take_away(manifest)
    root, farm = settings.kubernetes.pictures_host_path, settings.kubernetes.farm
    if root:
        _give(manifest, root if farm == ownership.DEFAULT_FARM else f"{root}/{farm}")


def _give(manifest: Manifest, root: str) -> None:
    written = []
    for index, volume in enumerate(manifest.get(*_VOLUMES) or []):
        folder = FOLDERS.get(volume.get("name", ""))
        if folder and "emptyDir" in volume:
            place = {"path": f"{root}/{folder}", "type": "DirectoryOrCreate"}
            manifest.set(place, *_VOLUMES, index, "hostPath")
            manifest.remove(*_VOLUMES, index, "emptyDir")
            written.append(volume["name"])
    if written:
        manifest.set([*(manifest.get(*_INIT) or []), _owned(manifest, written)], *_INIT)
        manifest.set(" ".join(written), *_NOTE)


def _owned(manifest: Manifest, volumes: list[str]) -> dict[str, object]:
    """Return the container that gives the folders to the analyzer's user; new ones belong to root."""
    places = {name: f"/app/{FOLDERS[name]}" for name in volumes}
    return {
        "name": INIT_CONTAINER,
        "image": manifest.get(*CONTAINER, "image"),
        "imagePullPolicy": manifest.get(*CONTAINER, "imagePullPolicy") or "IfNotPresent",
        "command": ["chown", OWNER, *places.values()],
        "securityContext": {
            "runAsNonRoot": False,
            "runAsUser": 0,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]},
        },
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"cpu": "100m", "memory": "32Mi"},
        },
        "volumeMounts": [{"name": name, "mountPath": place} for name, place in places.items()],
    }


def _take_away(manifest: Manifest) -> None:
    written = str(manifest.get(*_NOTE) or "").split()
    if not written:
        return
    for index, volume in enumerate(manifest.get(*_VOLUMES) or []):
        if volume.get("name") in written and "hostPath" in volume:
            manifest.set({}, *_VOLUMES, index, "emptyDir")
            manifest.remove(*_VOLUMES, index, "hostPath")
    others = [one for one in manifest.get(*_INIT) or [] if one.get("name") != INIT_CONTAINER]
    if others:
        manifest.set(others, *_INIT)
    else:
        manifest.remove(*_INIT)
    manifest.remove(*_NOTE)
