"""Which nodes of a cluster are the farm's: those with a GPU, or else all workers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posture.kube.affinity import NODE_LABEL
from posture.kube.objects import Node
from posture.lifecycle.preflight.cluster import MACHINES
from posture.natural_order import natural

CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
GPU_RESOURCES = ("nvidia.com/gpu", "nvidia.com/gpu.shared")
GPU_LABELS = ("nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present")
"""Of NVIDIA's GPU feature discovery, and of node feature discovery: 10de is NVIDIA's number."""
EXPORTER_PORT = 9101
"""deploy/exporter's, in Prometheus' label ``instance`` behind the node's name."""


@dataclass(frozen=True)
class Machine:
    """A node, as far as it matters here.

    Attributes:
        node: what the API says.
        gpu: it has a GPU.
        worker: it is no control plane.
        addresses: names and addresses by which it is reached.
        annotations: of the API's object.
    """

    node: Node
    gpu: bool
    worker: bool
    addresses: tuple[str, ...]
    annotations: Mapping[str, str]

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Machine:
        """Take what we need from the API's object."""
        node = Node.read(body)
        status = body.get("status") or {}
        addresses = tuple(str(one["address"]) for one in status.get("addresses") or [])
        kernel = str((status.get("nodeInfo") or {}).get("kernelVersion", ""))
        worker = not any(role in node.labels for role in CONTROL_PLANE)
        return cls(node, _has_gpu(node, kernel), worker, addresses, body["metadata"].get("annotations") or {})

    @property
    def name(self) -> str:
        """What the farm calls it: the label that it has, or is to get."""
        return self.node.name or self.node.host

    @property
    def runs_analyzers(self) -> bool:
        """Whether there are packages for its kind of processor."""
        return self.node.labels.get("kubernetes.io/arch", MACHINES[0]) in MACHINES

    @property
    def platform(self) -> str:
        """What images for it are built for, such as linux/arm64."""
        return f"linux/{self.node.labels.get('kubernetes.io/arch', MACHINES[0])}"

    @property
    def query(self) -> str:
        """Its entry of GPU_QUERIES: the exporter that the stack runs on it, and what of it counts."""
        signal = "[gpu, cpu]" if self.gpu else "cpu"
        return f'{{instance: "{self.node.host}:{EXPORTER_PORT}", signal: {signal}}}'


def _has_gpu(node: Node, kernel: str) -> bool:
    allocatable = any(str(node.allocatable.get(name, "0")) != "0" for name in GPU_RESOURCES)
    labelled = any(node.labels.get(name) == "true" for name in GPU_LABELS)
    # a Jetson's GPU is no resource unless somebody has installed the device plugin
    jetson = "tegra" in kernel or any("jetson" in f"{key}={value}".lower() for key, value in node.labels.items())
    return allocatable or labelled or jetson


def chosen(machines: Sequence[Machine], master: str = "") -> list[Machine]:
    """Return the farm's nodes, in natural order.

    Those that have the label ``gpu-node`` are the farm's already. Without a GPU anywhere all workers are taken, and
    in a cluster of control planes alone all of them.

    Args:
        machines: all nodes.
        master: the node that no stream runs on.
    """
    able = [one for one in machines if one.runs_analyzers and one.node.host != master]
    with_gpu = [one for one in able if one.gpu]
    workers = [one for one in able if one.worker]
    found = {
        one.node.host: one for one in (*(one for one in able if one.node.name), *(with_gpu or workers or able))
    }
    return sorted(found.values(), key=lambda one: natural(one.name))


def unlabelled(machines: Sequence[Machine]) -> list[Machine]:
    """Return those that have no label ``gpu-node`` yet."""
    return [one for one in machines if NODE_LABEL not in one.node.labels]
