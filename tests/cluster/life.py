"""A checkout of its own, with all that build_and_push.py and stop.py need around it."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml
from control_plane import Cluster
from driven_exporter import gpu_queries
from nodes import SimulatedNode
from servers import PrometheusServer, Server, find_program, free_port

from posture.system import recorded_processes

ROOT = Path(__file__).resolve().parent.parent.parent
COPIED = ("*.py", "posture/**/*.py", "posture-job-*.yaml", ".dockerignore", "deploy/**/*.yaml", "deploy/*.yml")
SAID_S = 120.0
NODES = ("agx", "nano")
SECRET = {"POSTURE_MQTT_URL": "mqtt://broker:1883", "POSTURE_DATABASE_URL": "postgresql://farm@db/farm"}

SMALL_DOCKERFILE = """\
FROM scratch AS scheduler
COPY cpu_monitor_and_offload.py /
FROM scratch AS analyzer
ARG APP
COPY ${APP} /
"""
"""The real one takes minutes; test_containers.py builds it. Docker, buildx and the registry are the real ones."""


class Registry(Server):
    """Debian's docker-registry."""

    def __init__(self, folder: Path, password: str = "") -> None:
        super().__init__()
        program = find_program("docker-registry", "docker-registry")
        folder.mkdir(parents=True)
        self.port = free_port()
        self.log = folder / "registry.log"
        self.host = f"127.0.0.1:{self.port}"
        settings = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": self.host},
        }
        if password:
            users = folder / "users"
            users.write_text(f"farm:{bcrypt(password)}\n")
            settings["auth"] = {"htpasswd": {"realm": "test", "path": str(users)}}
        config = folder / "registry.yml"
        config.write_text(yaml.safe_dump(settings))
        self.command = [program, "serve", str(config)]

    def digest(self, name: str, tag: str) -> str:
        """The digest of an image that it has."""
        kinds = ("oci.image.index.v1", "oci.image.manifest.v1", "docker.distribution.manifest.v2")
        accepted = ", ".join(f"application/vnd.{kind}+json" for kind in kinds)
        address = f"http://{self.host}/v2/{name}/manifests/{tag}"
        answer = requests.head(address, headers={"Accept": accepted}, timeout=60)
        answer.raise_for_status()
        return answer.headers["Docker-Content-Digest"]


def bcrypt(password: str) -> str:
    """A password as the registry keeps it; by the C library, since Python's own module is gone from 3.13 on."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    return str(crypt(password.encode(), b"$2b$04$abcdefghijklmnopqrstuu").decode())


class Script:
    """A running script of the checkout; what it says can be waited for."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], cwd: Path) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(environ), cwd=cwd,
            text=True, start_new_session=True,
        )  # fmt: skip
        self._said = ""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        """All it has printed."""
        return self._said

    def until_it_says(self, text: str, timeout_s: float = SAID_S) -> None:
        """Wait for a text."""
        with self._changed:
            found = self._changed.wait_for(lambda: text in self._said or not self._reader.is_alive(), timeout_s)
        assert text in self._said, f"{'it ended' if found else 'time is up'} without {text!r}:\n{self._said}"

    def press_enter(self) -> None:
        self.type("")

    def type(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def interrupt(self) -> None:
        """Send what Ctrl-C sends."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait(self, timeout_s: float = SAID_S) -> int:
        """Wait for its end; return its exit status."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs:\n{self._said}") from None
        self._reader.join(10)
        return status

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._said += line
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


class Checkout:
    """A copy of the scripts with settings of its own, so that they write nothing into ours.

    Args:
        folder: where.
        cluster: what its kubeconfig leads to.
        namespace: where the farm lives.
        nodes: of GPU_QUERIES.
        prometheus: where the usage is read.
        settings: more of cluster.yaml, by section.
    """

    def __init__(
        self,
        folder: Path,
        cluster: Cluster,
        namespace: str,
        nodes: Sequence[str],
        prometheus: PrometheusServer,
        **settings: Mapping[str, Any],
    ) -> None:
        self.folder = folder
        self.namespace = namespace
        for pattern in COPIED:
            for path in ROOT.glob(pattern):
                target = folder / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        (folder / "Dockerfile").write_text(SMALL_DOCKERFILE)
        self.port = free_port()
        self._scripts: list[Script] = []
        self.machines: dict[str, SimulatedNode] = {}
        self.settings: dict[str, Any] = {
            "GPU_QUERIES": {
                node: {"instance": query.instance, "metric": query.metric}
                for node, query in gpu_queries(*nodes).items()
            },
            "prometheus": {"url": prometheus.url, "scrape_interval_s": 0.5, "max_age_s": 10},
            "kubernetes": {"namespace": namespace, "start_timeout_s": 60, "stop_timeout_s": 60},
            "scaler": {"listen": f"127.0.0.1:{self.port}", "metrics_port": 0, "refresh_s": 0.5},
            "images": {"registry": "127.0.0.1:9", "platforms": "linux/amd64"},
        }
        for section, values in settings.items():
            self.settings[section] = {**self.settings.get(section, {}), **values}
        self.write_settings()
        for path in self.manifests():
            # KEDA is asked to look each second
            path.write_text(re.sub(r"pollingInterval: \d+", "pollingInterval: 1", path.read_text()))
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith("POSTURE_")},
            "KUBECONFIG": str(cluster.kubeconfig),
        }

    def manifests(self) -> list[Path]:
        """The files that say what a stream's ScaledJob is."""
        return [*sorted(self.folder.glob("posture-job-*.yaml")), self.folder / "deploy" / "posture-job.yaml"]

    def write_settings(self) -> None:
        """Write cluster.yaml as ``settings`` has it."""
        (self.folder / "cluster.yaml").write_text(yaml.safe_dump(self.settings))

    def call_prometheus_by_another_name(self) -> None:
        """Ask it at an address that preflight does not know to be this machine's, as --in-cluster wants."""
        self.settings["prometheus"]["url"] = self.settings["prometheus"]["url"].replace("127.0.0.1", "127.1")
        self.write_settings()

    def use_docker(self, registry: Registry, docker: Mapping[str, str]) -> None:
        """Build with this engine, and push to this registry."""
        self.settings["images"]["registry"] = registry.host
        self.write_settings()
        self.environ |= docker

    def close(self) -> None:
        """End what the scripts have left running."""
        for script in self._scripts:
            if script.running:
                script.kill()
        for record in self.records.glob("*.json"):
            recorded_processes.stop(record.stem, self.records, 10)

    def start(self, script: str, *flags: str, **environ: str) -> Script:
        """Start a script of this checkout."""
        command = [sys.executable, str(self.folder / script), *flags]
        started = Script(command, {**self.environ, **environ}, self.folder)
        self._scripts.append(started)
        return started

    def run(self, script: str, *flags: str, status: int = 0, **environ: str) -> str:
        """Run a script to its end; return what it says."""
        running = self.start(script, *flags, **environ)
        running.close_stdin()
        assert running.wait() == status, running.said
        return running.said

    @property
    def records(self) -> Path:
        """Where it keeps its pids."""
        farm = self.settings["kubernetes"].get("farm", "default")
        return self.folder / "run" / f"{self.namespace}.{farm}"


BY_ITSELF = {"Event", "IPAddress", "Endpoints", "EndpointSlice"}
"""Kinds that come and go some time after what they belong to."""


def everything(cluster: Cluster) -> dict[str, Any]:
    """Every object of the cluster, by its path, as far as a person or a controller has decided it.

    Left out: events, heartbeats, what changes by itself, and namespaces that are going.
    """
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {config['users'][0]['user']['token']}"
    authority = str(cluster.api_server.ca)

    def get(path: str) -> Any:
        answer = session.get(cluster.api_server.url + path, timeout=30, verify=authority)
        answer.raise_for_status()
        return answer.json()

    going = {
        item["metadata"]["name"]
        for item in get("/api/v1/namespaces")["items"]
        if item["status"]["phase"] == "Terminating"
    }
    versions = ["/api/v1"]
    versions += [f"/apis/{group['preferredVersion']['groupVersion']}" for group in get("/apis")["groups"]]
    found: dict[str, Any] = {}
    for version in versions:
        for resource in get(version)["resources"]:
            if "list" not in resource["verbs"] or "/" in resource["name"] or resource["kind"] in BY_ITSELF:
                continue
            for item in get(f"{version}/{resource['name']}")["items"]:
                where = item["metadata"].get("namespace", "")
                if where in {"kube-node-lease", "kube-system"} and resource["kind"] == "Lease":
                    continue
                if {where, item["metadata"]["name"]} & going:
                    continue
                for changing in ("resourceVersion", "managedFields", "generation"):
                    item["metadata"].pop(changing, None)
                item.pop("status", None)
                found[f"{version}/{resource['name']}/{where}/{item['metadata']['name']}"] = item
    return found
