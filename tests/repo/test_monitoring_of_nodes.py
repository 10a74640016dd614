"""deploy/monitoring on a real Prometheus: one series a node, under its own name, whichever exporter it has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from discovery import MONITORING, FoundPod, from_file, scrape_configs, write_pods
from driven_exporter import GpuExporter
from servers import PrometheusServer

from posture.settings import table
from posture.settings.table import GpuQuery
from posture.usage.prometheus import Prometheus
from posture.usage.readings import Reading

EXPORTERS = ("posture-exporter", "dcgm-exporter", "nvidia-gpu-exporter")
INTERVAL_S = 0.5
PODS = {
    "orin": ("posture-exporter", "Running"),
    "nano": ("posture-exporter", "Running"),
    "desktop-1": ("dcgm-exporter", "Running"),
    "desktop-2": ("nvidia-gpu-exporter", "Running"),
    "desktop-3": ("posture-exporter", "Running"),
    "desktop-3/dcgm": ("dcgm-exporter", "Running"),
    "finished": ("posture-exporter", "Succeeded"),
    "other": ("somebody-elses", "Running"),
}
"""Node (and what tells two pods of it apart) -> the name of the exporter's pod there, and its phase."""


class Nodes:
    """A Prometheus with the scrape configuration and the rules for a cluster, and what it finds there."""

    def __init__(self, folder: Path, exporter: GpuExporter) -> None:
        self.exporter = exporter
        folder.mkdir()
        write_pods(
            folder / "pods.json",
            [
                FoundPod(node.partition("/")[0], name, exporter.address, phase, node)
                for node, (name, phase) in PODS.items()
            ],
        )
        self.server = PrometheusServer(
            folder,
            [],
            scrape_configs=[
                from_file(scrape_configs()[name], folder / "pods.json", INTERVAL_S) for name in EXPORTERS
            ],
            rule_files=[self._quick_rules(folder)],
        )
        queries = {node: GpuQuery(f"{node}:9101", "posture_gpu_usage_percent") for node in PODS if "/" not in node}
        settings = table.Prometheus(url=self.server.url, scrape_interval_s=1.0, timeout_s=20.0)
        self.client = Prometheus(settings, queries)

    @staticmethod
    def _quick_rules(folder: Path) -> Path:
        rules = yaml.safe_load((MONITORING / "recording.yml").read_text())
        for group in rules["groups"]:
            group["interval"] = f"{INTERVAL_S * 1000:.0f}ms"
        path = folder / "recording.yml"
        path.write_text(yaml.safe_dump(rules))
        return path

    def until(self, expected: dict[str, float]) -> None:
        """Wait until exactly these nodes have a usage."""
        deadline = time.monotonic() + 60
        while True:
            sampled = self.client.sample()
            found = {node: one.value for node, one in sampled.items() if isinstance(one, Reading)}
            if found == expected:
                return
            assert time.monotonic() < deadline, sampled
            time.sleep(0.2)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    exporter = GpuExporter()
    for node in PODS:
        exporter.show(node, "posture_gpu_usage_percent 1")
    made = Nodes(tmp_path / "prometheus", exporter)
    made.server.start()
    yield made
    made.server.stop()
    exporter.close()


def test_every_node_has_one_usage_whichever_exporter_it_has(nodes: Nodes) -> None:
    dcgm = 'DCGM_FI_DEV_GPU_UTIL{gpu="%s",UUID="GPU-%s",device="nvidia%s",modelName="NVIDIA RTX A2000"} %d'
    nodes.exporter.show("orin", "posture_gpu_usage_percent 30")
    nodes.exporter.show("nano", "posture_cpu_usage_percent 12")
    nodes.exporter.show("desktop-1", dcgm % (0, 0, 0, 12), dcgm % (1, 1, 1, 85))
    nodes.exporter.show("desktop-3", "posture_gpu_usage_percent 66")
    nodes.exporter.show("desktop-3/dcgm", dcgm % (0, 0, 0, 67))
    nodes.exporter.show("desktop-2", 'nvidia_smi_utilization_gpu_ratio{uuid="a1"} 0.42')
    nodes.until({"orin": 30.0, "desktop-1": 85.0, "desktop-2": 42.0, "desktop-3": 66.0})
    # a pod that uses a GPU begins another series; an exporter that ends takes its usage along
    nodes.exporter.show("desktop-1", (dcgm % (0, 0, 0, 55)).replace("}", ',pod="pi1",namespace="posture-farm"}'))
    nodes.exporter.down("desktop-2")
    nodes.until({"orin": 30.0, "desktop-1": 55.0, "desktop-3": 66.0})


def test_the_operators_way_gives_the_same_label() -> None:
    path = MONITORING.parent / "overlays" / "kube-prometheus-stack" / "pod-monitors.yaml"
    monitor = next(
        one for one in yaml.safe_load_all(path.read_text()) if one["metadata"]["name"] == "posture-exporter"
    )
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (relabelling,) = endpoint["relabelings"]
    ours = scrape_configs()["posture-exporter"]
    (rule,) = (one for one in ours["relabel_configs"] if one.get("target_label") == "instance")
    assert (relabelling["sourceLabels"], relabelling["replacement"], relabelling["targetLabel"]) == (
        rule["source_labels"], rule["replacement"], rule["target_label"],
    )  # fmt: skip
    assert endpoint["interval"] == ours["scrape_interval"] == f"{table.Prometheus().scrape_interval_s:g}s"
