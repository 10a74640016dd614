"""A Prometheus that is a Service of the cluster, asked from outside by way of the real API server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_plane import Cluster
from driven_exporter import GpuExporter, gpu_queries
from lightkube.resources.core_v1 import Pod
from servers import PrometheusServer
from watching import wait_for

from posture.settings import table
from posture.usage.prometheus import Prometheus
from posture.usage.readings import Reading


@pytest.fixture
def address() -> str:
    """An address of this machine that an endpoint may have: none of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has loopback alone")
        return str(probe.getsockname()[0])


@pytest.fixture
def service(
    cluster: Cluster, namespace: str, gpu_exporter: GpuExporter, address: str, tmp_path: Path
) -> Iterator[PrometheusServer]:
    server = PrometheusServer(tmp_path / "prometheus", gpu_exporter.targets("a"))
    server.command = [
        *(part for part in server.command if not part.startswith("--web.listen-address")),
        f"--web.listen-address=0.0.0.0:{server.port}",
    ]
    ports = [{"port": server.port}]
    # the API server passes requests on to pods' addresses alone
    pod = {"kind": "Pod", "name": "prometheus-0", "namespace": namespace}
    cluster.create(
        namespace,
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "prometheus-0"},
            "spec": {"schedulerName": "none", "containers": [{"name": "prometheus", "image": "prometheus"}]},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "prometheus"}, "spec": {"ports": ports}},
        {
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "prometheus"},
            "subsets": [{"addresses": [{"ip": address, "targetRef": pod}], "ports": ports}],
        },
    )  # fmt: skip
    running = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
    cluster.client.patch(Pod.Status, "prometheus-0", running, namespace=namespace)
    gpu_exporter.set("a", 42)
    server.start()
    yield server
    server.stop()


def test_it_is_asked_with_the_kubeconfigs_credentials_and_who_may_not_is_told_which_right_it_takes(
    cluster: Cluster, namespace: str, service: PrometheusServer, gpu_exporter: GpuExporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    gpu_exporter.wait_for_scrapes("a")
    url = f"kubernetes://{namespace}/prometheus:{service.port}"
    settings = table.Prometheus(url=url, scrape_interval_s=0.5, max_age_s=30, timeout_s=30)
    queries = gpu_queries("a")
    stranger = cluster.role(namespace, "stranger")
    proxies = {"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["create"]}
    allowed = cluster.role(namespace, "allowed", [proxies])

    monkeypatch.setenv("KUBECONFIG", str(allowed))
    prometheus = Prometheus(settings, queries)
    # the API server learns of a new Service by a watch of its own
    wait_for(lambda: isinstance(prometheus.sample()["a"], Reading))
    found = prometheus.sample()["a"]
    assert isinstance(found, Reading), found
    assert found.value == 42
    monkeypatch.setenv("KUBECONFIG", str(stranger))
    refused = str(Prometheus(settings, queries).sample()["a"])
    assert f"Prometheus at {url} answers 403" in refused
    assert "needed: the verb create on services/proxy" in refused
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    absent = table.Prometheus(url=f"kubernetes://{namespace}/other:9090", timeout_s=30)
    assert "of a Service that is there" in str(Prometheus(absent, queries).sample()["a"])
