"""build_and_push.py --in-cluster: deploy/ on the real control plane, made by us or by an administrator before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import Cluster, ScaledJob
from deployed import BASE, REVIEWS, account, granted, objects_of, send
from life import Checkout, everything
from lightkube.codecs import from_dict
from lightkube.resources.apps_v1 import DaemonSet, Deployment
from lightkube.resources.core_v1 import ConfigMap, Pod
from nodes import Fault
from scaled_jobs import is_ready, name_of
from servers import PrometheusServer
from stub_scaler import StubScaler

from posture.system import recorded_processes

NAME = "posture-scaler"


@pytest.fixture
def flags(checkout: Checkout, stub_scaler: StubScaler) -> list[str]:
    """No service of a simulated cluster can be reached: KEDA asks a scaler of this machine instead."""
    checkout.call_prometheus_by_another_name()
    stub_scaler.active, stub_scaler.value = True, 1
    return ["--skip-build", "--in-cluster", "--no-wait", "--scaler-address", stub_scaler.address]


def until_up(cluster: Cluster, namespace: str) -> None:
    cluster.until(Pod, namespace, lambda pods: sum(map(is_ready, pods)) == 3)


def test_what_it_has_made_is_scaled_to_0_brought_back_and_removed_without_a_trace(
    checkout: Checkout,
    cluster: Cluster,
    namespace: str,
    flags: list[str],
) -> None:
    before = everything(cluster)
    checkout.run("build_and_push.py", *flags)
    until_up(cluster, namespace)
    deployment = cluster.client.get(Deployment, NAME, namespace=namespace)
    images = [container.image for container in deployment.spec.template.spec.containers]
    assert images == ["127.0.0.1:9/posture-scheduler:latest"] * 2
    settings = cluster.client.get(ConfigMap, NAME, namespace=namespace).data["cluster.yaml"]
    assert yaml.safe_load(settings) == checkout.settings
    assert recorded_processes.find("scaler", checkout.records) is None
    balancer = cluster.client_for(cluster.kubeconfig_of(namespace, NAME))
    assert len(list(balancer.list(ScaledJob, namespace=namespace))) == 2, "its account has the balancer's rights"

    checkout.run("stop.py")
    assert cluster.client.get(Deployment, NAME, namespace=namespace).spec.replicas == 0
    cluster.until(Pod, namespace, lambda pods: not pods)

    checkout.settings["balancer"] = {"threshold": 60}
    checkout.write_settings()
    checkout.run("build_and_push.py", *flags)
    until_up(cluster, namespace)
    settings = cluster.client.get(ConfigMap, NAME, namespace=namespace).data["cluster.yaml"]
    assert yaml.safe_load(settings)["balancer"] == {"threshold": 60}

    checkout.run("stop.py", "--delete-scaledjobs", "--clean")
    cluster.until(Pod, namespace, lambda pods: not pods)
    assert everything(cluster) == before


def test_what_keeps_the_scalers_pod_from_running_is_shown_while_it_is_waited_for(
    checkout: Checkout, flags: list[str]
) -> None:
    for machine in checkout.machines.values():
        machine.fault = Fault.IMAGE_PULL
    running = checkout.start("build_and_push.py", *flags)
    running.until_it_says("ImagePullBackOff: pod posture-scaler-")
    assert "Back-off pulling image" in running.said
    running.interrupt()
    assert running.wait() != 0


def test_what_an_administrator_has_made_gets_image_settings_and_replicas_with_the_operators_rights(
    checkout: Checkout,
    cluster: Cluster,
    namespace: str,
    flags: list[str],
) -> None:
    account(cluster, namespace, NAME)
    for item in objects_of(BASE / "scaler.yaml"):
        item["metadata"]["namespace"] = namespace
        assert send(cluster, item) == ""
    checkout.environ["KUBECONFIG"] = str(account(cluster, namespace, "posture-operator"))
    before = everything(cluster)
    checkout.run("build_and_push.py", *flags)
    until_up(cluster, namespace)
    scaler, balancer = cluster.client.get(Deployment, NAME, namespace=namespace).spec.template.spec.containers
    assert scaler.image == balancer.image == "127.0.0.1:9/posture-scheduler:latest"
    assert "--no-balancer" in scaler.args, "what else the administrator has decided stays"
    checkout.run("stop.py", "--delete-scaledjobs", "--clean")
    cluster.until(Pod, namespace, lambda pods: not pods)
    assert cluster.asked_by(namespace, "posture-operator") - {REVIEWS} <= granted("posture-operator")
    after = everything(cluster)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert {path.split("/")[-3] for path in changed} <= {"deployments", "replicasets", "pods"}
    assert cluster.client.get(Deployment, NAME, namespace=namespace).spec.replicas == 0


def test_triggers_get_kedas_certificate_where_the_scaler_is_deployed_with_tls(
    checkout: Checkout, cluster: Cluster, namespace: str, flags: list[str]
) -> None:
    account(cluster, namespace, NAME)
    for item in objects_of(BASE / "scaler.yaml"):
        item["metadata"]["namespace"] = namespace
        if item["kind"] == "Deployment":
            pod = item["spec"]["template"]["spec"]
            pod["volumes"].append({"name": "tls", "emptyDir": {}})
            scaler = pod["containers"][0]
            scaler["volumeMounts"].append({"name": "tls", "mountPath": "/tls"})
            for variable, file in (("TLS_CERT", "tls.crt"), ("TLS_KEY", "tls.key"), ("CLIENT_CA", "ca.crt")):
                scaler["env"].append({"name": f"POSTURE_SCALER_{variable}", "value": f"/tls/{file}"})
        assert send(cluster, item) == ""
    checkout.run("build_and_push.py", *flags)
    triggers = [one.spec["triggers"][0] for one in cluster.client.list(ScaledJob, namespace=namespace)]
    assert [one["metadata"]["enableTLS"] for one in triggers] == ["true"] * 2
    assert [one["authenticationRef"]["name"] for one in triggers] == ["posture-scaler-tls"] * 2


def test_page_and_exporter_get_their_images_too_where_they_are_deployed(
    checkout: Checkout,
    cluster: Cluster,
    namespace: str,
    flags: list[str],
) -> None:
    account(cluster, namespace, NAME)
    for name in ("base/scaler.yaml", "dashboard/dashboard.yaml", "exporter/exporter.yaml"):
        for item in objects_of(BASE.parent / name):
            item["metadata"]["namespace"] = namespace
            assert send(cluster, item) == ""
    checkout.environ["KUBECONFIG"] = str(account(cluster, namespace, "posture-operator"))

    def page() -> Any:
        return cluster.client.get(Deployment, "posture-dashboard", namespace=namespace).spec

    def images(spec: Any) -> list[str]:
        return [container.image for container in spec.template.spec.containers]

    said = checkout.run("build_and_push.py", *flags)
    assert "set the image of deployment posture-dashboard: 127.0.0.1:9/posture-dashboard:latest" in said
    assert images(page()) == ["127.0.0.1:9/posture-dashboard:latest"]
    exporter = cluster.client.get(DaemonSet, "posture-exporter", namespace=namespace)
    assert images(exporter.spec) == ["127.0.0.1:9/posture-scheduler:latest"]
    checkout.run("stop.py")
    assert page().replicas == 0
    checkout.run("build_and_push.py", *flags)
    assert page().replicas == 1, "what stop.py has stopped starts again"
    exporter_again = cluster.client.get(DaemonSet, "posture-exporter", namespace=namespace)
    assert exporter_again.metadata.generation == exporter.metadata.generation, "one that is right is left alone"
    assert cluster.asked_by(namespace, "posture-operator") - {REVIEWS} <= granted("posture-operator")


def test_what_cant_work_in_the_cluster_is_found_before_anything_is_changed(
    checkout: Checkout, cluster: Cluster, namespace: str, usage: PrometheusServer, flags: list[str]
) -> None:
    limits = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "tiny"}}
    spec = {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]}
    cluster.client.create(from_dict({**limits, "spec": spec}), namespace=namespace)
    checkout.settings["prometheus"]["url"] = usage.url
    queries = checkout.settings.pop("GPU_QUERIES")
    checkout.write_settings()
    before = everything(cluster)
    given = {"POSTURE_GPU_QUERIES": json.dumps(queries), "GPU_THRESHOLD": "70"}
    said = checkout.run("build_and_push.py", *flags, status=2, **given)
    for part in (
        "error: GPU_QUERIES or signals are given by the environment here",
        "error: balancer.threshold is given by GPU_THRESHOLD or a flag here",
        "mend: in cluster.yaml, under balancer: threshold: 70",
        "error: the scaler in the cluster would ask Prometheus at 127.0.0.1, which in a pod is the pod itself",
        "mend: in cluster.yaml, under prometheus: url: kubernetes://NAMESPACE/SERVICE:PORT",
        "error: the cluster admits no pod of the scaler: create pods: ",
    ):
        assert part in said
    assert "Traceback" not in said
    assert everything(cluster) == before


def test_without_the_rights_to_make_it_the_missing_ones_are_named_first(
    checkout: Checkout,
    cluster: Cluster,
    namespace: str,
    flags: list[str],
    tmp_path: Path,
) -> None:
    checkout.environ["KUBECONFIG"] = str(account(cluster, namespace, "posture-operator"))
    before = everything(cluster)
    said = checkout.run("build_and_push.py", *flags, status=2)
    assert "error: the role lacks verb 'create' on resource 'services'" in said
    assert "mend: kubectl apply -k deploy" in said
    assert everything(cluster) == before
    assert name_of("pi1") not in said
