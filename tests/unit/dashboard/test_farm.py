"""Where streams run, made from what the API server and Prometheus say."""

from __future__ import annotations

import json
import time
from typing import Any

import api_farm
from driven_exporter import SCRAPED_S, GpuExporter
from servers import PrometheusServer

from posture.dashboard import farm, farm_reader
from posture.dashboard.farm import Cluster, Usage, Veto
from posture.kube.annotations import MOVES
from posture.kube.objects import Node, Pod, ScaledJob
from posture.settings import table as settings
from posture.usage.prometheus import Prometheus
from posture.usage.readings import Reading, SignalReading, UsageUnknownError

MOVE = {
    "at": "2026-03-02T09:00:00Z", "kind": "offload", "from": "a", "to": "b", "why": "a is at 61 %",
    "ready_at": "2026-03-02T09:00:12Z",
}  # fmt: skip


def shown(*scaled_jobs: dict[str, Any], pods: tuple[dict[str, Any], ...] = (), **usage: Usage) -> dict[str, Any]:
    cluster = Cluster(
        nodes=[Node.read(api_farm.node("a")), Node.read(api_farm.node("b", ready=False))],
        scaled_jobs=[ScaledJob.read(one) for one in scaled_jobs],
        pods=[Pod.read(one) for one in pods],
        events=[api_farm.event("pi1", "Moved", "to b")],
    )
    return farm.as_json(cluster, usage, [Veto("cooldown", "a", "pi1")], 50.0, {})


def test_a_stream_is_on_the_node_of_its_pod_and_one_without_a_pod_where_it_should_be() -> None:
    told = shown(
        api_farm.scaled_job("pi1", "a"), api_farm.scaled_job("pi2", "a"), api_farm.scaled_job("pi3", None),
        pods=(api_farm.pod("pi1", "b"),), a=Usage(61.0, {"gpu": 61.0}),
    )  # fmt: skip
    a, b = told["nodes"]
    assert [(one["id"], one["state"]) for one in a["streams"]] == [("pi2", "no pod")]
    assert [(one["id"], one["state"]) for one in b["streams"]] == [("pi1", "runs")]
    assert [one["id"] for one in told["unplaced"]] == ["pi3"]
    assert (a["usage"], a["state"], b["state"]) == (61.0, "Ready", "NotReady")


def test_a_pod_that_does_not_start_says_why() -> None:
    told = shown(
        api_farm.scaled_job("pi1", "a"), pods=(api_farm.pod("pi1", "a", ready=False, waiting="ErrImagePull"),)
    )
    [stream] = told["nodes"][0]["streams"]
    assert (stream["state"], stream["why"]) == ("ErrImagePull", "ErrImagePull of pi1")


def test_of_a_pod_on_a_node_that_is_not_ready_nothing_is_known() -> None:
    told = shown(api_farm.scaled_job("pi1", "b"), pods=(api_farm.pod("pi1", "b", ready=False),))
    [stream] = told["nodes"][1]["streams"]
    assert (stream["state"], stream["why"]) == ("not heard of", "its node is NotReady; it may run all the same")


def test_how_the_pod_before_has_failed_is_told_beside_the_one_that_runs() -> None:
    failed = api_farm.pod("pi1", "a", ready=False)
    failed["metadata"] |= {"name": "before", "creationTimestamp": "2026-03-02T07:00:00Z"}
    end = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-03-02T07:59:58Z"}
    failed["status"] |= {"phase": "Failed", "containerStatuses": [{"state": {"terminated": end}}]}
    told = shown(api_farm.scaled_job("pi1", "a"), pods=(failed, api_farm.pod("pi1", "a")))
    [stream] = told["nodes"][0]["streams"]
    assert stream["state"] == "runs"
    assert stream["last_end"] == {"at": 1772438398.0, "why": "OOMKilled, status 137"}


def test_moves_vetoes_and_events_have_their_reasons_newest_first() -> None:
    later = {**MOVE, "at": "2026-03-02T10:00:00Z", "to": "c"}
    told = shown(api_farm.scaled_job("pi1", "a", [MOVE, later]))
    assert [(move["to"], move["why"]) for move in told["moves"]] == [("c", "a is at 61 %"), ("b", "a is at 61 %")]
    assert told["moves"][1]["ready_at"] - told["moves"][1]["at"] == 12
    assert told["vetoes"] == [{"reason": "cooldown", "node": "a", "stream": "pi1"}]
    assert [(one["reason"], one["message"]) for one in told["events"]] == [("Moved", "to b")]


def test_annotations_that_are_no_list_of_moves_are_passed_over() -> None:
    for text in ("", "{", "[1]", '{"at": 1}', '[{"at": 5}]', '[{"at": "soon"}]', "[" * 10_000, json.dumps([{}])):
        body = api_farm.scaled_job("pi1", "a")
        body["metadata"]["annotations"][MOVES] = text
        assert shown(body)["moves"] == []


def test_a_usage_that_is_unknown_says_why() -> None:
    usage = farm.usages({"a": UsageUnknownError("a", None, "no samples for 30 s")}, {})
    assert usage == {"a": Usage(None, {}, "no samples for 30 s")}


def test_a_node_whose_signal_is_doubtful_says_so(gpu_exporter: GpuExporter, prometheus: PrometheusServer) -> None:
    gpu_exporter.show(
        "a",
        'posture_balancer_signal_looks_like_ratio{node="a",signal="own"} 1',
        'posture_balancer_signal_looks_like_ratio{node="b",signal="own"} 0',
        'posture_balancer_signal_disagrees{node="a",measured="gpu",used="cpu"} 1',
    )
    asked = Prometheus(settings.Prometheus(url=prometheus.url, timeout_s=20.0), {})
    deadline = time.monotonic() + SCRAPED_S
    while not (doubts := farm.doubts(asked.vector(farm_reader.DOUBTS))):  # a scrape that came too late has none
        assert time.monotonic() < deadline
        time.sleep(0.05)
    reading = Reading({"own": SignalReading(0.7, 0.0, ())})
    a, b = shown(**farm.usages({"a": reading, "b": reading}, doubts))["nodes"]
    ratio = "own looks like a ratio from 0 to 1"
    assert a["doubts"] == [ratio, "its gpu is measured, its streams run on the cpu"]
    assert b["doubts"] == []


def test_without_an_api_server_the_analyzers_themselves_say_where_they_are() -> None:
    told = farm.as_json(Cluster(), {}, [], 50.0, {"pi2": "edge-1", "pi10": "edge-1", "pi1": ""})
    assert [(node["name"], [one["id"] for one in node["streams"]]) for node in told["nodes"]] == [
        ("edge-1", ["pi2", "pi10"])
    ]
