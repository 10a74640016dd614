"""Fixtures: a checkout of its own on two simulated nodes, which are the nodes that Prometheus knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from control_plane import Cluster
from driven_exporter import GpuExporter
from life import NODES, SECRET, Checkout
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Secret
from nodes import Kubelets
from servers import PrometheusServer


@pytest.fixture(scope="module")
def exporter() -> Iterator[GpuExporter]:
    gpus = GpuExporter()
    yield gpus
    gpus.close()


@pytest.fixture(scope="module")
def usage(tmp_path_factory: pytest.TempPathFactory, exporter: GpuExporter) -> Iterator[PrometheusServer]:
    """A Prometheus that scrapes the exporter's nodes."""
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"), exporter.targets(*NODES))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def checkout(
    tmp_path: Path,
    cluster: Cluster,
    namespace: str,
    nodes: Kubelets,
    usage: PrometheusServer,
    exporter: GpuExporter,
) -> Iterator[Checkout]:
    """A farm that could be brought up: two nodes at rest, a Secret, nothing of ours in the namespace."""
    machines = {name: nodes.add(name) for name in NODES}
    for node, percent in zip(NODES, (10, 20), strict=True):
        exporter.set(node, percent)
    exporter.wait_for_scrapes(NODES[-1])
    cluster.client.create(Secret(metadata=ObjectMeta(name="posture-farm", namespace=namespace), stringData=SECRET))
    made = Checkout(tmp_path / "farm", cluster, namespace, NODES, usage)
    made.machines = machines
    yield made
    made.close()
