"""patch_scaledjob.py's files on the real API server with KEDA's CRD, and the real scheduler on its plan."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import Cluster, ScaledJob
from driven_exporter import GpuExporter, gpu_queries
from lightkube.resources.core_v1 import Pod
from nodes import Kubelets
from scaled_jobs import is_ready, labels_of_jobs, ready_on
from servers import PrometheusServer
from stub_scaler import StubScaler

ROOT = Path(__file__).resolve().parent.parent.parent
USAGE = {"agx": 40.0, "orin": 5.0, "nano": 70.0}
STREAMS = ("pi1", "pi2", "pi1-1", "pi7")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """A Prometheus that knows the usage of USAGE's nodes."""
    exporter = GpuExporter()
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"), exporter.targets(*USAGE))
    for node, percent in USAGE.items():
        exporter.set(node, percent)
    try:
        server.start()
        for node in USAGE:
            exporter.wait_for_scrapes(node)
        yield server
    finally:
        server.stop()
        exporter.close()


class Patcher:
    """Runs patch_scaledjob.py in a folder of the test's own."""

    def __init__(self, folder: Path, prometheus: PrometheusServer, namespace: str, scaler: str) -> None:
        self.folder = folder
        self._flags = ["--namespace", namespace, "--scaler-address", scaler, "--output-dir", str(folder)]
        queries = {
            node: {"instance": query.instance, "metric": query.metric}
            for node, query in gpu_queries(*USAGE).items()
        }
        self._environment = {
            "POSTURE_PROMETHEUS_URL": prometheus.url,
            "POSTURE_PROMETHEUS_MAX_AGE_S": "30",
            "POSTURE_PROMETHEUS_TIMEOUT_S": "30",
            "POSTURE_GPU_QUERIES": json.dumps(queries),
        }

    def run(self, *arguments: object) -> str:
        """Run it, and return what it prints."""
        command = [sys.executable, str(ROOT / "patch_scaledjob.py"), *self._flags, *map(str, arguments)]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write_streams(self) -> list[Path]:
        """The ScaledJobs of STREAMS: two that the repository has, the others written by --new-stream."""
        for stream in STREAMS:
            if not (ROOT / f"posture-job-{stream}.yaml").exists():
                self.run("--new-stream", stream)
        files = [ROOT / f"posture-job-{stream}.yaml" for stream in STREAMS]
        return [path if path.exists() else self.folder / path.name for path in files]

    def patched(self, stream: str) -> dict[str, Any]:
        """What it has written for a stream."""
        manifest: dict[str, Any] = yaml.safe_load((self.folder / f"patched-job-{stream}.yaml").read_text())
        return manifest


def plan_in(printed: str) -> dict[str, str]:
    """Stream -> node, as the plan says."""
    return dict(re.findall(r"^(\S+) -> (\S+)$", printed, re.MULTILINE))


@pytest.fixture
def patcher(tmp_path: Path, prometheus: PrometheusServer, namespace: str, stub_scaler: StubScaler) -> Patcher:
    return Patcher(tmp_path, prometheus, namespace, stub_scaler.address)


def test_the_api_server_accepts_every_patched_file_and_every_unpatched_one(
    cluster: Cluster, namespace: str, patcher: Patcher
) -> None:
    files = patcher.write_streams()
    patcher.run("--image", "registry.test/posture-{pi_id}:v1", *files)
    for stream in STREAMS:
        assert cluster.refusal_of(namespace, patcher.patched(stream)) == ""
    for path in files:
        manifest = yaml.safe_load(path.read_text())
        manifest["metadata"]["namespace"] = namespace
        assert cluster.refusal_of(namespace, manifest) == ""


def test_the_api_server_accepts_a_patched_file_that_had_affinities_tolerations_and_tls_of_its_own(
    cluster: Cluster, namespace: str, patcher: Patcher
) -> None:
    manifest = yaml.safe_load((ROOT / "posture-job-pi1.yaml").read_text())
    pod = manifest["spec"]["jobTargetRef"]["template"]["spec"]
    zones = {"key": "zone", "operator": "In", "values": ["a", "b"]}
    names = {"key": "metadata.name", "operator": "NotIn", "values": ["old"]}
    pod["affinity"] = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [zones]}, {"matchFields": [names]}]
            },
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 5, "preference": {"matchExpressions": [zones]}}
            ],
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {}}}
            ]
        },
    }
    pod["tolerations"].append({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"})
    (trigger,) = manifest["spec"]["triggers"]
    trigger["metadata"]["enableTLS"] = "true"
    trigger["authenticationRef"] = {"name": "posture-scaler-tls"}
    path = patcher.folder / "posture-job-pi1.yaml"
    path.write_text(yaml.safe_dump(manifest))
    patcher.run(path)
    assert cluster.refusal_of(namespace, patcher.patched("pi1")) == ""


def test_the_dry_run_is_strict_about_what_kedas_crd_does_not_have(cluster: Cluster, namespace: str) -> None:
    manifest = yaml.safe_load((ROOT / "posture-job-pi1.yaml").read_text())
    manifest["metadata"]["namespace"] = namespace
    pod = manifest["spec"]["jobTargetRef"]["template"]["spec"]
    pod["afinity"] = pod.pop("affinity")
    assert "afinity" in cluster.refusal_of(namespace, manifest)
    pod["affinity"] = pod.pop("afinity")
    manifest["spec"]["rollout"]["strategy"] = "default"
    assert "strategy" in cluster.refusal_of(namespace, manifest)


def test_the_scheduler_puts_each_pod_where_the_plan_says(
    cluster: Cluster, namespace: str, nodes: Kubelets, patcher: Patcher
) -> None:
    for node in USAGE:
        nodes.add(node)
    plan = plan_in(patcher.run("--seed", 1, *patcher.write_streams()))
    assert Counter(plan.values()) == {"orin": 2, "agx": 1, "nano": 1}  # the extra one goes to the lowest usage
    # KEDA reads the Secrets of a container's environment, and does nothing for a ScaledJob whose Secret is missing
    values = {"POSTURE_MQTT_URL": "mqtt://broker.test", "POSTURE_DATABASE_URL": "sqlite:///posture.db"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "posture-farm"}, "stringData": values}
    cluster.create(namespace, secret, *(patcher.patched(stream) for stream in STREAMS))
    cluster.until(Pod, namespace, lambda pods: sum(map(is_ready, pods)) == len(STREAMS))
    assert {one["metadata"]["generation"] for one in cluster.client.list(ScaledJob, namespace=namespace)} == {1}
    for stream in STREAMS:
        pods = cluster.client.list(Pod, namespace=namespace, labels=labels_of_jobs(stream))
        assert ready_on(plan[stream])(list(pods))
