"""deploy/stack on the real nodes, as an operator applies it: public images stood in for by local ones.

A checkout of its own is the operator's laptop: it reaches the API server, the registry, and the nodes' ports.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import node_services
import requests
import yaml
from cameras import Access
from docker_engine import STAND_INS
from documented_steps import BRING_UP, SET_UP
from farm_at_work import NAMESPACE, WAIT_S, FarmAtWork, Pace, is_ready
from life import Script
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import PersistentVolume, Pod, Secret, Service
from minio import Minio
from onlooker import Onlooker, OpenPage
from s3_server import BUCKET, VERSITYGW
from seaweedfs import SEAWEEDFS
from servers import free_port
from watching import wait_for

from posture.system.children import bound_to_us

if TYPE_CHECKING:
    from real_farm import RealFarm

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
STORAGE_CLASS = "local-path"
SERVER, OTHER = "agx", "orin"
VOLUMES = {
    "data-posture-mqtt-0": (NAMESPACE, SERVER),
    "data-posture-postgres-0": (NAMESPACE, SERVER),
    "data-posture-pictures-0": (NAMESPACE, SERVER),
    "data-prometheus-0": ("monitoring", SERVER),
    "posture-backups": (NAMESPACE, OTHER),
}
"""Claim -> its namespace, and the node on whose disk the volume is: broker, database and the like are on one."""
STREAMS = ("hall-1", "hall-2", "desk-10")
"""Of the list in cluster.yaml; none has files of its own."""
KUBECTL_S = 300.0
PACE = Pace(10, 5, 4, 2, 10, 30, 60, polling_s=2, node_monitor_s=15, scrape_s=5)
SETTINGS = {
    "streams": list(STREAMS),
    "analyzer": {"keep": "all"},  # each row has a picture
    "kubernetes": {"start_timeout_s": 600, "stop_timeout_s": 120},
    # all nodes are on this machine, so one is as busy as the others: none is to be called overloaded
    "balancer": {"lease_s": 10, "threshold": 100, **PACE.balancer},
}
"""What an operator writes into cluster.yaml; the rest is setup_farm.py's."""


@dataclass(frozen=True)
class CameraLine:
    """What a camera's line says: where its broker is, and the folder with what it needs there."""

    printed: str
    stream: str
    broker: str
    folder: Path

    def read(self, name: str) -> str:
        return (self.folder / name).read_text().strip()

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def access(self) -> Access:
        """What install.sh makes of it."""
        return Access(
            [],
            {
                "POSTURE_MQTT_URL": self.broker,
                "POSTURE_MQTT_CA_FILE": str(self.ca_file),
                "POSTURE_MQTT_USERNAME_FILE": str(self.folder / "POSTURE_MQTT_USERNAME"),
                "POSTURE_MQTT_PASSWORD_FILE": str(self.folder / "POSTURE_MQTT_PASSWORD"),
            },
        )


class Stack(FarmAtWork):
    """deploy/stack, and a laptop from which an operator works."""

    def __init__(self, farm: RealFarm) -> None:
        pace = replace(PACE, node_monitor_s=farm.pace.node_monitor_s)
        super().__init__(STREAMS, pace, farm.timeline, farm.folder)
        self.farm = farm
        self.cluster, self.nodes, self.usage = farm.cluster, farm.nodes, farm.usage
        self.servers_on = [SERVER]
        self.timeline.streams = [*self.timeline.streams, *STREAMS]
        self.timeline.read_moves(
            lambda: (log for node in self.nodes.values() for log in node.logs_of(f"{NAMESPACE}_*", "balancer"))
        )
        self._own = farm.folder / "stack"
        self.checkout = self._own / "checkout"
        self._programs = node_services.folder()
        self._script: Script | None = None
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        ).stdout.decode()
        for name in listed.split("\0"):
            if name and not name.startswith(("tests/", "docs/", "bench/")):
                (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.checkout / name)
        template = self.checkout / "deploy" / "posture-job.yaml"
        template.write_text(
            re.sub(r"pollingInterval: \d+", f"pollingInterval: {pace.polling_s}", template.read_text())
        )
        settings = {**SETTINGS, "images": {"registry": farm.registry.host, "platforms": "linux/amd64"}}
        (self.checkout / "cluster.yaml").write_text(yaml.safe_dump(settings))
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")},
            **farm.docker.environ,
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "KUBECONFIG": str(farm.cluster.kubeconfig),
        }

    # what an operator types

    def kubectl(self, *arguments: str, timeout_s: float = KUBECTL_S, may_warn: bool = False) -> str:
        """Run kubectl as the administrator, and return what it prints."""
        done = subprocess.run(
            [str(self._programs / "kubectl"), *arguments],
            env=self._environ, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert may_warn or "Warning" not in done.stderr, done.stderr
        return done.stdout

    def apply(self, folder: str) -> str:
        """``kubectl apply -k`` a folder of the checkout, with the public images' names changed and nothing else."""
        return self.kubectl("apply", "-k", str(self.with_our_images(folder)))

    def delete(self, folder: str) -> str:
        """``kubectl delete -k`` it."""
        return self.kubectl("delete", "-k", str(self.with_our_images(folder)))

    def with_our_images(self, folder: str) -> Path:
        """Return an overlay of a folder of the checkout that has the public images' names changed."""
        overlay = self.checkout / "deploy" / "e2e" / folder.replace("/", "-")
        overlay.mkdir(parents=True, exist_ok=True)
        images = [{"name": name, "newName": ours, "newTag": "e2e"} for name, ours in self._stand_ins.items()]
        text = yaml.safe_dump({"resources": [os.path.relpath(self.checkout / folder, overlay)], "images": images})
        (overlay / "kustomization.yaml").write_text(text)
        return overlay

    def type(self, command: str, timeout_s: float = 900.0) -> str:
        """Type a command into the checkout's shell, let it come to its end, and return what it says."""
        running = Script(["bash", "-c", command], self._environ, self.checkout)
        running.close_stdin()
        assert running.wait(timeout_s) == 0, f"{command}\n{running.said}"
        return running.said

    def run(self, script: str, *flags: str, timeout_s: float = 300.0) -> str:
        """Run a script of the checkout to its end, and return what it says."""
        command = [sys.executable, script, *flags]
        running = Script(command, self._environ, self.checkout)
        running.close_stdin()
        assert running.wait(timeout_s) == 0, running.said
        return running.said

    def bring_up(self, timeout_s: float) -> None:
        """README's last command, which stays."""
        self._script = Script(["bash", "-c", f"exec {BRING_UP}"], self._environ, self.checkout)
        self._script.until_it_says("press ENTER", timeout_s)

    def press_enter(self) -> None:
        assert self._script is not None
        self._script.press_enter()
        assert self._script.wait(300) == 0, self._script.said

    def roll_out(self, section: str, key: str, value: Any) -> Script:
        """Change a setting of cluster.yaml, and begin to bring it to the streams that run."""
        path = self.checkout / "cluster.yaml"
        settings = yaml.safe_load(path.read_text())
        settings[section][key] = value
        path.write_text(yaml.safe_dump(settings))
        flags = ["--in-cluster", "--skip-build", "--no-wait"]
        return Script([sys.executable, "build_and_push.py", *flags], self._environ, self.checkout)

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

    def jobs(self) -> dict[str, str]:
        """Uid -> stream of the Jobs of streams."""
        found = self.cluster.client.list(Job, namespace=NAMESPACE, labels={"posture-farm/stream": None})
        return {job.metadata.uid: job.metadata.labels["posture-farm/stream"] for job in found}

    def secrets(self) -> dict[str, str]:
        """What ``.env`` has."""
        lines = (self.checkout / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    @contextlib.contextmanager
    def page(self, user: str, password: str) -> Iterator[Page]:
        """The dashboard as docs/dashboard.md opens it: by kubectl port-forward, logged in."""
        port = free_port()
        log = self._own / "port-forward.log"
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
            yield Page(f"http://127.0.0.1:{port}", user, password)
        finally:
            forwarding.terminate()
            forwarding.wait()

    @property
    def onlooker(self) -> Onlooker:
        return self.farm.onlooker

    @contextlib.contextmanager
    def open_page(self) -> Iterator[OpenPage]:
        # by its Service: forwarding ends with the pod that it leads to, or with that one's kubelet
        url = f"http://{self.address_of('posture-dashboard')}:8470"
        # after a fault it may still be on its way to where it runs next
        wait_for(lambda: answers(url), WAIT_S, look_s=0.5)
        page = Page(url, "operator", self.secrets()["POSTURE_OPERATOR_PASSWORD"])
        yield OpenPage(page.url, page.cookies, at_stake=True)

    def pods(self, name: str, namespace: str = NAMESPACE) -> list[Any]:
        """The pods of one of the stack's programs."""
        found = self.cluster.client.list(Pod, namespace=namespace, labels={"app.kubernetes.io/name": name})
        return list(found)

    def containers(self, name: str, namespace: str = NAMESPACE, container: str = "") -> dict[str, int]:
        """Id -> pid on this machine of the program's containers that run, or of those of one name."""
        pids = {key: pid for node in self.nodes.values() for key, pid in node.main_processes().items()}
        statuses = [one for pod in self.pods(name, namespace) for one in pod.status.containerStatuses or []]
        ids = [
            str(one.containerID).removeprefix("containerd://")
            for one in statuses
            if container in ("", one.name) and one.state.running is not None
        ]
        return {key: pids[key] for key in ids if key in pids}

    def crash(
        self, name: str, namespace: str = NAMESPACE, container: str = "", *, within_s: float = WAIT_S
    ) -> None:
        """Kill the program's processes, and wait until it is there again."""
        before = self.containers(name, namespace, container)
        assert before, f"{name} does not run"
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        self.until_back(name, namespace, before, within_s)

    def delete_pods(self, name: str, namespace: str = NAMESPACE, *, within_s: float = WAIT_S) -> None:
        """Delete the program's pods with force, and wait until others are there."""
        before = self.containers(name, namespace)
        assert before, f"{name} does not run"
        pods = [pod.metadata.name for pod in self.pods(name, namespace)]
        # kubectl warns that what runs may go on running
        self.kubectl("-n", namespace, "delete", "pods", "--force", "--grace-period=0", *pods, may_warn=True)
        self.until_back(name, namespace, before, within_s)

    def until_back(self, name: str, namespace: str, before: Collection[str], within_s: float) -> None:
        """Wait until none of these containers of a program is left, and it is Ready."""

        def back() -> bool:
            found = self.containers(name, namespace)
            return bool(found) and not set(before) & set(found) and all(map(is_ready, self.pods(name, namespace)))

        try:
            wait_for(back, within_s, look_s=0.5)
        except AssertionError:
            raise AssertionError(f"{name} is not back within {within_s:g} s:\n{self.last_words()}") from None

    def until_ready(self, namespace: str, name: str, timeout_s: float = 300.0) -> None:
        """Wait until the pods of that name are Ready, one at least."""

        def ready() -> bool:
            return bool(found := self.pods(name, namespace)) and all(map(is_ready, found))

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
                found[stream] = CameraLine(line.strip(), stream, broker, self.checkout / folder)
        return found

    # how a farm of this form is asked

    @functools.cached_property
    def database_url(self) -> str:
        password = self._secret("posture-postgres", "POSTURE_PASSWORD")
        return f"postgresql://posture:{password}@{self.address_of('posture-postgres')}:5432/posture"

    def access_of(self, stream: str) -> Access:
        return self.lines[stream].access

    @functools.cached_property
    def lines(self) -> dict[str, CameraLine]:
        """The cameras' lines, by stream; setup_farm.py prints them whenever it runs."""
        return self.camera_lines(self.type(SET_UP))

    def stored_pictures(self, stream: str) -> Mapping[str, Collection[str]]:
        listed = self._bucket.list_objects(BUCKET, f"analyzed_images_from_{stream}/")
        names = {str(one.object_name).rpartition("/")[2] for one in listed}
        # one place for all nodes
        return dict.fromkeys(self.nodes, names)

    @functools.cached_property
    def _bucket(self) -> Minio:
        return Minio(
            f"{self.address_of('posture-pictures')}:8333",
            self._secret("posture-farm", "POSTURE_PICTURES_KEY_ID"),
            self._secret("posture-farm", "POSTURE_PICTURES_SECRET_KEY"),
            secure=False,
            region="us-east-1",
        )

    def address_of(self, service: str) -> str:
        """A Service's address, which this machine reaches as pods do."""
        return str(self.cluster.client.get(Service, service, namespace=NAMESPACE).spec.clusterIP)

    def _secret(self, name: str, key: str) -> str:
        data = self.cluster.client.get(Secret, name, namespace=NAMESPACE).data
        return base64.b64decode(data[key]).decode()

    def mend(self) -> None:
        self.cluster.start()
        if self.farm.registry.process.poll() is not None:
            self.farm.registry.start()
        for node in self.nodes.values():
            node.mend()

    def take_in_new_nodes(self) -> None:
        self.type(SET_UP)

    def last_words(self) -> str:
        told = [
            self.kubectl("get", "pods", "-A", "-o", "wide", may_warn=True),
            self.kubectl("-n", NAMESPACE, "get", "events", "--sort-by=.lastTimestamp")[-4000:],
        ]
        logs = ("-n", NAMESPACE, "logs", "deployment/posture-scaler", "--tail=40")
        told += [self.kubectl(*logs, "-c", name) for name in ("scaler", "balancer")]
        return "\n".join(told)

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
        for claim, (namespace, node) in VOLUMES.items():
            path = f"volumes/{claim}"
            (self.nodes[node].disk / path).mkdir(parents=True)
            self.farm.cluster.create(None, volume(claim, namespace, node, f"/var/lib/{path}"))

    @functools.cached_property
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
        folder = self._own / name
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
        url: where it is reached.
        user: who.
        password: theirs.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._session = requests.Session()
        token = re.search(r'name="token" value="([^"]+)"', self.get("/login").decode())
        assert token is not None
        fields = {"name": user, "password": password, "token": token[1]}
        self._session.post(f"{self.url}/login", fields, timeout=30).raise_for_status()

    @property
    def cookies(self) -> dict[str, str]:
        """Of who has logged in."""
        return {str(name): str(value) for name, value in self._session.cookies.items()}

    def get(self, path: str) -> bytes:
        answer = self._session.get(self.url + path, timeout=30)
        answer.raise_for_status()
        return answer.content

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))


def answers(url: str) -> bool:
    """Whether a dashboard is there."""
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{url}/login", timeout=30).ok
    return False


def volume(claim: str, namespace: str, node: str, path: str) -> dict[str, Any]:
    """A PersistentVolume on a node's disk, for one claim."""
    required = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {
        "apiVersion": "v1",
        "kind": PersistentVolume.__name__,
        "metadata": {"name": claim},
        "spec": {
            "claimRef": {"namespace": namespace, "name": claim},
            "capacity": {"storage": "50Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [required]}},
        },
    }
