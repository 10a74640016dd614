"""deploy/ on the real API server: it is accepted, and its accounts may do what the scripts ask for, and no more."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from balancing import Farm
from control_plane import Cluster
from deployed import BASE, REVIEWS, ROOT, WITH_TLS, account, granted, objects_of, send
from kustomize_tool import render
from lightkube.resources.admissionregistration_v1 import (
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
)
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Namespace
from lightkube.resources.rbac_authorization_v1 import ClusterRole, ClusterRoleBinding
from watching import wait_for

DEPLOY = ROOT / "deploy"
FILES = [
    *sorted(path for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml"),
    DEPLOY / "secret-example.yaml",
    DEPLOY / "exporter" / "exporter.yaml",
    WITH_TLS / "trigger-authentication.yaml",
    *sorted(ROOT.glob("posture-job-*.yaml")),
]
CLUSTERWIDE = {
    kind.__name__: kind
    for kind in (ClusterRole, ClusterRoleBinding, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding)
}


@pytest.fixture
def posture_farm(cluster: Cluster) -> Iterator[str]:
    """The namespace that the files name."""
    (namespace,) = objects_of(BASE / "namespace.yaml")
    assert send(cluster, namespace) == ""
    yield "posture-farm"
    cluster.client.delete(Namespace, "posture-farm")
    cluster.until(Namespace, None, lambda found: "posture-farm" not in {one.metadata.name for one in found})


def test_every_object_is_accepted_by_the_api_server_without_an_unknown_field(
    cluster: Cluster, posture_farm: str
) -> None:
    refused = {
        f"{path.name}: {item['kind']} {item['metadata']['name']}": answer
        for path in FILES
        for item in objects_of(path)
        if (answer := send(cluster, item, dry_run=True))
    }
    assert refused == {}
    (scaler, _) = objects_of(BASE / "scaler.yaml")
    broken: dict[str, Any] = {**scaler, "spec": {**scaler["spec"], "replica": 1}}
    assert "replica" in send(cluster, broken, dry_run=True), "the check itself is strict"


@pytest.mark.parametrize("folder", ["exporter", "overlays/exporter-nvml"])
def test_the_exporter_runs_where_pods_have_no_privileges(cluster: Cluster, posture_farm: str, folder: str) -> None:
    """As kubectl apply -k does; and a pod of it is admitted at PodSecurity's strictest level."""
    level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    cluster.client.patch(Namespace, posture_farm, level)
    (daemon_set,) = (item for item in render(DEPLOY / folder) if item["kind"] == "DaemonSet")
    assert [send(cluster, item) for item in render(DEPLOY / folder)] == ["", ""]
    template = daemon_set["spec"]["template"]
    template["spec"].pop("runtimeClassName", None)  # the test's cluster has none
    metadata = {"name": "tried", "namespace": posture_farm}
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    privileged = copy.deepcopy(pod)
    privileged["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    # the API server learns of the namespace's level by a watch of its own
    wait_for(lambda: "PodSecurity" in send(cluster, privileged, dry_run=True))
    assert send(cluster, pod, dry_run=True) == ""


def test_the_patch_for_mutual_tls_fits_the_deployment(cluster: Cluster, posture_farm: str) -> None:
    scaler, _ = objects_of(BASE / "scaler.yaml")
    assert send(cluster, scaler) == ""
    (patch,) = objects_of(WITH_TLS / "scaler.yaml")
    assert send(cluster, patch, content="application/strategic-merge-patch+json") == ""
    template = cluster.client.get(Deployment, "posture-scaler", namespace=posture_farm).spec.template
    container, _ = template.spec.containers
    variables = {entry.name: entry.value for entry in container.env}
    mounts = {mount.name: mount.mountPath for mount in container.volumeMounts}
    assert set(mounts) == {"config", "tmp", "tls"}
    for name in ("TLS_CERT", "TLS_KEY", "CLIENT_CA"):
        assert variables[f"POSTURE_SCALER_{name}"].startswith(f"{mounts['tls']}/")
    assert "POSTURE_PROMETHEUS_TOKEN" in variables, "what was there stays"


def test_kustomize_switches_mutual_tls_on_and_off_again(
    cluster: Cluster, posture_farm: str, request: pytest.FixtureRequest
) -> None:
    """As kubectl apply -k deploy, -k deploy/overlays/tls and again -k deploy, on a farm that is set up."""
    for item in render(DEPLOY):
        if resource := CLUSTERWIDE.get(item["kind"]):  # its namespace does not take it away
            request.addfinalizer(partial(cluster.client.delete, resource, item["metadata"]["name"]))
    mounted = []
    for folder in (DEPLOY, WITH_TLS, DEPLOY):
        answers = {f"{item['kind']} {item['metadata']['name']}": send(cluster, item) for item in render(folder)}
        assert {name: answer for name, answer in answers.items() if answer} == {}
        template = cluster.client.get(Deployment, "posture-scaler", namespace=posture_farm).spec.template
        container, _ = template.spec.containers
        mounted.append({mount.name for mount in container.volumeMounts})
        by_tls = {entry.name for entry in container.env if (entry.value or "").startswith("/tls/")}
        assert len(by_tls) == (3 if folder == WITH_TLS else 0)
    assert mounted == [{"config", "tmp"}, {"config", "tmp", "tls"}, {"config", "tmp"}]


def test_the_balancers_account_may_do_exactly_what_the_balancer_asks_for(farm: Farm, namespace: str) -> None:
    busy, idle = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    kubeconfig = account(farm.cluster, namespace, "posture-scaler")
    balancer = farm.balancer("--policy", "readme", kubeconfig=kubeconfig)
    farm.until_moved("pi1", idle)
    balancer.wait_for("no_job")  # the loop after the move
    assert balancer.stop() == 0, balancer.said()
    assert "lacks" not in balancer.said()
    asked = farm.cluster.asked_by(namespace, "posture-scaler") - {REVIEWS}
    # as well: what is left of a Job without its pods going, where a node has died; why a Job has no pod, where one
    # happens to have none
    assert asked | {("delete", "", "pods"), ("list", "", "events")} == granted("posture-scaler")


def test_the_operators_account_suffices_for_a_farm_that_is_stopped_and_deleted(
    farm: Farm, namespace: str, tmp_path: Path
) -> None:
    (node,) = farm.add_nodes(10)
    farm.add_stream("pi1", node)
    kubeconfig = account(farm.cluster, namespace, "posture-operator")
    settings = tmp_path / "cluster.yaml"
    settings.write_text(yaml.safe_dump({"kubernetes": {"namespace": namespace}}))
    done = subprocess.run(
        [sys.executable, str(ROOT / "stop.py"), "--config", str(settings), "--delete-scaledjobs"],
        env={**os.environ, "KUBECONFIG": str(kubeconfig), "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert farm.jobs("pi1") == []
    assert farm.cluster.asked_by(namespace, "posture-operator") - {REVIEWS} <= granted("posture-operator")
