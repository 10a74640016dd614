"""What can't work in the cluster; what a real one refuses: tests/cluster/life_of_a_farm/test_farm_in_cluster.py."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from posture.kube.objects import Node
from posture.lifecycle.preflight import in_cluster
from posture.lifecycle.preflight.findings import Finding, Intent
from posture.lifecycle.preflight.in_cluster import There
from posture.manifests import files
from posture.runtime import ROOT
from posture.settings.loading import load
from posture.settings.table import Images, Settings

(DEPLOYMENT,) = (
    item
    for item in yaml.safe_load_all((ROOT / "deploy/base/scaler.yaml").read_text())
    if item["kind"] == "Deployment"
)
MANIFESTS = {one.stream: one.data() for one in files.of_streams(["hall-1", "hall-2"])}
REACHED = "prometheus: {url: 'kubernetes://monitoring/prometheus:9090'}\n"


def there(tmp_path: Path, text: str = REACHED, **variables: str) -> There:
    """A Deployment as deploy/ has it, with more variables for the scaler."""
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    deployment = copy.deepcopy(DEPLOYMENT)
    env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    env += [{"name": name, "value": value} for name, value in variables.items()]
    return There(path, load(path), deployment)


def with_environment(found: There, **variables: str) -> list[Finding]:
    return list(in_cluster.check_settings(load(found.path, variables), found))


@pytest.mark.parametrize("variable", ["POSTURE_GPU_QUERIES", "POSTURE_SIGNALS"])
def test_queries_of_the_environment_alone_are_found(tmp_path: Path, variable: str) -> None:
    found = there(tmp_path, f"{REACHED}GPU_QUERIES: {{agx: {{instance: 'agx:9100', signal: mine}}}}\n"
                            "signals: {mine: {metric: one}}\n")  # fmt: skip
    queries = "{agx: {instance: 'agx:9101', signal: mine}}"
    given = queries if variable == "POSTURE_GPU_QUERIES" else "{mine: {metric: two}}"
    (finding,) = with_environment(found, **{variable: given})
    assert "GPU_QUERIES or signals are given by the environment here" in finding.what
    assert finding.mend.startswith("write GPU_QUERIES and signals into cluster.yaml (python3 setup_farm.py does)")
    assert not finding.warning


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [
        ("POSTURE_PROMETHEUS_URL", "http://prometheus:9090", "prometheus.url"),
        ("GPU_THRESHOLD", "70", "balancer.threshold"),
        ("POSTURE_SCALER_STABILIZE_S", "300", "scaler.stabilize_s"),
        ("POSTURE_KUBERNETES_NAMESPACE", "elsewhere", "kubernetes.namespace"),
        ("POSTURE_MQTT_PREFIX", "north", "mqtt.prefix"),
    ],
)
def test_each_setting_of_the_environment_alone_is_named(
    tmp_path: Path, variable: str, value: str, setting: str
) -> None:
    (finding,) = with_environment(there(tmp_path), **{variable: value})
    assert finding.what.startswith(f"{setting} is given by {variable} or a flag here")
    assert with_environment(there(tmp_path, REACHED, **{variable: value}), **{variable: value}) == []


def test_a_secret_of_the_environment_is_not_printed(tmp_path: Path) -> None:
    path = there(tmp_path, "prometheus: {username: farm, url: 'https://prometheus.example:9090'}\n")
    given = load(path.path, {"POSTURE_MQTT_URL": "mqtt://broker", "POSTURE_PROMETHEUS_PASSWORD": "hunter2"})
    assert list(in_cluster.check_settings(given, path)) == [], "the Deployment has both from Secret posture-farm"


def test_what_only_the_scripts_here_read_may_be_given_here(tmp_path: Path) -> None:
    given = {"POSTURE_KUBERNETES_CONTEXT": "mine", "POSTURE_IMAGES_TAG": "v2", "POSTURE_ANALYZER_PICTURES": "none"}
    assert with_environment(there(tmp_path), **given) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9090", "http://localhost:9090/prometheus", "http://[::1]:9090"])
def test_a_prometheus_on_loopback_is_the_pod_itself(tmp_path: Path, url: str) -> None:
    (finding,) = in_cluster.check_addresses(there(tmp_path, f"prometheus: {{url: '{url}'}}\n"))
    assert "which in a pod is the pod itself" in finding.what
    assert finding.mend == (
        "in cluster.yaml, under prometheus: url: kubernetes://NAMESPACE/SERVICE:PORT   (or python3 setup_farm.py)"
    )
    other = there(tmp_path, f"prometheus: {{url: '{url}'}}\n", POSTURE_PROMETHEUS_URL="http://prometheus:9090")
    assert not list(in_cluster.check_addresses(other))
    assert not list(in_cluster.check_addresses(there(tmp_path)))


def test_a_file_of_this_machine_is_not_in_the_pod(tmp_path: Path) -> None:
    ours = there(tmp_path, "scaler: {tls_cert: /etc/farm/tls.crt, tls_key: /etc/farm/tls.key}\n")
    assert [one.what.split(",")[0] for one in in_cluster.check_files(ours)] == [
        "scaler.tls_cert is /etc/farm/tls.crt",
        "scaler.tls_key is /etc/farm/tls.key",
    ]
    mounted = there(tmp_path, "scaler: {tls_cert: /config/tls.crt, tls_key: /config/tls.key}\n")
    assert not list(in_cluster.check_files(mounted))


@pytest.mark.parametrize("trigger", [True, False])
@pytest.mark.parametrize("scaler", [True, False])
def test_triggers_speak_to_the_scaler_as_it_listens(tmp_path: Path, trigger: bool, scaler: bool) -> None:
    manifests = copy.deepcopy(MANIFESTS)
    for one in manifests.values():
        one["spec"]["triggers"][0]["metadata"]["enableTLS"] = str(trigger).lower()
    variables = {"POSTURE_SCALER_TLS_CERT": "/tls/tls.crt"} if scaler else {}
    found = list(in_cluster.check_tls(Intent(Settings(), manifests), there(tmp_path, REACHED, **variables)))
    assert [one.what for one in found] == (
        []
        if trigger == scaler
        else [
            f"the triggers of hall-1, hall-2 want {'TLS' if trigger else 'plaintext'}, "
            f"and the scaler in the cluster has {'TLS' if scaler else 'plaintext'}"
        ]
    )


def machines(tmp_path: Path, *architectures: str, **changes: Any) -> list[str]:
    """What is said of nodes where no analyzer runs."""
    settings = Settings(images=Images(platforms="linux/arm64"))
    nodes = [
        replace(Node.read({"metadata": {"name": one, "labels": {"kubernetes.io/arch": one}}}), **changes)
        for one in architectures
    ]
    pods = {"the scaler": there(tmp_path).pod["spec"]}
    return [str(one) for one in in_cluster.check_machines(settings, pods, nodes)]


def test_a_node_for_which_no_image_is_built_and_where_the_scaler_may_go_is_found(tmp_path: Path) -> None:
    (said,) = machines(tmp_path, "amd64", "arm64", "arm")
    assert "the scaler may be put on node amd64, which is linux/amd64, and images are built for linux/arm64" in said
    assert "--platforms linux/arm64,linux/amd64" in said, "32-bit nodes deploy/ keeps free of it"
    taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    assert machines(tmp_path, "amd64", taints=(taint,)) == [], "it does not tolerate that"
