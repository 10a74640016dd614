"""Where streams run, in a real browser, with a real Prometheus and an API server that tells of a farm."""

from __future__ import annotations

from pathlib import Path

import api_farm
from browser import Browser
from dashboard_process import DashboardProcess
from driven_exporter import METRIC, GpuExporter, gpu_queries
from scripted_api import ScriptedServer, write_kubeconfig
from servers import Mosquitto, PrometheusServer

SCALER = """\
posture_scaler_keda_age_seconds 4
posture_balancer_up 1
process_start_time_seconds 1772445600
"""
MOVE = {"at": "2026-03-02T09:00:00Z", "kind": "offload", "from": "a", "to": "b", "why": "a is at 61 %"}


def dashboard_of(
    folder: Path, broker: Mosquitto, prometheus: PrometheusServer, api: ScriptedServer
) -> DashboardProcess:
    """The page of a farm of the nodes a and b, not started yet."""
    kubeconfig = folder / "kubeconfig"
    write_kubeconfig(kubeconfig, api.address)
    settings = {
        "mqtt": {"url": f"mqtt://127.0.0.1:{broker.port}"},
        "prometheus": {"url": prometheus.url, "scrape_interval_s": 0.5, "max_age_s": 4, "timeout_s": 2},
        "GPU_QUERIES": {
            name: {"instance": query.instance, "metric": query.metric}
            for name, query in gpu_queries("a", "b").items()
        },
    }
    return DashboardProcess(folder, settings, KUBECONFIG=str(kubeconfig))


def test_nodes_streams_and_moves_are_shown_and_each_source_may_stop_and_come_back(
    browser: Browser,
    shared_broker: Mosquitto,
    prometheus: PrometheusServer,
    gpu_exporter: GpuExporter,
    tmp_path: Path,
) -> None:
    gpu_exporter.show("a", f"{METRIC} 71", 'posture_balancer_signal_looks_like_ratio{node="a",signal="own"} 1')
    gpu_exporter.set("b", 12)
    lists = {
        "nodes": [api_farm.node("a"), api_farm.node("b")],
        "scaledjobs": [api_farm.scaled_job("pi1", "b", [MOVE]), api_farm.scaled_job("pi2", "a")],
        "pods": [api_farm.pod("pi1", "b"), api_farm.pod("pi2", "a", ready=False, waiting="ErrImagePull")],
        "events": [api_farm.event("pi2", "StreamDown", "its image can't be pulled", warning=True)],
    }
    api = api_farm.answering(lists)
    working = api.answer
    dashboard = dashboard_of(tmp_path, shared_broker, prometheus, api)
    dashboard.start()
    try:
        browser.open(f"{dashboard.url}/farm")
        browser.until_text(".nodes", "71 %")
        # each source is read at a time of its own
        browser.until_text(".lead", "1 over the threshold")
        browser.until_text(".node:first-child", "over the threshold of 50 %")
        browser.until_text(".node:first-child", "own looks like a ratio")
        assert "looks like a ratio" not in browser.text(".node:last-child")
        browser.until_text(".node:first-child .chips", "ErrImagePull")
        browser.until_text("#farm", "a → b · offload · a is at 61 %")
        assert "b → " not in browser.text("#farm")
        browser.until_text("#farm", "StreamDown · its image can't be pulled")
        prometheus.stop()
        browser.until_text("#banners", "Prometheus is away")
        # nothing is told of what is not known
        browser.until_text(".lead", "2 streams on 2 nodes; usage unknown")
        browser.until_text("#farm", "Not known without Prometheus.")
        api.answer = lambda _: None
        browser.until_text("#banners", "The Kubernetes API is away")
        api.answer = working
        prometheus.start()
        browser.until(lambda: browser.text("#banners") == "", "no banner")
        browser.until_text(".nodes", "71 %")
        only_reads(api)
    finally:
        browser.open("about:blank")
        dashboard.stop()
        api.close()


def only_reads(api: ScriptedServer) -> None:
    assert {request.method for request in api.requests} == {"GET"}
    assert {request.path.rpartition("/")[2] for request in api.requests} == {
        "nodes",
        "scaledjobs",
        "pods",
        "events",
    }


def test_without_cluster_and_prometheus_the_page_says_so_and_shows_where_analyzers_are(
    browser: Browser, shared_dashboard: DashboardProcess
) -> None:
    browser.open(f"{shared_dashboard.url}/farm")
    browser.until_text("#farm", "No cluster: no Kubernetes credentials")
    assert browser.text("#banners") == ""


def test_what_keeps_streams_running_is_shown_and_a_node_that_is_gone_too(
    browser: Browser, shared_broker: Mosquitto, gpu_exporter: GpuExporter, tmp_path: Path
) -> None:
    gpu_exporter.show("scaler", *SCALER.splitlines())
    scaler = {"job_name": "posture-scaler", "scrape_interval": "500ms", "scrape_timeout": "500ms"}
    prometheus = PrometheusServer(
        tmp_path / "prometheus", gpu_exporter.targets("a", "b"),
        scrape_configs=[{**scaler, "static_configs": gpu_exporter.targets("scaler")}],
    )  # fmt: skip
    prometheus.start()
    gpu_exporter.set("a", 12)
    api = api_farm.answering(
        {
            "nodes": [api_farm.node("a")],
            "scaledjobs": [api_farm.scaled_job("pi1", "b")],
            "pods": [api_farm.pod("pi1", "b")],
        }
    )
    dashboard = dashboard_of(tmp_path, shared_broker, prometheus, api)
    dashboard.start()
    try:
        browser.zone("UTC")
        browser.open(f"{dashboard.url}/farm")
        # all three are well, whatever a scrape that came too late says meanwhile
        well = ".programs li:not(.ill)"
        browser.until_text(well, "KEDA asks")
        since = "Scaler answers since 2 Mar, 10:00:00"
        browser.until(lambda: since in browser.text(well).replace("Mar 2", "2 Mar"), since)
        browser.until_text(well, "Balancer runs")
        browser.until_text(".node.ill", "No node of the cluster has the label gpu-node=b.")
        browser.until_text(".lead", "none over the threshold, usage of 1 unknown")
        gpu_exporter.show("scaler", "posture_scaler_keda_age_seconds 300", "posture_balancer_up 0")
        browser.until_text(".programs .ill", "KEDA has not asked for 300 s")
        browser.until_text(".programs .ill", "Balancer does not run")
        gpu_exporter.down("scaler")
        browser.until_text(".programs .ill", "Scaler does not answer")
    finally:
        browser.open("about:blank")
        dashboard.stop()
        prometheus.stop()
        api.close()
