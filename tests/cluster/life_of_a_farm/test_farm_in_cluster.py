"""build_and_push.py --in-cluster: deploy/ on the real control plane, made by us or by an administrator before."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from control_plane import Cluster, ScaledJob
from deployed import BASE, REVIEWS, account, granted, objects_of, send
from life import Checkout, everything
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Pod
from nodes import Fault
from scaled_jobs import is_ready, name_of
from stub_scaler import StubScaler

from posture.system import recorded_processes

NAME = "posture-scaler"


@pytest.fixture
def flags(stub_scaler: StubScaler) -> list[str]:
    """No service of a simulated cluster can be reached: KEDA asks a scaler of this machine instead."""
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
    running.until_it_says("ImagePullBackOff: pod posture-scaler-", timeout_s=45)
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
