"""The one query for all nodes, sent to a real Prometheus."""

from __future__ import annotations

import dataclasses

from driven_exporter import METRIC, gpu_queries, instance_of
from loopback_servers import CountingProxy
from measured_farm import MeasuredFarm, sample, settings_for

from posture.settings.table import GpuQuery
from posture.usage.prometheus import Prometheus
from posture.usage.readings import Reading, UsageUnknownError


def test_all_nodes_are_read_with_one_query(farm: MeasuredFarm) -> None:
    a, b, c = farm.nodes(3)
    farm.exporter.set(a, 10)
    farm.exporter.set(b, 20, metric="jetson_gpu_load", node=b)
    farm.exporter.set(c, 30)
    for node in (a, b, c):
        farm.exporter.wait_for_scrapes(node)
    with CountingProxy(farm.server.port) as proxy:
        queries = {**gpu_queries(a, c), **gpu_queries(b, metric="jetson_gpu_load")}
        asked = Prometheus(dataclasses.replace(settings_for(farm.server), url=proxy.url), queries)
        found = asked.sample()
    assert {node: one.value for node, one in found.items() if isinstance(one, Reading)} == {
        a: 10,
        b: 20,
        c: 30,
    }
    assert proxy.requests == ["POST /api/v1/query"]


def test_a_hostile_name_that_got_past_the_settings_matches_nothing(farm: MeasuredFarm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 10)
    farm.exporter.wait_for_scrapes(a)
    instance = instance_of(a)
    for query in (
        GpuQuery(f'{instance}"}} or vector(1) #', METRIC),
        GpuQuery(f"{instance}|.*", METRIC),
        GpuQuery(instance.replace(".", "X"), METRIC),
        GpuQuery(instance, METRIC + '",instance=~".*'),
        GpuQuery(instance + "\\", METRIC),
    ):
        found = Prometheus(settings_for(farm.server), {a: query}).sample()[a]
        assert isinstance(found, UsageUnknownError)
        assert "is not there" in str(found)


def test_a_thousand_nodes_are_one_query(farm: MeasuredFarm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 10)
    farm.exporter.wait_for_scrapes(a)
    nodes = [f"other-{number}" for number in range(999)]
    found = sample(farm.server, a, *nodes)
    assert isinstance(found[a], Reading)
    assert all("is not there" in str(found[node]) for node in nodes)
