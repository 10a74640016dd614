"""deploy/stack on the real nodes, as an operator applies it: public images stood in for by local ones."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import node_services
import yaml
from docker_engine import STAND_INS
from lightkube.resources.core_v1 import PersistentVolume, Pod
from watching import wait_for

if TYPE_CHECKING:
    from real_farm import RealFarm

STORAGE_CLASS = "local-path"
VOLUMES_A_NODE = 3
PUBLIC = {
    "eclipse-mosquitto": STAND_INS["eclipse-mosquitto:2"],
    "postgres": STAND_INS["postgres:17"],
}


class Stack:
    """deploy/stack, applied by kubectl."""

    def __init__(self, farm: RealFarm) -> None:
        self.farm = farm
        self.folder = farm.folder / "stack"
        self.folder.mkdir()
        self._programs = node_services.folder()

    def kubectl(self, *arguments: str, timeout_s: float = 120.0) -> str:
        """Run kubectl as the administrator, and return what it prints."""
        done = subprocess.run(
            [str(self._programs / "kubectl"), f"--kubeconfig={self.farm.cluster.kubeconfig}", *arguments],
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert "Warning" not in done.stderr, done.stderr
        return done.stdout

    def give_storage(self) -> None:
        """Make the default storage class, and volumes on the nodes' disks, as K3s' local-path does when asked."""
        self.farm.cluster.create(
            None,
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {
                    "name": STORAGE_CLASS,
                    "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
                },
                "provisioner": "kubernetes.io/no-provisioner",
                "volumeBindingMode": "WaitForFirstConsumer",
            },
        )
        for name, node in self.farm.nodes.items():
            for number in range(VOLUMES_A_NODE):
                path = f"volumes/{number}"
                (node.disk / path).mkdir(parents=True)
                self.farm.cluster.create(None, volume(f"{name}-{number}", name, f"/var/lib/{path}"))

    def stand_in(self) -> dict[str, str]:
        """Push what stands in for the public images; return the name of each."""
        contexts = {**PUBLIC, "prom/prometheus": self._prometheus_image()}
        pushed = {}
        for name, context in contexts.items():
            ours = f"{self.farm.registry.host}/{name.rpartition('/')[2]}"
            self.farm.docker.run("build", "--tag", f"{ours}:e2e", str(context), timeout_s=900)
            self.farm.docker.run("push", f"{ours}:e2e", timeout_s=600)
            pushed[name] = ours
        return pushed

    def _prometheus_image(self) -> Path:
        folder = self.folder / "prometheus"
        folder.mkdir()
        shutil.copy(self._programs / "prometheus", folder)
        (folder / "Dockerfile").write_text("FROM debian:bookworm-slim\nCOPY prometheus /bin/\n")
        return folder

    def apply(self, stack: Path) -> str:
        """``kubectl apply -k`` a folder of the checkout, with the public images' names changed and nothing else."""
        images = [{"name": name, "newName": ours, "newTag": "e2e"} for name, ours in self.stand_in().items()]
        overlay = stack.parent / f"{stack.name}-e2e"
        overlay.mkdir()
        text = yaml.safe_dump({"resources": [f"../{stack.name}"], "images": images})
        (overlay / "kustomization.yaml").write_text(text)
        return self.kubectl("apply", "-k", str(overlay))

    def until_ready(self, namespace: str, name: str, timeout_s: float) -> None:
        """Wait until the pods of that name are Ready, one at least."""

        def ready() -> bool:
            pods = self.farm.cluster.client.list(Pod, namespace=namespace, labels={"app.kubernetes.io/name": name})
            return bool(found := list(pods)) and all(map(is_ready, found))

        try:
            wait_for(ready, timeout_s, look_s=0.5)
        except AssertionError:
            told = self.kubectl("-n", namespace, "describe", "pods", "-l", f"app.kubernetes.io/name={name}")
            raise AssertionError(f"{name} is not Ready within {timeout_s:g} s:\n{told[-4000:]}") from None


def is_ready(pod: Any) -> bool:
    conditions = (pod.status and pod.status.conditions) or []
    return any(one.type == "Ready" and one.status == "True" for one in conditions)


def volume(name: str, node: str, path: str) -> dict[str, Any]:
    """A PersistentVolume on a node's disk."""
    required = {"matchExpressions": [{"key": "gpu-node", "operator": "In", "values": [node]}]}
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
