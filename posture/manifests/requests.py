"""What an analyzer's pod requests of its node: written into a ScaledJob where its file doesn't say otherwise."""

from __future__ import annotations

from posture.kube.annotations import REQUESTS
from posture.manifests.scaled_job import CONTAINER, Manifest
from posture.settings.table import Kubernetes, Settings

_REQUESTS = (*CONTAINER, "resources", "requests")
_NOTE = ("metadata", "annotations", REQUESTS)
_SHIPPED = {"cpu": Kubernetes().requests_cpu, "memory": Kubernetes().requests_memory}
"""In the files as they come: applied without patching, a pod would else request its limits."""


def set_requests(manifest: Manifest, settings: Settings) -> None:
    """Write the requests of ``kubernetes.requests_cpu`` and ``.requests_memory``.

    What the file requests itself is left as it is; what was written before, or came with the file, is written anew.

    Args:
        manifest: a stream's ScaledJob; it is changed.
        settings: with the flags applied.
    """
    written = str(manifest.get(*_NOTE) or "").split()
    own = {
        name: amount
        for name, amount in (manifest.get(*_REQUESTS) or {}).items()
        if name not in written and amount != _SHIPPED.get(name)
    }
    wanted = {"cpu": settings.kubernetes.requests_cpu, "memory": settings.kubernetes.requests_memory}
    added = {name: amount for name, amount in wanted.items() if name not in own}
    manifest.set({**own, **added}, *_REQUESTS)
    if added:
        manifest.set(" ".join(added), *_NOTE)
    elif written:
        manifest.remove(*_NOTE)
