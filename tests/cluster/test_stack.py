"""deploy/stack on the real API server, by kubectl: all in one go, and without a warning."""

from __future__ import annotations

import copy
from pathlib import Path

import node_services
import pytest
import requests
import yaml
from control_plane import Cluster
from kubectl import Kubectl
from kustomize_tool import render
from lightkube.resources.apps_v1 import DaemonSet, Deployment, StatefulSet
from lightkube.resources.core_v1 import Pod
from servers import Server, free_port
from stack_objects import DEPLOY, objects, rendered, with_kedas_manifests
from watching import wait_for

OVER_IT = ["overlays/kube-prometheus-stack", "overlays/host-path", "stack/registry", "stack/restore"]
"""What has more than the stack; the overlays own-... have less."""


class Prometheus(Server):
    """The stack's, with its configuration in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.port, self.log = free_port(), folder / "prometheus.log"
        self.command = [
            str(node_services.folder() / "prometheus"), f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}",
        ]  # fmt: skip

    def targets(self) -> set[tuple[str, str]]:
        """Job and instance of all that it would scrape."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"http://127.0.0.1:{self.port}/api/v1/targets", timeout=60)
        # 503 until it is ready
        found = [target["labels"] for target in answer.json()["data"]["activeTargets"]] if answer.ok else []
        return {(labels["job"], labels["instance"]) for labels in found}


def test_a_bare_cluster_takes_all_of_it_in_one_go(stack: str) -> None:
    assert len(stack.splitlines()) == len(rendered("stack"))


def test_applied_again_no_pod_is_replaced(running_cluster: Cluster, kubectl: Kubectl, stack: str) -> None:
    def generations() -> dict[str, int]:
        return {
            f"{kind.__name__} {one.metadata.name}": one.metadata.generation
            for kind in (Deployment, StatefulSet, DaemonSet)
            for one in running_cluster.client.list(kind, namespace="*")
        }

    before = generations()
    assert len(before) == 7
    kubectl.run("apply", "-k", str(DEPLOY / "stack"))
    assert generations() == before


@pytest.mark.parametrize("name", OVER_IT)
def test_an_overlay_is_taken_without_a_warning(kubectl: Kubectl, stack: str, name: str) -> None:
    said = kubectl.run("apply", "--dry-run=server", "-k", str(DEPLOY / name))
    assert len(said.splitlines()) == len(rendered(name))


def test_elsewhere_than_on_k3s_keda_comes_by_its_own_manifests(
    kubectl: Kubectl, stack: str, tmp_path: Path
) -> None:
    folder = with_kedas_manifests(tmp_path / "deploy") / "overlays" / "any-kubernetes"
    made = render(folder)
    assert "HelmChart" not in {item["kind"] for item in made}
    (operator,) = (
        item for item in made if (item["kind"], item["metadata"]["name"]) == ("Deployment", "keda-operator")
    )
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    assert "--kube-api-qps=100" in container["args"]
    said = kubectl.run("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", str(folder))
    assert len(said.splitlines()) == len(made)


def test_a_pod_that_wants_more_than_the_strictest_level_is_warned_of(
    kubectl: Kubectl, stack: str, tmp_path: Path
) -> None:
    """So that no warning, above, says that every pod of the stack is content with it."""
    (cron_job,) = (item for item in rendered("stack") if item["kind"] == "CronJob")
    broken = copy.deepcopy(cron_job)
    del broken["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(broken))
    with pytest.raises(AssertionError, match="would violate PodSecurity"):
        kubectl.run("apply", "--dry-run=server", "-f", str(tmp_path / "broken.yaml"))


def test_prometheus_finds_the_exporters_with_the_rights_that_it_has_and_no_others(
    running_cluster: Cluster, stack: str, tmp_path: Path
) -> None:
    """The real one, with the stack's configuration and its account's token; of the pods' addresses none answers."""
    (config_map,) = (one for one in objects("stack", "ConfigMap") if one["metadata"]["namespace"] == "monitoring")
    for name, text in config_map["data"].items():
        (tmp_path / name).write_text(text)
    config = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    kubeconfig = running_cluster.kubeconfig_of("monitoring", "prometheus")
    for job in config["scrape_configs"]:
        for discovery in job.get("kubernetes_sd_configs", []):
            discovery["kubeconfig_file"] = str(kubeconfig)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    (daemon_set,) = objects("stack", "DaemonSet")
    template = daemon_set["spec"]["template"]
    metadata = {**template["metadata"], "name": "exporter-of-orin"}
    spec = {**template["spec"], "nodeName": "orin"}
    running_cluster.create("posture-farm", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    runs = {"status": {"phase": "Running", "podIP": "127.0.0.1"}}
    running_cluster.client.patch(Pod.Status, "exporter-of-orin", runs, namespace="posture-farm")
    server = Prometheus(tmp_path)
    server.start()
    try:
        wait_for(lambda: ("posture-exporter", "orin:9101") in server.targets())
    finally:
        server.stop()
        running_cluster.client.delete(Pod, "exporter-of-orin", namespace="posture-farm", grace_period=0)
    granted = {
        (verb, group, resource)
        for item in objects("stack", "ClusterRole")
        if item["metadata"]["name"] == "posture-prometheus"
        for rule in item["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    # a watch is in the audit log when it has ended
    wait_for(lambda: ("watch", "", "pods") in running_cluster.asked_by("monitoring", "prometheus"))
    # a list, where a server can't begin a watch with what there is
    assert running_cluster.asked_by("monitoring", "prometheus") | {("list", "", "pods")} == granted
