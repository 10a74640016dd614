"""deploy/monitoring's discovery of pods, told to Prometheus by a file: Debian's is built without the real one.

Relabelling, which gives each node its name, is Prometheus' own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from posture.system import files

MONITORING = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"


@dataclass(frozen=True)
class FoundPod:
    """What discovery says of a pod.

    Attributes:
        node: where it runs.
        name: its label app.kubernetes.io/name.
        address: host:port.
        phase: of its life.
        parameter: ``node`` of the URL's query, for tests/support/driven_exporter.py; empty: none.
    """

    node: str
    name: str
    address: str
    phase: str = "Running"
    parameter: str = ""

    def target(self) -> dict[str, Any]:
        """Return it as an entry of Prometheus' file_sd_configs."""
        found = {
            "__meta_kubernetes_pod_label_app_kubernetes_io_name": self.name,
            "__meta_kubernetes_pod_phase": self.phase,
            "__meta_kubernetes_pod_node_name": self.node,
        }
        parameter = {"__param_node": self.parameter} if self.parameter else {}
        return {"targets": [self.address], "labels": {**found, **parameter}}


def write_pods(path: Path, pods: Iterable[FoundPod]) -> None:
    """Write what was found; Prometheus notices."""
    files.replace(path, json.dumps([pod.target() for pod in pods]).encode())


def scrape_configs() -> dict[str, dict[str, Any]]:
    """The jobs of a Prometheus in the cluster, by name."""
    text = (MONITORING / "prometheus-in-cluster.yml").read_text()
    return {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}


def from_file(job: dict[str, Any], path: Path, interval_s: float) -> dict[str, Any]:
    """Return a job that finds its pods in a file.

    Args:
        job: one of ``scrape_configs``.
        path: from ``write_pods``.
        interval_s: between scrapes.
    """
    kept = {name: value for name, value in job.items() if name != "kubernetes_sd_configs"}
    interval = f"{round(interval_s * 1000)}ms"
    found = [{"files": [str(path)], "refresh_interval": "1s"}]
    return {**kept, "file_sd_configs": found, "scrape_interval": interval, "scrape_timeout": interval}
