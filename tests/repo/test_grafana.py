"""Every panel's and every alert's query finds series in a real Prometheus that scrapes the programs' figures."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from dashboard_process import DashboardProcess
from driven_exporter import GpuExporter
from kustomize_tool import render
from prometheus_client import CollectorRegistry
from servers import Mosquitto, PrometheusServer, free_port
from speaking import Farm

from posture.balancer.health import Down
from posture.balancer.metrics import BalancerMetrics
from posture.kube.troubles import Trouble
from posture.planning.model import Move, MoveKind, Plan, Veto, VetoReason
from posture.system.probes import Exposition
from posture.usage.agreement import Disagreement

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
BOARDS = sorted((MONITORING / "grafana").glob("*.json"))
SCALER = """posture_node_usage_percent{node="agx"} 80
posture_node_valid{node="agx"} 1
posture_node_valid{node="nano"} 0
posture_scaler_active 1
posture_scaler_keda_age_seconds 3
posture_scaler_scaledjob_age_seconds{namespace="n",scaledjob="s"} 3
posture_scaler_snapshot_age_seconds 1
posture_balancer_up 1
posture_balancer_restarts_total 0
posture_cpu_usage_percent 40
posture_gpu_usage_percent 70
posture_memory_available_bytes 1e9"""
"""The scaler's and the exporter's figures; test_deploy_files.py and test_gpu_exporter.py see them offered."""
ACCOUNT = {
    "received": 7, "malformed": 1, "duplicate": 1, "rows": 6, "analyzed": 5, "rejected": {"truncated": 1},
    "expired": 0, "missing": 2, "good": 3, "bad": 2, "unknown": 1, "status": "Bad", "neck": 41.0, "body": None,
    "fps": 2.0, "analysis_sum_s": 0.15, "delay": {"0.1": 4, "1": 6, "+Inf": 6}, "delay_sum_s": 1.2,
}  # fmt: skip


def balancer_figures(port: int) -> Exposition:
    """A balancer's /metrics, of a farm in which something is wrong everywhere."""
    registry = CollectorRegistry()
    metrics = BalancerMetrics(registry, "default")
    move = Move(MoveKind.OFFLOAD, "pi1", "agx", "nano", 20.0, 45.0, 80.0, 5.0, "agx is over the threshold")
    metrics.planned(Plan((move,), (Veto(VetoReason.PINNED, "agx", "pi2"),), ("agx",)))
    metrics.open_moves({move: 400.0})
    metrics.streams({"pi1": "agx", "pi2": "agx"}, {"pi2": Down(Trouble("FailedCreate", "quota"), 0.0, lasts=True)})
    metrics.disagreements([Disagreement("agx", "gpu", "cpu", ("pi1",))])
    metrics.gpu_missing({"pi1": "agx"})
    metrics.acts(True)
    return Exposition("127.0.0.1", port, registry, lambda: "", lambda: "")


class Watched:
    """A Prometheus that has scraped everything for a while."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.balancer_port, dashboard_port = free_port(), free_port()
        self._balancer = balancer_figures(self.balancer_port)
        self._scaler = GpuExporter()
        self._scaler.show("scaler", *SCALER.splitlines())
        options = {"metrics_port": dashboard_port}
        address = {"url": f"mqtt://127.0.0.1:{broker.port}"}
        self.dashboard = DashboardProcess(folder / "dashboard", {"mqtt": address, "dashboard": options})
        jobs = {
            "posture-balancer": {"targets": [f"127.0.0.1:{self.balancer_port}"]},
            "posture-dashboard": {"targets": [f"127.0.0.1:{dashboard_port}"]},
            "posture-scaler": self._scaler.targets("scaler")[0],
        }
        self.prometheus = PrometheusServer(
            folder / "prometheus",
            [],
            scrape_configs=[
                {
                    "job_name": name,
                    "scrape_interval": "500ms",
                    "scrape_timeout": "500ms",
                    "static_configs": [target],
                }
                for name, target in jobs.items()
            ],
        )

    def start(self) -> None:
        self.dashboard.start()
        self.dashboard.until_subscribed()  # a clock is told of messages that come now, not of kept ones
        self.prometheus.start()

    def stop(self) -> None:
        self.prometheus.stop()
        self.dashboard.stop()
        self._scaler.close()
        self._balancer.close()

    def series(self, query: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.prometheus.url}/api/v1/query", {"query": query}, timeout=30).json()
        assert answer["status"] == "success", (query, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def until(self, query: str) -> list[dict[str, Any]]:
        """Wait until a query finds something."""
        deadline = time.monotonic() + 60
        while not (found := self.series(query)):
            assert time.monotonic() < deadline, f"no series: {query}"
            time.sleep(0.2)
        return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    broker = Mosquitto(folder / "broker")
    broker.start()
    made = Watched(folder, broker)
    made.start()
    with Farm(broker.port) as farm:
        farm.stream("pi1", "Bad", neck=41.0, body=11.0)
        farm.stream("pi2", camera="silent")
        farm.publish("camera/pi3", b"no json", retain=True)
        for more in range(3):
            farm.publish("account/pi1", {**ACCOUNT, "rows": 6 + more, "good": 3 + more}, retain=True)
        yield made
    made.stop()
    broker.stop()


def panels() -> list[Any]:
    found = []
    for path in BOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                name = f"{path.stem}: {panel['title']} {target['refId']}"
                found.append(pytest.param(target["expr"], id=name))
    return found


@pytest.mark.parametrize("expression", panels())
def test_a_panels_query_finds_something(watched: Watched, expression: str) -> None:
    # over two scrapes where Grafana's would be over minutes
    found = watched.until(re.sub(r"\[\d+[mh]\]", "[10s]", expression.replace("$stream", ".*")))
    assert all(one["metric"] or one["value"] for one in found)


def alerts() -> list[Any]:
    """Those that look at our own figures; SeaweedFS' are asked of the real one in test_stack_servers.py."""
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return [
        pytest.param(rule["expr"], id=rule["alert"])
        for group in groups
        for rule in group["rules"]
        if "SeaweedFS_" not in rule["expr"]
    ]


@pytest.mark.parametrize("expression", alerts())
def test_an_alert_looks_at_series_that_there_are(watched: Watched, expression: str) -> None:
    asked = re.sub(r"\[\d+m\]", "[10s]", re.sub(r"\s*(==|>|<)\s*[\d.]+", "", expression))
    for part in re.split(r"\s(?:or|and|unless)\s", re.sub(r'condition="\w+"', 'condition=~".+"', asked)):
        watched.until(part)


def test_a_stream_that_is_gone_has_no_series_any_more(watched: Watched) -> None:
    with Farm(int(watched_port(watched))) as farm:
        farm.stream("pi9")
        watched.until('posture_stream_condition{stream="pi9"}')
    deadline = time.monotonic() + 60
    while watched.series('posture_stream_condition{stream="pi9"}'):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def watched_port(watched: Watched) -> int:
    """The port of the broker that the dashboard reads."""
    settings = yaml.safe_load((watched.dashboard.log.parent / "cluster.yaml").read_text())
    return int(settings["mqtt"]["url"].rpartition(":")[2])


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_board_can_be_imported_anywhere(path: Path) -> None:
    board = json.loads(path.read_text())
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in board["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(set(cells)) == len(cells), "panels lie over each other"
    assert all(x < 24 for x, _ in cells)
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_grafanas_sidecar_finds_the_boards() -> None:
    (config_map,) = render(MONITORING / "grafana")
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert set(config_map["data"]) == {path.name for path in BOARDS}
