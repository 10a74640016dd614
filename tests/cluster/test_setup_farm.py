"""setup_farm.py on the real API server, after ``kubectl apply -k deploy/stack``."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from control_plane import Cluster, TriggerAuthentication
from cryptography import x509
from killing_proxy import KillingProxy, resource_of
from kubectl import Kubectl
from life import ROOT, Checkout, Script
from lightkube.resources.core_v1 import Node
from nodes import Kubelets
from servers import Mosquitto, PrometheusServer, free_port
from stack_objects import DEPLOY
from watching import wait_for

from posture.dashboard import passwords

NAMESPACE = "posture-farm"
STREAMS = ("hall-1", "hall-2", "desk-10")
PICTURE = next((ROOT / "samples").glob("*.jpg"), ROOT / "docs" / "picture.jpg")
GPU = {"nvidia.com/gpu.present": "true"}
CONTROL_PLANE = {"node-role.kubernetes.io/control-plane": "true"}
STORAGE = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local-path", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "rancher.io/local-path",
    "volumeBindingMode": "WaitForFirstConsumer",
}
MADE = {
    "Secret posture-farm/posture-setup", "Secret posture-farm/posture-mqtt", "Secret posture-farm/posture-mqtt-tls",
    "Secret posture-farm/posture-farm", "Secret posture-farm/posture-postgres",
    "Secret posture-farm/posture-dashboard", "Secret posture-farm/posture-mqtt-hall-1",
    "Secret posture-farm/posture-mqtt-hall-2", "Secret posture-farm/posture-mqtt-desk-10",
    "Secret posture-farm/posture-mqtt-balancer", "Secret posture-farm/posture-mqtt-dashboard",
    "Secret posture-farm/posture-scaler-server-tls", "Secret posture-farm/posture-scaler-client-tls",
    "ConfigMap posture-farm/posture-ca", "ConfigMap keda/posture-ca",
    "TriggerAuthentication posture-farm/posture-scaler-tls",
}  # fmt: skip


class CuttingProxy(KillingProxy):
    """Kills who sent a change as soon as it was made."""

    kill_after_change: Callable[[], None] | None = None

    def _is_the_end(self, handler: BaseHTTPRequestHandler, body: bytes | None) -> bool:
        kill = self.kill_after_change
        if kill is None or handler.command == "GET" or resource_of(handler.path) == "selfsubjectaccessreviews":
            return False
        self.kill_after_change = None
        kill()
        return True


class Laptop:
    """A checkout from which a farm is set up, and what it has left where."""

    def __init__(self, folder: Path, cluster: Cluster, kubectl: Kubectl) -> None:
        self.cluster, self.kubectl = cluster, kubectl
        self.checkout = Checkout(folder, cluster, NAMESPACE, (), PrometheusServer(folder / "prometheus", []))
        self.folder = folder
        self.config = folder / "cluster.yaml"
        self.set_streams(*STREAMS)

    def set_streams(self, *names: str) -> None:
        """Write them into the file that is delivered, or in place of those before."""
        text = self.config.read_text() if (self.folder / ".env").exists() else (ROOT / "cluster.yaml").read_text()
        head, _, _ = text.partition("\nstreams:\n")
        self.config.write_text(f"{head}\nstreams:\n" + "".join(f"  - {name}\n" for name in names))

    def set(self, section: str, line: str) -> None:
        """Write a setting where the file has its section."""
        self.config.write_text(
            re.sub(rf"^{section}:$", f"{section}:\n  {line}", self.config.read_text(), flags=re.M)
        )

    def run(self, *flags: str, status: int = 0, **environ: str) -> str:
        return self.checkout.run("setup_farm.py", *flags, status=status, **environ)

    def start(self, *flags: str, **environ: str) -> Script:
        return self.checkout.start("setup_farm.py", *flags, **environ)

    def files(self) -> dict[str, bytes]:
        """What is kept here, and cluster.yaml."""
        paths = [self.folder / ".env", *sorted((self.folder / "broker").rglob("*")), self.config]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths if path.is_file()}

    def env(self) -> dict[str, str]:
        lines = (self.folder / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def hidden(self) -> set[str]:
        """All that nobody may print."""
        passwords = {path.read_text() for path in (self.folder / "broker").glob("*/POSTURE_MQTT_PASSWORD")}
        keys = {line for line in (self.folder / "broker/ca/ca.key").read_text().splitlines() if "-" not in line}
        return set(self.env().values()) | passwords | keys

    def objects(self) -> dict[str, Any]:
        """All of the kinds that it makes or changes, by kind, namespace and name."""
        found = {}
        kinds = "secrets,configmaps,statefulsets,triggerauthentications"
        for namespace in (NAMESPACE, "keda"):
            for item in yaml.safe_load(self.kubectl.run("-n", namespace, "get", kinds, "-o", "yaml"))["items"]:
                found[f"{item['kind']} {namespace}/{item['metadata']['name']}"] = item
        return found

    def made(self) -> set[str]:
        return {
            name
            for name, item in self.objects().items()
            if (item["metadata"].get("annotations") or {}).get("posture-farm/made") == "setup"
        }

    def versions(self) -> dict[str, str]:
        """What changes as soon as anything is written."""
        # KEDA adds its finalizer by and by
        self.cluster.until(
            TriggerAuthentication, NAMESPACE, lambda made: all(one.metadata.finalizers for one in made)
        )
        found = {
            name: item["metadata"].get("generation" if item["kind"] == "StatefulSet" else "resourceVersion")
            for name, item in self.objects().items()
        }
        return found | {f"node {name}": str(one) for name, one in self.nodes().items()}

    def nodes(self) -> dict[str, tuple[str, str]]:
        """Node -> the farm's label, and whether it is noted as ours."""
        return {
            str(node.metadata.name): (
                (node.metadata.labels or {}).get("gpu-node", ""),
                (node.metadata.annotations or {}).get("posture-farm/labelled", ""),
            )
            for node in self.cluster.client.list(Node)
        }

    def secret(self, name: str) -> dict[str, str]:
        data = self.objects()[f"Secret {NAMESPACE}/{name}"].get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def clear(self) -> None:
        """Leave the stack as it was applied."""
        for name in self.made():
            kind, _, place = name.partition(" ")
            namespace, _, own = place.partition("/")
            # it may be going already
            self.kubectl.run("-n", namespace, "delete", "--ignore-not-found", kind.lower(), own)


@pytest.fixture(scope="module")
def storage(running_cluster: Cluster, kubectl: Kubectl) -> Iterator[None]:
    running_cluster.create(None, STORAGE)
    yield
    kubectl.run("delete", "storageclass", "local-path")


@pytest.fixture
def laptop(
    tmp_path: Path, running_cluster: Cluster, kubectl: Kubectl, storage: None, nodes: Kubelets
) -> Iterator[Laptop]:
    """On a cluster of a control plane and two boards, one with a GPU."""
    nodes.add("server", labels=CONTROL_PLANE)
    nodes.add("orin", labels=GPU)
    nodes.add("nano-2", labels=GPU)
    made = Laptop(tmp_path / "farm", running_cluster, kubectl)
    yield made
    made.checkout.close()
    made.clear()


def test_without_the_stack_it_says_so(laptop: Laptop) -> None:
    said = laptop.run(status=2)
    assert findings(said) == ["error: namespace posture-farm does not exist: the stack has not been applied"]
    assert "kubectl apply -k deploy/stack" in said


# from here on the stack is there


@pytest.fixture
def applied(stack: str, laptop: Laptop) -> Laptop:
    return laptop


def findings(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("error: ")]


def test_one_command_makes_it_a_farm(applied: Laptop) -> None:
    said = applied.run("--debug")
    assert applied.made() == MADE
    assert applied.nodes() == {"server": ("", ""), "orin": ("orin", "default"), "nano-2": ("nano-2", "default")}
    settings = yaml.safe_load(applied.config.read_text())
    assert settings["GPU_QUERIES"] == {
        name: {"instance": f"{name}:9101", "signal": ["gpu", "cpu"]} for name in ("nano-2", "orin")
    }
    assert settings["prometheus"]["url"] == "kubernetes://monitoring/prometheus:9090"
    assert settings["analyzer"]["pictures_url"] == "s3+http://posture-pictures.posture-farm.svc:8333/posture"
    kept = [applied.folder / ".env", *(one for one in (applied.folder / "broker").rglob("*") if one.is_file())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert [one for one in applied.hidden() if one in said] == []
    env, given = applied.env(), applied.secret("posture-farm")
    assert given["POSTURE_MQTT_URL"] == "mqtts://posture-mqtt.posture-farm.svc:8883"
    assert given["POSTURE_PICTURES_SECRET_KEY"] == env["POSTURE_PICTURES_SECRET_KEY"]
    assert applied.secret("posture-postgres") == {
        name: env[name] for name in ("POSTGRES_PASSWORD", "POSTURE_PASSWORD")
    }
    for stream in STREAMS:
        assert re.search(
            rf"^  sudo sh deploy/camera/install.sh {stream} picamera mqtts://\S+:30883 broker/camera-{stream}$",
            said, re.M,
        )  # fmt: skip
        assert (applied.folder / f"broker/camera-{stream}/ca.crt").exists()


@contextlib.contextmanager
def broker_of(laptop: Laptop, folder: Path) -> Iterator[Mosquitto]:
    """A Mosquitto with the users and the certificate that the cluster's has."""
    folder.mkdir()
    files = {name: folder / name for name in ("passwords", "acl", "tls.crt", "tls.key", "ca.crt")}
    for name, text in {**laptop.secret("posture-mqtt"), **laptop.secret("posture-mqtt-tls")}.items():
        files[name].write_text(text)
    broker = Mosquitto(
        folder / "broker", allow_anonymous="false", password_file=str(files["passwords"]),
        acl_file=str(files["acl"]), certfile=str(files["tls.crt"]), keyfile=str(files["tls.key"]),
        use_username_as_clientid="true",
    )  # fmt: skip
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def film(laptop: Laptop, broker: Mosquitto, folder: Path, status: int = 0, *, named: bool = True) -> str:
    """Publish a picture as the camera does that has this folder; return what it says last."""
    stream = folder.name.removeprefix("camera-")
    names = ("POSTURE_MQTT_USERNAME", "POSTURE_MQTT_PASSWORD") if named else ()
    return laptop.checkout.run(
        "publish_images.py", "--pi-id", stream, "--source", str(PICTURE), "--no-spool", "--fail-fast", "--json",
        "--drain", "20", "--broker", f"mqtts://127.0.0.1:{broker.port}", status=status,
        POSTURE_MQTT_CA_FILE=str(folder / "ca.crt"), **{f"{name}_FILE": str(folder / name) for name in names},
    ).splitlines()[-1]  # fmt: skip


def test_mosquitto_takes_the_users_and_the_certificate_and_a_camera_connects_by_its_line(
    applied: Laptop, tmp_path: Path
) -> None:
    said = applied.run("--broker-name", "127.0.0.1")
    match = re.search(r"install\.sh hall-1 picamera mqtts://127\.0\.0\.1:30883 (broker/camera-hall-1)$", said, re.M)
    assert match is not None
    with broker_of(applied, tmp_path / "mosquitto") as broker:
        folder = applied.folder / match[1]
        assert json.loads(film(applied, broker, folder))["sent"] == 1
        assert "refuses the credentials" in film(applied, broker, folder, 2, named=False)


def documented(laptop: Laptop, whose: str) -> list[list[str]]:
    """The kubectl commands in a row of docs/setup.md, section Changing a password."""
    (row,) = re.findall(rf"^\| {whose} \| (.*) \|$", (ROOT / "docs" / "setup.md").read_text(), re.M)
    return [shlex.split(line)[1:] for line in re.findall(r"`(kubectl [^`]+)`", row)]


def test_a_cameras_password_is_changed_as_documented_and_no_other(
    applied: Laptop, kubectl: Kubectl, tmp_path: Path
) -> None:
    applied.run()
    before = applied.objects()
    shutil.copytree(applied.folder / "broker", tmp_path / "before")
    shutil.rmtree(applied.folder / "broker" / "camera-hall-1")
    (forget,) = documented(applied, "a camera's, or an analyzer's")
    kubectl.run(*forget)
    assert "broker/camera-hall-1" in applied.run()
    after = applied.objects()
    changed = {name for name in before if after[name].get("data") != before[name].get("data")}
    assert changed == {"Secret posture-farm/posture-setup", "Secret posture-farm/posture-mqtt"}
    pods = [one["StatefulSet posture-farm/posture-mqtt"]["spec"]["template"]["metadata"] for one in (before, after)]
    assert pods[0] != pods[1], "the broker reads its users when it starts"
    with broker_of(applied, tmp_path / "mosquitto") as broker:
        assert "refuses the credentials" in film(applied, broker, tmp_path / "before" / "camera-hall-1", 2)
        assert json.loads(film(applied, broker, applied.folder / "broker" / "camera-hall-1"))["sent"] == 1
        assert json.loads(film(applied, broker, tmp_path / "before" / "camera-hall-2"))["sent"] == 1


def test_the_databases_password_is_changed_as_documented(applied: Laptop, kubectl: Kubectl) -> None:
    applied.run()
    before, new = applied.env(), "p@ss/w:rd 100 %"
    env = (applied.folder / ".env").read_text().replace(before["POSTURE_PASSWORD"], new)
    (applied.folder / ".env").write_text(env)
    assert "another value of POSTURE_PASSWORD" in applied.run(status=2), "no slip of the pen shuts the farm out"
    delete, restart = documented(applied, "the database's")
    kubectl.run(*delete)
    applied.run()
    kubectl.run(*restart)
    given = {"POSTGRES_PASSWORD": before["POSTGRES_PASSWORD"], "POSTURE_PASSWORD": new}
    assert applied.secret("posture-postgres") == given
    assert given.items() <= applied.secret("posture-setup").items()
    address = urlsplit(applied.secret("posture-farm")["POSTURE_DATABASE_URL"])
    assert (address.hostname, unquote(address.password or "")) == ("posture-postgres.posture-farm.svc", new)


def test_the_operators_password_is_changed_as_documented(applied: Laptop) -> None:
    hint = "the page: user operator, password POSTURE_OPERATOR_PASSWORD of .env"
    assert hint in applied.run()
    applied.set("dashboard", "users_file: broker/page/users")
    script = applied.checkout.start("dashboard.py", "--add-user", "operator", "--role", "operator")
    script.type("another password")
    assert script.wait() == 0, script.said
    said = applied.run()
    users = applied.secret("posture-dashboard")["users"]
    assert users == (applied.folder / "broker" / "page" / "users").read_text()
    assert passwords.matches(
        passwords.read(applied.folder / "broker" / "page" / "users").users["operator"], "another password"
    )
    assert hint not in said


def test_the_password_of_a_database_that_was_left_out_for_a_while_is_not_lost_with_this_laptop(
    applied: Laptop, kubectl: Kubectl
) -> None:
    applied.run()
    env = applied.folder / ".env"
    password = applied.env()["POSTURE_PASSWORD"]
    kubectl.run("-n", NAMESPACE, "delete", "statefulset", "posture-postgres")
    try:
        env.write_text(env.read_text() + "POSTURE_DATABASE_URL=postgresql://farm@db.example/farm\n")
        applied.run()
    finally:
        kubectl.run("apply", "-k", str(DEPLOY / "stack"))
    env.unlink()
    applied.run("--recover")
    assert applied.env()["POSTURE_PASSWORD"] == password


def test_the_brokers_name_is_known_to_later_runs_until_another_one_is_given(applied: Laptop) -> None:
    for given, known in (
        (["farm.example", "192.0.2.80"], "farm.example"),
        ([], "farm.example"),
        (["other.example"], "other.example"),
    ):
        flags = [word for name in given for word in ("--broker-name", name)]
        said = applied.run(*flags)
        assert f" hall-1 picamera mqtts://{known}:30883 " in said
        assert "nothing to do" in applied.run()
        certificate = x509.load_pem_x509_certificate(applied.secret("posture-mqtt-tls")["tls.crt"].encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert known in names.get_values_for_type(x509.DNSName)


def test_a_second_run_changes_nothing_and_says_so(applied: Laptop) -> None:
    applied.run()
    files, versions = applied.files(), applied.versions()
    assert "nothing to do" in applied.run()
    assert (applied.files(), applied.versions()) == (files, versions)


def test_a_dry_run_touches_nothing_and_says_what_would_be_done(applied: Laptop) -> None:
    files, versions = applied.files(), applied.versions()
    said = applied.run("--dry-run")
    assert (applied.files(), applied.versions()) == (files, versions)
    for told in ("label node orin", "GPU_QUERIES for nano-2, orin", "secret posture-postgres", ".env"):
        assert told in said


def test_a_new_stream_gets_its_user_and_no_other_password_changes(applied: Laptop) -> None:
    applied.run()
    before = applied.objects()
    secrets = applied.hidden()
    applied.set_streams(*STREAMS, "yard-3")
    applied.run()
    after = applied.objects()
    assert after.keys() - before.keys() == {"Secret posture-farm/posture-mqtt-yard-3"}
    changed = {name for name in before if after[name].get("data") != before[name].get("data")}
    assert changed == {"Secret posture-farm/posture-setup", "Secret posture-farm/posture-mqtt"}
    assert secrets < applied.hidden()


def kill(started: Future[Script]) -> None:
    started.result().kill()


def test_killed_after_each_change_the_next_run_goes_on(applied: Laptop, cluster: Cluster, tmp_path: Path) -> None:
    proxy = CuttingProxy(cluster.kubeconfig, tmp_path)
    environ = {"KUBECONFIG": str(proxy.kubeconfig)}
    killed, env = 0, {}
    try:
        while True:
            started: Future[Script] = Future()
            # before it is started: it may be as far as a change before we go on here
            proxy.kill_after_change = partial(kill, started)
            script = applied.start(**environ)
            started.set_result(script)
            script.close_stdin()
            if script.wait() == 0:
                break
            killed += 1
            env = env or applied.env()
            assert applied.env() == env
            assert killed < 40, script.said
    finally:
        proxy.close()
    assert killed >= len(MADE) + 2  # both labels, too
    assert applied.made() == MADE
    assert applied.secret("posture-postgres")["POSTURE_PASSWORD"] == env["POSTURE_PASSWORD"]
    assert "nothing to do" in applied.run()


@pytest.mark.parametrize("lost", [[".env"], ["broker"], [".env", "broker"], ["broker/ca/ca.key"]], ids=" and ".join)
def test_what_was_lost_is_found_before_anything_is_changed_and_comes_back_by_recover(
    applied: Laptop, tmp_path: Path, lost: list[str]
) -> None:
    applied.run()
    files, versions = applied.files(), applied.versions()
    for name in lost:
        (applied.folder / name).rename(tmp_path / f"lost{Path(name).name}")
    left = applied.files()
    said = applied.run(status=2)
    assert len(findings(said)) == len(lost)
    assert all(name in said for name in lost)
    assert "--recover" in said
    assert (applied.files(), applied.versions()) == (left, versions)
    applied.run("--recover")
    recovered = applied.files()
    assert recovered.keys() == files.keys()
    # the broker's file of passwords has another salt
    assert {name for name in files if recovered[name] != files[name]} <= {"broker/mosquitto/passwords"}
    assert "nothing to do" in applied.run()


def test_undo_takes_away_what_it_has_made_and_nothing_else(applied: Laptop, kubectl: Kubectl) -> None:
    kubectl.run("label", "node", "orin", "gpu-node=big")
    kubectl.run("-n", NAMESPACE, "create", "secret", "generic", "of-somebody", "--from-literal=a=b")
    try:
        objects, config = applied.objects(), applied.config.read_text()
        nodes = applied.nodes()
        applied.run()
        kept = {name: text for name, text in applied.files().items() if name != "cluster.yaml"}
        applied.run("--undo", "--yes")
        # KEDA's finalizer keeps the TriggerAuthentication for a moment
        wait_for(lambda: applied.objects().keys() == objects.keys())
        assert applied.nodes() == nodes
        assert applied.config.read_text() == config
        assert kept.items() <= applied.files().items()
        assert "nothing to do" in applied.run("--undo", "--yes")
    finally:
        kubectl.run("-n", NAMESPACE, "delete", "secret", "of-somebody")


def test_undo_does_not_take_the_only_copy_of_what_was_lost_here(applied: Laptop, tmp_path: Path) -> None:
    applied.run()
    versions = applied.versions()
    (applied.folder / ".env").rename(tmp_path / "lost")
    assert "--recover" in applied.run("--undo", "--yes", status=2)
    assert applied.versions() == versions
    applied.run("--recover")
    applied.run("--undo", "--yes")


def test_a_line_that_somebody_has_changed_since_is_theirs(applied: Laptop) -> None:
    applied.run()
    text = applied.config.read_text()
    applied.config.write_text(text.replace('orin: {instance: "orin:9101"', 'orin: {instance: "192.0.2.7:9101"'))
    said = applied.run("--undo", "--yes")
    assert "192.0.2.7:9101" in said
    assert list(yaml.safe_load(applied.config.read_text())["GPU_QUERIES"]) == ["orin"]


def test_undo_asks_first_and_without_a_terminal_takes_nothing_away(applied: Laptop) -> None:
    applied.run()
    versions = applied.versions()
    assert "--undo --yes" in applied.run("--undo", status=2)
    assert applied.versions() == versions


@contextlib.contextmanager
def foreign_namespace(kubectl: Kubectl) -> Iterator[None]:
    kubectl.run("label", "namespace", NAMESPACE, "app.kubernetes.io/part-of-")
    yield
    kubectl.run("label", "namespace", NAMESPACE, "app.kubernetes.io/part-of=posture-farm")


@contextlib.contextmanager
def no_default_storage(kubectl: Kubectl) -> Iterator[None]:
    annotation = "storageclass.kubernetes.io/is-default-class"
    kubectl.run("annotate", "storageclass", "local-path", f"{annotation}=false", "--overwrite")
    yield
    kubectl.run("annotate", "storageclass", "local-path", f"{annotation}=true", "--overwrite")


@contextlib.contextmanager
def other_keda(kubectl: Kubectl) -> Iterator[None]:
    kubectl.run("create", "namespace", "autoscaling")
    kubectl.run("-n", "autoscaling", "create", "deployment", "keda-operator", "--image=keda", "--replicas=0")
    yield
    kubectl.run("delete", "namespace", "autoscaling")


@contextlib.contextmanager
def taken_port(kubectl: Kubectl) -> Iterator[None]:
    kubectl.run("-n", NAMESPACE, "delete", "service", "posture-mqtt")
    kubectl.run("-n", "default", "create", "service", "nodeport", "doors", "--tcp=80", "--node-port=30883")
    yield
    kubectl.run("-n", "default", "delete", "service", "doors")
    kubectl.run("apply", "-k", str(DEPLOY / "stack"))


@contextlib.contextmanager
def cordoned(kubectl: Kubectl) -> Iterator[None]:
    for node in ("orin", "nano-2"):
        kubectl.run("cordon", node)
    yield


@contextlib.contextmanager
def not_enough_nodes(kubectl: Kubectl) -> Iterator[None]:
    kubectl.run("label", "node", "server", "orin", "nano-2", "kubernetes.io/arch=arm")
    yield


@contextlib.contextmanager
def mixed(kubectl: Kubectl) -> Iterator[None]:
    kubectl.run("label", "node", "orin", "kubernetes.io/arch=arm64")
    yield


def test_the_namespace_of_others_is_left_alone(applied: Laptop) -> None:
    applied.set("kubernetes", "namespace: default")
    versions = applied.versions()
    (finding,) = findings(applied.run(status=2))
    assert "namespace default is there, and is none of Posture Farm's" in finding
    assert applied.versions() == versions


@pytest.mark.parametrize(
    ("obstacle", "message", "mend"),
    [
        (foreign_namespace, "posture-farm is there, and is none of Posture Farm's", "kubectl label namespace"),
        (no_default_storage, "no default StorageClass", "kubectl patch storageclass"),
        (other_keda, "KEDA runs in autoscaling already, beside the stack's", "deploy/overlays/own-keda"),
        (taken_port, "port 30883 of the nodes, for the cameras, is service doors's in default", "another nodePort"),
        (cordoned, "none of the farm's nodes is Ready and schedulable (nano-2, orin)", "kubectl uncordon"),
        (not_enough_nodes, "the cluster has no node that analyzers can run on", "kubectl get nodes"),
        (mixed, "node orin is linux/arm64, and images are", "under images: platforms: linux/amd64,linux/arm64"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_is_one_finding_and_nothing_is_changed(
    applied: Laptop, kubectl: Kubectl, obstacle: Callable[..., Any], message: str, mend: str
) -> None:
    applied.set("images", "platforms: linux/amd64")
    with obstacle(kubectl):
        files, versions = applied.files(), applied.versions()
        said = applied.run(status=2)
        assert (applied.files(), applied.versions()) == (files, versions)
    (finding,) = findings(said)
    assert message in finding
    assert mend in said


def test_a_prometheus_of_ones_own_is_told_of(applied: Laptop, kubectl: Kubectl) -> None:
    kubectl.run("-n", "default", "create", "service", "clusterip", "prometheus-server", "--tcp=9090")
    try:
        said = applied.run("--dry-run")
    finally:
        kubectl.run("-n", "default", "delete", "service", "prometheus-server")
    assert "warning: the cluster has a Prometheus of its own (prometheus-server in default)" in said
    assert "own-prometheus" in said


def test_without_rights_it_says_which_and_changes_nothing(applied: Laptop, cluster: Cluster) -> None:
    with cluster.fresh_namespace() as other:
        rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]
        reader = cluster.role(other, "reader", cluster_rules=rules)
        versions = applied.versions()
        said = applied.run(status=2, KUBECONFIG=str(reader))
    assert "error: the role lacks verb 'patch' on resource 'nodes'" in said
    assert "an administrator's kubeconfig" in said
    assert applied.versions() == versions
    assert not (applied.folder / ".env").exists()


def test_without_an_api_server_it_says_so(applied: Laptop, cluster: Cluster, tmp_path: Path) -> None:
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    said = applied.run(status=2, KUBECONFIG=str(tmp_path / "kubeconfig"))
    (finding,) = findings(said)
    assert "the cluster can't be looked at" in finding
    assert not (applied.folder / ".env").exists()


def test_an_object_of_that_name_that_is_nobodys_is_left_alone(applied: Laptop, kubectl: Kubectl) -> None:
    kubectl.run("-n", NAMESPACE, "create", "secret", "generic", "posture-postgres", "--from-literal=a=b")
    try:
        files, versions = applied.files(), applied.versions()
        said = applied.run(status=2)
        assert (applied.files(), applied.versions()) == (files, versions)
    finally:
        kubectl.run("-n", NAMESPACE, "delete", "secret", "posture-postgres")
    (finding,) = findings(said)
    assert "secret posture-postgres" in finding
