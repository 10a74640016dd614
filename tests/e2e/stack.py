"""deploy/stack on the real nodes, as an operator applies it: public images stood in for by local ones.

A checkout of its own is the operator's laptop: it reaches the API server, the registry, and the nodes' ports.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import node_services
import requests
import yaml
from docker_engine import STAND_INS
from life import Script
from lightkube.resources.core_v1 import PersistentVolume, Pod
from s3_server import VERSITYGW
from seaweedfs import SEAWEEDFS
from servers import free_port
from watching import wait_for

from posture.system.children import bound_to_us

if TYPE_CHECKING:
    from real_farm import RealFarm

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NAMESPACE = "posture-farm"
STORAGE_CLASS = "local-path"
VOLUMES_A_NODE = 3
STREAMS = ("hall-1", "hall-2", "desk-10")
"""Of the list in cluster.yaml; none has files of its own."""
KUBECTL_S = 300.0
SETTINGS = {
    "streams": list(STREAMS),
    "analyzer": {"keep": "all"},  # each row has a picture
    "kubernetes": {"start_timeout_s": 600, "stop_timeout_s": 120},
    "balancer": {"lease_s": 10},
}
"""What an operator writes into cluster.yaml; the rest is setup_farm.py's."""


@dataclass(frozen=True)
class CameraLine:
    """What a camera's line says: where its broker is, and the folder with what it needs there."""

    stream: str
    broker: str
    folder: Path

    def read(self, name: str) -> str:
        return (self.folder / name).read_text().strip()

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.crt"


class Stack:
    """deploy/stack, and a laptop from which an operator works."""

    def __init__(self, farm: RealFarm) -> None:
        self.farm = farm
        self.folder = farm.folder / "stack"
        self.checkout = self.folder / "checkout"
        self._programs = node_services.folder()
        self._script: Script | None = None
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        ).stdout.decode()
        for name in listed.split("\0"):
            if name and not name.startswith(("tests/", "docs/", "bench/")):
                (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.checkout / name)
        settings = {**SETTINGS, "images": {"registry": farm.registry.host, "platforms": "linux/amd64"}}
        (self.checkout / "cluster.yaml").write_text(yaml.safe_dump(settings))
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")},
            **farm.docker.environ,
            "KUBECONFIG": str(farm.cluster.kubeconfig),
            "PYTHONUNBUFFERED": "1",
        }

    # what an operator types

    def kubectl(self, *arguments: str, timeout_s: float = KUBECTL_S) -> str:
        """Run kubectl as the administrator, and return what it prints."""
        done = subprocess.run(
            [str(self._programs / "kubectl"), *arguments],
            env=self._environ, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert "Warning" not in done.stderr, done.stderr
        return done.stdout

    def apply(self, folder: str) -> str:
        """``kubectl apply -k`` a folder of the checkout, with the public images' names changed and nothing else."""
        return self.kubectl("apply", "-k", str(self._with_our_images(folder)))

    def delete(self, folder: str) -> str:
        """``kubectl delete -k`` it."""
        return self.kubectl("delete", "-k", str(self._with_our_images(folder)))

    def _with_our_images(self, folder: str) -> Path:
        overlay = self.checkout / "deploy" / "e2e" / folder.replace("/", "-")
        overlay.mkdir(parents=True, exist_ok=True)
        images = [{"name": name, "newName": ours, "newTag": "e2e"} for name, ours in self._stand_ins().items()]
        text = yaml.safe_dump({"resources": [os.path.relpath(self.checkout / folder, overlay)], "images": images})
        (overlay / "kustomization.yaml").write_text(text)
        return overlay

    def run(self, script: str, *flags: str, timeout_s: float = 300.0) -> str:
        """Run a script of the checkout to its end, and return what it says."""
        command = [sys.executable, script, *flags]
        running = Script(command, self._environ, self.checkout)
        running.close_stdin()
        assert running.wait(timeout_s) == 0, running.said
        return running.said

    def bring_up(self, timeout_s: float) -> None:
        """``build_and_push.py --in-cluster``, which stays."""
        self._script = Script([sys.executable, "build_and_push.py", "--in-cluster"], self._environ, self.checkout)
        self._script.until_it_says("press ENTER", timeout_s)

    def press_enter(self) -> None:
        assert self._script is not None
        self._script.press_enter()
        assert self._script.wait(300) == 0, self._script.said

    def close(self) -> None:
        if self._script is not None and self._script.running:
            self._script.kill()

    # what is seen

    def sql(self, command: str) -> str:
        """Let the farm's role do something in the database in the cluster; return what it says."""
        return self.kubectl(
            "-n", NAMESPACE, "exec", "posture-postgres-0", "-c", "postgres", "--",
            "sh", "-c", 'PGPASSWORD=$POSTURE_PASSWORD psql -h 127.0.0.1 -U posture posture -c "$1"', "sh", command,
        )  # fmt: skip

    def rows(self) -> list[dict[str, str]]:
        """Every row of the database."""
        said = self.sql("COPY (SELECT * FROM posture_log ORDER BY pi_id, analyzed_time) TO STDOUT WITH CSV HEADER")
        return list(csv.DictReader(said.splitlines()))

    def frames(self) -> dict[str, int]:
        """Stream -> of how many frames there is a row."""
        found = {(row["pi_id"], row["frame_id"]) for row in self.rows()}
        return {stream: sum(one[0] == stream for one in found) for stream in STREAMS}

    def secrets(self) -> dict[str, str]:
        """What ``.env`` has."""
        lines = (self.checkout / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    @contextlib.contextmanager
    def page(self, user: str, password: str) -> Iterator[Page]:
        """The dashboard as docs/dashboard.md opens it: by kubectl port-forward, logged in."""
        port = free_port()
        log = self.folder / "port-forward.log"
        with log.open("wb") as output:
            forwarding = subprocess.Popen(
                bound_to_us([
                    str(self._programs / "kubectl"), "-n", NAMESPACE, "port-forward", "service/posture-dashboard",
                    f"{port}:8470",
                ]),
                env=self._environ, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            wait_for(lambda: "Forwarding from" in log.read_text(), 60, look_s=0.1)
            yield Page(port, user, password)
        finally:
            forwarding.terminate()
            forwarding.wait()

    def until_ready(self, namespace: str, name: str, timeout_s: float = 300.0) -> None:
        """Wait until the pods of that name are Ready, one at least."""

        def ready() -> bool:
            pods = self.farm.cluster.client.list(Pod, namespace=namespace, labels={"app.kubernetes.io/name": name})
            return bool(found := list(pods)) and all(map(is_ready, found))

        try:
            wait_for(ready, timeout_s, look_s=0.5)
        except AssertionError:
            told = self.kubectl("-n", namespace, "describe", "pods", "-l", f"app.kubernetes.io/name={name}")
            raise AssertionError(f"{name} is not Ready within {timeout_s:g} s:\n{told[-4000:]}") from None

    def camera_lines(self, said: str) -> dict[str, CameraLine]:
        """The lines that setup_farm.py prints for the cameras, by stream."""
        found = {}
        for line in said.splitlines():
            if match := re.search(r"deploy/camera/install\.sh (\S+) \S+ (\S+) (\S+)", line):
                stream, broker, folder = match.groups()
                found[stream] = CameraLine(stream, broker, self.checkout / folder)
        return found

    # how it is made

    def give_storage(self) -> None:
        """Make the default storage class, and volumes on the nodes' disks, as K3s' local-path does when asked."""
        storage_class = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": STORAGE_CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
        self.farm.cluster.create(None, storage_class)
        for name, node in self.farm.nodes.items():
            for number in range(VOLUMES_A_NODE):
                path = f"volumes/{number}"
                (node.disk / path).mkdir(parents=True)
                self.farm.cluster.create(None, volume(f"{name}-{number}", name, f"/var/lib/{path}"))

    def _stand_ins(self) -> Mapping[str, str]:
        """Have what stands in for the public images in the registry; return the name of each."""
        pushed = {}
        for name, context in self._contexts().items():
            ours = f"{self.farm.registry.host}/{name.rpartition('/')[2]}"
            self.farm.docker.run("build", "--tag", f"{ours}:e2e", str(context), timeout_s=900)
            self.farm.docker.run("push", f"{ours}:e2e", timeout_s=600)
            pushed[name] = ours
        return pushed

    def _contexts(self) -> dict[str, Path]:
        """What each is built from. SeaweedFS where somebody has built it, else another S3 server under its name."""
        if SEAWEEDFS.missing():
            pictures = [HERE.parent / "support" / "images" / "pictures" / "weed", VERSITYGW.ensure() / "versitygw"]
        else:
            pictures = [SEAWEEDFS.folder() / "weed"]
        return {
            "eclipse-mosquitto": STAND_INS["eclipse-mosquitto:2"],
            "postgres": STAND_INS["postgres:17"],
            "prom/prometheus": self._context("prometheus", self._programs / "prometheus"),
            "chrislusf/seaweedfs": self._context("seaweedfs", *pictures),
        }

    def _context(self, name: str, *programs: Path) -> Path:
        """A folder for docker: Debian with these programs."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for program in programs:
            shutil.copy(program, folder)
        (folder / "Dockerfile").write_text(
            f"FROM debian:bookworm-slim\nCOPY --chmod=755 {' '.join(one.name for one in programs)} /bin/\n"
        )
        return folder


class Page:
    """The dashboard for somebody who has logged in.

    Args:
        port: on loopback.
        user: who.
        password: theirs.
    """

    def __init__(self, port: int, user: str, password: str) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._session = requests.Session()
        token = re.search(r'name="token" value="([^"]+)"', self.get("/login").decode())
        assert token is not None
        fields = {"name": user, "password": password, "token": token[1]}
        self._session.post(f"{self._url}/login", fields, timeout=30).raise_for_status()

    def get(self, path: str) -> bytes:
        answer = self._session.get(self._url + path, timeout=30)
        answer.raise_for_status()
        return answer.content

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))


def is_ready(pod: Any) -> bool:
    conditions = (pod.status and pod.status.conditions) or []
    return any(one.type == "Ready" and one.status == "True" for one in conditions)


def volume(name: str, node: str, path: str) -> dict[str, Any]:
    """A PersistentVolume on a node's disk."""
    required = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {
        "apiVersion": "v1",
        "kind": PersistentVolume.__name__,
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "50Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [required]}},
        },
    }
