"""What the settings say of a stream, written into its ScaledJob; what they said at an earlier time is taken out."""

from __future__ import annotations

from posture.manifests import gpu_pod, host_folders
from posture.manifests.requests import set_requests
from posture.manifests.scaled_job import Manifest
from posture.settings import streams
from posture.settings.table import Settings


def write_settings(manifest: Manifest, settings: Settings) -> None:
    """Write namespace, farm, GPU, host folders, requests and variables into a stream's ScaledJob.

    Args:
        manifest: the ScaledJob; it is changed. It may be one that this has been done to before.
        settings: with the flags applied.

    Raises:
        UserError: with the farm's name in it, the ScaledJob's name is too long.
    """
    manifest.set_owner(settings.kubernetes.namespace, settings.kubernetes.farm)
    # first: what an earlier run has written must not look like the file's own
    manifest.forget_environment()
    gpu_pod.set_gpu(manifest, settings)
    host_folders.set_host_folders(manifest, settings)
    set_requests(manifest, settings)
    variables = settings.pod_environment(manifest.stream)
    if streams.own_script(manifest.stream) is None:
        variables[streams.VARIABLE] = manifest.stream
    manifest.set_environment(variables)
