"""gpu_exporter.py on every node, by deploy/exporter, in the image that the farm's own Dockerfile makes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from control_plane import Cluster
from discovery import FoundPod, write_pods
from kustomize_tool import render
from lightkube.resources.apps_v1 import DaemonSet
from lightkube.resources.core_v1 import Pod
from lightkube.resources.networking_v1 import NetworkPolicy
from processors import PLACE

ROOT = Path(__file__).resolve().parents[2]
NAME = "posture-exporter"
LABELS = {"app.kubernetes.io/name": NAME}
PORT = 9101
LOOK_S = 1.0
READY_S = 300.0


def on_nodes_of_their_own(daemon_set: dict[str, Any], image: str) -> dict[str, Any]:
    """Let the pods read their node's /proc/stat: see processors.py."""
    pod = daemon_set["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container |= {
        "image": image,
        "args": ["--proc", "/node/proc"],
        "volumeMounts": [{"name": "proc", "mountPath": "/node/proc", "readOnly": True}],
    }
    pod["volumes"] = [{"name": "proc", "hostPath": {"path": f"/var/lib/{PLACE}", "type": "Directory"}}]
    return daemon_set


@contextlib.contextmanager
def exporters(cluster: Cluster, namespace: str, image: str, nodes: int, found: Path) -> Iterator[None]:
    """Run them, and tell Prometheus where they are, as its discovery in the cluster does.

    Args:
        cluster: where.
        namespace: the farm's.
        image: the scheduler's, with the registry.
        nodes: how many there are.
        found: the file that Prometheus reads.
    """
    end = threading.Event()

    def pods() -> list[Any]:
        return list(cluster.client.list(Pod, namespace=namespace, labels=LABELS))

    def discover() -> None:
        while not end.wait(LOOK_S):
            with contextlib.suppress(Exception):  # the API server may be away
                write_pods(
                    found,
                    [
                        FoundPod(pod.spec.nodeName, NAME, f"{pod.status.podIP}:{PORT}", pod.status.phase)
                        for pod in pods()
                        if pod.status.podIP
                    ],
                )

    for item in render(ROOT / "deploy" / "exporter"):
        cluster.create(namespace, on_nodes_of_their_own(item, image) if item["kind"] == "DaemonSet" else item)
    thread = threading.Thread(target=discover, daemon=True)
    thread.start()
    try:
        cluster.until(
            DaemonSet, namespace, lambda sets: [(one.status.numberReady or 0) for one in sets] == [nodes],
            timeout_s=READY_S,
        )  # fmt: skip
        yield
    finally:
        end.set()
        thread.join()
        cluster.client.delete(DaemonSet, NAME, namespace=namespace)
        cluster.client.delete(NetworkPolicy, NAME, namespace=namespace)
        cluster.until(Pod, namespace, lambda left: not left, LABELS, timeout_s=READY_S)
        write_pods(found, [])
