"""Which address leads to a Prometheus that is a Service of the cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_api import write_kubeconfig

from posture.errors import UserError
from posture.usage.service_address import command, route_to

URL = "kubernetes://monitoring/prometheus:9090"


def test_a_pod_asks_the_service_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.43.0.1")
    assert route_to(URL).url == "http://prometheus.monitoring.svc:9090"


def test_another_machine_asks_the_api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", "192.0.2.1:6443")))
    route = route_to(URL)
    assert route.url == "http://192.0.2.1:6443/api/v1/namespaces/monitoring/services/prometheus:9090/proxy"
    assert route.auth is not None


def test_without_a_kubeconfig_it_is_said_which_setting_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
    with pytest.raises(UserError, match=r"prometheus\.url: kubernetes://monitoring/prometheus:9090: no Kubernetes"):
        route_to(URL)


def test_a_query_can_be_typed_by_hand() -> None:
    assert command(URL, 'a{b="c d"}')[:3] == ["kubectl", "get", "--raw"]
    assert command(URL, 'a{b="c d"}')[3].endswith(
        "/services/prometheus:9090/proxy/api/v1/query?query=a%7Bb%3D%22c+d%22%7D"
    )
    assert command("http://p:9090", "up")[:3] == ["curl", "-G", "http://p:9090/api/v1/query"]
