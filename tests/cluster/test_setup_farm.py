"""setup_farm.py on the real API server, with deploy/stack applied: what it makes, keeps, refuses and takes back."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import node_services
import pytest
import yaml
from control_plane import Cluster
from life import Script
from lightkube.resources.core_v1 import Namespace
from nodes import Kubelets

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "posture-farm"
CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "local-path",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "rancher.io/local-path",
}
KINDS = "secrets,configmaps,statefulsets,triggerauthentications.keda.sh"


class Laptop:
    """A checkout of an operator, and the administrator's kubeconfig."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.folder = folder
        for name in ("setup_farm.py", "posture", "deploy"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        self.settings: dict[str, Any] = {
            "streams": ["hall-1", "hall-2"],
            "images": {"registry": "registry.example"},
        }
        self.write()
        self._kubectl = [str(node_services.folder() / "kubectl"), f"--kubeconfig={cluster.kubeconfig}"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")}
        self.environ = {**kept, "KUBECONFIG": str(cluster.kubeconfig), "PYTHONUNBUFFERED": "1"}

    def write(self) -> None:
        (self.folder / "cluster.yaml").write_text(yaml.safe_dump(self.settings))

    def kubectl(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._kubectl, *arguments], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *flags: str) -> Script:
        return Script([sys.executable, "setup_farm.py", *flags], self.environ, self.folder)

    def run(self, *flags: str, status: int = 0) -> str:
        """Run it to its end; return what it says."""
        script = self.start(*flags)
        script.close_stdin()
        assert script.wait() == status, script.said
        return script.said

    def secret(self, name: str) -> dict[str, str]:
        data = json.loads(self.kubectl("-n", NAMESPACE, "get", "secret", name, "-o", "json"))["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def environment(self) -> dict[str, str]:
        lines = (self.folder / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    def state(self) -> dict[str, str]:
        """Everything that it may change: objects with their versions, nodes' labels, files."""
        found = {}
        for where in (NAMESPACE, "keda"):
            items = json.loads(self.kubectl("-n", where, "get", KINDS, "-o", "json"))["items"]
            for item in items:
                name = f"{where} {item['kind']} {item['metadata']['name']}"
                found[name] = item["metadata"]["resourceVersion"]
        for node in json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]:
            found[f"Node {node['metadata']['name']}"] = json.dumps(node["metadata"]["labels"], sort_keys=True)
        files = [self.folder / ".env", self.folder / "cluster.yaml", *(self.folder / "broker").rglob("*")]
        return found | {str(path): path.read_text() for path in files if path.is_file()}


@pytest.fixture(scope="module")
def stack(running_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """deploy/stack without its KEDA, which runs here already, and a default storage class."""
    running_cluster.start()
    running_cluster.create(None, CLASS)
    kubectl = Laptop(running_cluster, tmp_path_factory.mktemp("stack")).kubectl
    overlay = str(ROOT / "deploy" / "overlays" / "own-keda")
    kubectl("apply", "-k", overlay)
    yield
    kubectl("delete", "--wait=false", "-k", overlay)
    kubectl("delete", "storageclass", "local-path")
    gone = {NAMESPACE, "monitoring"}
    running_cluster.until(Namespace, None, lambda left: not gone & {one.metadata.name for one in left})


@pytest.fixture
def laptop(stack: None, cluster: Cluster, nodes: Kubelets, tmp_path: Path) -> Iterator[Laptop]:
    """Two nodes without labels, one of them with a GPU; afterwards nothing of the test is left."""
    nodes.add("agx", labels={"kubernetes.io/arch": "arm64", "nvidia.com/gpu.present": "true"})
    nodes.add("nano", labels={"kubernetes.io/arch": "arm64", "nvidia.com/gpu.present": "true"})
    nodes.add("desk", labels={"kubernetes.io/arch": "amd64"})
    made = Laptop(cluster, tmp_path)
    yield made
    made.settings["streams"] = ["hall-1", "hall-2"]
    made.run("--undo", "--yes")


def test_nodes_settings_and_everything_that_the_pods_wait_for_are_made(laptop: Laptop) -> None:
    said = laptop.run()
    settings = yaml.safe_load((laptop.folder / "cluster.yaml").read_text())
    assert settings["GPU_QUERIES"] == {
        name: {"instance": f"{name}:9101", "signal": ["gpu", "cpu"]} for name in ("agx", "nano")
    }
    assert settings["prometheus"]["url"] == "kubernetes://monitoring/prometheus:9090"
    assert settings["analyzer"]["pictures_url"] == "s3+http://posture-pictures.posture-farm.svc:8333/posture"
    labels = json.loads(laptop.kubectl("get", "nodes", "-o", "json"))["items"]
    given = {node["metadata"]["name"]: node["metadata"]["labels"].get("gpu-node") for node in labels}
    assert given == {"agx": "agx", "nano": "nano", "desk": None}
    kept, of_pods = laptop.environment(), laptop.secret("posture-farm")
    assert of_pods["POSTURE_MQTT_URL"] == "mqtts://posture-mqtt.posture-farm.svc:8883"
    assert kept["POSTURE_PASSWORD"] in of_pods["POSTURE_DATABASE_URL"]
    assert laptop.secret("posture-postgres") == {
        name: kept[name] for name in ("POSTGRES_PASSWORD", "POSTURE_PASSWORD")
    }
    assert laptop.secret("posture-mqtt-hall-1")["POSTURE_MQTT_USERNAME"] == "analyzer.hall-1"
    waited = {"posture-mqtt", "posture-mqtt-tls", "posture-scaler-server-tls", "posture-scaler-client-tls",
              "posture-dashboard", "posture-mqtt-dashboard", "posture-mqtt-balancer"}  # fmt: skip
    listed = json.loads(laptop.kubectl("-n", NAMESPACE, "get", "secrets", "-o", "json"))["items"]
    assert waited <= {item["metadata"]["name"] for item in listed}
    laptop.kubectl("-n", NAMESPACE, "get", "triggerauthentication", "posture-scaler-tls")
    cameras = [line.strip() for line in said.splitlines() if "install.sh" in line]
    assert len(cameras) == 2
    assert "install.sh hall-1 picamera mqtts://" in cameras[0]
    assert cameras[0].endswith(":30883 broker/camera-hall-1")


def test_secrets_are_for_their_owner_alone_and_are_never_printed(laptop: Laptop) -> None:
    said = laptop.run("--debug") + laptop.run("--debug")
    files = [
        laptop.folder / ".env",
        *(laptop.folder / "broker").rglob("*PASSWORD"),
        laptop.folder / "broker/ca/ca.key",
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    secrets = [*laptop.environment().values(), *(path.read_text().strip() for path in files[1:])]
    assert not [secret for secret in secrets if secret in said]


def test_a_second_run_changes_nothing_and_says_so(laptop: Laptop) -> None:
    laptop.run()
    before = laptop.state()
    assert "nothing to do" in laptop.run()
    assert laptop.state() == before


def test_a_dry_run_touches_nothing_and_says_what_it_would_do(laptop: Laptop) -> None:
    before = laptop.state()
    said = laptop.run("--dry-run")
    assert "label node agx" in said
    assert "GPU_QUERIES for agx and nano" in said or "GPU_QUERIES for agx, nano" in said
    assert laptop.state() == before


def test_a_new_camera_gets_its_user_and_nobody_elses_changes(laptop: Laptop) -> None:
    laptop.run()
    before = laptop.state()
    laptop.settings = yaml.safe_load((laptop.folder / "cluster.yaml").read_text())
    laptop.settings["streams"].append("hall-3")
    laptop.write()
    said = laptop.run()
    assert "install.sh hall-3" in said
    after = laptop.state()
    changed = {name for name in before if after.get(name) != before[name]}
    broker = laptop.folder / "broker" / "mosquitto"
    assert changed <= {
        f"{NAMESPACE} Secret posture-setup", f"{NAMESPACE} Secret posture-mqtt",
        f"{NAMESPACE} StatefulSet posture-mqtt",
        str(broker / "passwords"), str(broker / "acl"), str(laptop.folder / "cluster.yaml"),
    }  # fmt: skip
    assert laptop.secret("posture-mqtt-hall-3")["POSTURE_MQTT_USERNAME"] == "analyzer.hall-3"


def test_killed_after_each_step_the_next_run_goes_on_and_no_password_changes(laptop: Laptop) -> None:
    kills, password = 0, ""
    while True:
        script = laptop.start()
        script.close_stdin()
        try:
            script.until_it_says("[2/", 60)
        except AssertionError:
            assert script.wait() == 0, script.said
            break
        script.kill()
        kills += 1
        known = laptop.environment().get("POSTGRES_PASSWORD", "")
        assert password in ("", known)
        password = known
    assert kills >= 10
    assert laptop.secret("posture-postgres")["POSTGRES_PASSWORD"] == password
    assert "nothing to do" in laptop.run()


@pytest.mark.parametrize("lost", [".env", "broker", "broker/ca/ca.key"])
def test_what_was_lost_here_is_found_before_anything_changes_and_comes_back_from_the_cluster(
    laptop: Laptop, lost: str
) -> None:
    laptop.run()
    before = laptop.state()
    path = laptop.folder / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    after_loss = laptop.state()
    said = laptop.run(status=2)
    assert lost.partition("/")[0] in said
    assert "--recover" in said
    assert laptop.state() == after_loss
    laptop.run("--recover")
    passwords = {name: text for name, text in before.items() if name.endswith(("PASSWORD", ".env", "ca.key"))}
    found = laptop.state()
    assert {name: found[name] for name in passwords} == passwords


def test_undo_takes_away_what_it_made_and_nothing_else(laptop: Laptop) -> None:
    before = laptop.state()
    laptop.kubectl("label", "node", "desk", "gpu-node=desk")
    theirs = laptop.state()
    laptop.run()
    said = laptop.run("--undo", "--yes")
    assert "what stays" in said
    after = laptop.state()
    ignored = {f"{NAMESPACE} StatefulSet posture-mqtt", str(laptop.folder / "cluster.yaml")}
    kept = {name: value for name, value in after.items() if "/" not in name}
    assert {name: value for name, value in kept.items() if name not in ignored} == {
        name: value for name, value in theirs.items() if "/" not in name and name not in ignored
    }
    assert before.keys() <= after.keys()
    settings = yaml.safe_load((laptop.folder / "cluster.yaml").read_text())
    assert not settings.get("GPU_QUERIES")
    assert settings["streams"] == ["hall-1", "hall-2"]


def node_port(laptop: Laptop) -> None:
    laptop.kubectl("-n", NAMESPACE, "delete", "service", "posture-mqtt")
    laptop.kubectl("-n", "default", "create", "service", "nodeport", "squatter", "--tcp=80", "--node-port=30883")


def node_port_back(laptop: Laptop) -> None:
    laptop.kubectl("-n", "default", "delete", "service", "squatter")
    laptop.kubectl("apply", "-k", str(ROOT / "deploy" / "overlays" / "own-keda"))


def without_default_storage(laptop: Laptop) -> None:
    laptop.kubectl("annotate", "storageclass", "local-path", "storageclass.kubernetes.io/is-default-class-")


def with_default_storage(laptop: Laptop) -> None:
    laptop.kubectl("annotate", "storageclass", "local-path", "storageclass.kubernetes.io/is-default-class=true")


def without_nodes(laptop: Laptop) -> None:
    laptop.kubectl("cordon", "agx", "nano")


def another_namespace(laptop: Laptop) -> None:
    laptop.settings["kubernetes"] = {"namespace": "default"}
    laptop.write()


def own_namespace(laptop: Laptop) -> None:
    del laptop.settings["kubernetes"]
    laptop.write()


def no_streams(laptop: Laptop) -> None:
    laptop.settings["streams"] = []
    laptop.write()


def nothing(laptop: Laptop) -> None:
    del laptop


@pytest.mark.parametrize(
    ("spoil", "mend", "words"),
    [
        pytest.param(node_port, node_port_back, ["30883", "squatter"], id="a taken NodePort"),
        pytest.param(without_default_storage, with_default_storage, ["StorageClass"], id="no default storage"),
        pytest.param(without_nodes, nothing, ["Ready", "uncordon"], id="no node that takes pods"),
        pytest.param(
            another_namespace, own_namespace, ["namespace default", "kubectl label"], id="foreign namespace"
        ),
        pytest.param(no_streams, nothing, ["no stream", "streams"], id="no stream"),
    ],
)
def test_what_stands_in_the_way_is_said_before_anything_is_changed(laptop: Laptop, spoil, mend, words) -> None:
    spoil(laptop)
    try:
        before = laptop.state()
        said = laptop.run(status=2)
        assert all(word in said for word in words), said
        assert "Traceback" not in said
        assert laptop.state() == before
    finally:
        mend(laptop)


def test_a_cluster_without_the_stack_is_told_to_get_it(laptop: Laptop) -> None:
    laptop.settings["kubernetes"] = {"namespace": "elsewhere"}
    laptop.write()
    said = laptop.run(status=2)
    del laptop.settings["kubernetes"]
    laptop.write()
    assert "kubectl apply -k deploy/stack" in said


def test_who_may_not_do_all_of_it_does_nothing(laptop: Laptop, cluster: Cluster) -> None:
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]
    before = laptop.state()
    administrator = laptop.environ["KUBECONFIG"]
    laptop.environ["KUBECONFIG"] = str(cluster.role("default", "looks-only", rules, rules))
    said = laptop.run(status=2)
    laptop.environ["KUBECONFIG"] = administrator
    assert "administrator's kubeconfig" in said
    assert laptop.state() == before
