"""Ratios and loads of 0 to 1000 are never read as percent."""

from __future__ import annotations

import dataclasses

import pytest

from posture.settings.signals import Signal
from posture.settings.table import GpuQuery, NodeQuery, SignalQuery
from posture.usage.readings import Answer, Reader, Reading
from posture.usage.series import Series

NOW = 1000.0


def read(reader: Reader, metric: str, *values: float, scale: float = 0.0) -> float | str:
    """What a node's usage is by these samples; or why it is unknown."""
    return read_by(reader, GpuQuery("node:1", metric, scale), *values)


def read_by(reader: Reader, query: NodeQuery, *values: float) -> float | str:
    times = tuple(NOW - 5 * (len(values) - index) for index in range(len(values)))
    (signal,) = query.signals
    answer = Answer(NOW, {"node:1": [Series(times, values, "node:1")]})
    found = reader.read({"agx": query}, {signal: answer}, {})["agx"]
    return found.value if isinstance(found, Reading) else str(found)


@pytest.fixture
def reader() -> Reader:
    return Reader(100.0, "")


@pytest.mark.parametrize("metric", ["nvidia_smi_utilization_gpu_ratio", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"])
def test_what_is_called_a_ratio_is_one(reader: Reader, metric: str) -> None:
    assert read(reader, metric, 0.1, 0.75) == 75.0
    assert read(reader, metric, 0.0, 1.0) == 100.0
    assert "is 4200; accepted: 0 to 100" in str(read(reader, metric, 42.0))


def test_fractions_of_a_metric_without_a_unit_are_refused_until_it_has_shown_more_than_1(reader: Reader) -> None:
    refused = read(reader, "gpu_load", 0.2, 0.75)
    assert "may be a ratio from 0 to 1; accepted: GPU_QUERIES.agx.scale: 100 if it is one, 1 if" in str(refused)
    assert read(reader, "gpu_load", 0.2, 0.75, scale=100) == 75.0
    assert read(reader, "gpu_load", 0.2, 0.75, scale=1) == 0.75
    assert read(reader, "gpu_load", 0.0, 1.0) == 1.0, "whole numbers are percent"
    assert read(reader, "gpu_load", 30.0, 0.5) == 0.5
    assert read(reader, "gpu_load", 0.5) == 0.5, "it is known by now"


@pytest.mark.parametrize("metric", ["jetson_gpu_usage_percent", "DCGM_FI_DEV_GPU_UTIL"])
def test_an_idle_gpu_by_a_metric_that_says_percent_is_idle(reader: Reader, metric: str) -> None:
    assert read(reader, metric, 0.2, 0.4) == 0.4


def test_a_load_of_0_to_1000_is_refused_also_while_it_is_small(reader: Reader) -> None:
    assert "is 437; accepted: 0 to 100" in str(read(reader, "gpu_load", 437.0))
    refused = read(reader, "gpu_load", 50.0)
    assert "was above 200 before; accepted: percent, or GPU_QUERIES.agx.scale: 0.1" in str(refused)
    assert read(reader, "gpu_load", 50.0, scale=0.1) == 5.0
    assert "nan" in str(read(reader, "other", float("nan")))
    assert read(reader, "other", 50.0) == 50.0, "a value that is no number says nothing"


def test_of_two_exporters_of_a_host_one_that_hangs_makes_it_unknown(reader: Reader) -> None:
    query = SignalQuery("node", (Signal("own", metric="gpu_percent", several="max"),))
    moving = {port: Series((NOW - 5, NOW), (1.0, 2.0), port) for port in ("node:1", "node:2")}
    usage = {port: [Series((NOW - 5, NOW), (20.0, 30.0), port)] for port in moving}
    hanging = Series((NOW - 5, NOW - 4, NOW), (1.0, 1.0, 1.0), "node:2")
    told = {query.signals[0]: Answer(NOW, usage)}
    strict = Reader(4.0, "measured_at")
    assert isinstance(
        strict.read({"agx": query}, told, {port: [one] for port, one in moving.items()})["agx"], Reading
    )
    found = strict.read({"agx": query}, told, {"node:1": [moving["node:1"]], "node:2": [hanging]})["agx"]
    assert "measured_at beside it has stood still for 5.0 s" in str(found)


@pytest.mark.parametrize(
    ("query", "read"),
    [
        pytest.param(
            "1 - rate(idle[1m])", "may be a ratio from 0 to 1; accepted: signals.own.scale: 100", id="ratio"
        ),
        pytest.param("100 * (1 - rate(idle[1m]))", 0.4, id="percent"),
        pytest.param("1 - rate(idle_100[1m]) / 1000", "may be a ratio", id="a name with 100 in it"),
    ],
)
def test_an_expression_is_percent_where_it_says_100(reader: Reader, query: str, read: float | str) -> None:
    signal = Signal("own", query=query, fresh=("idle",))
    found = read_by(reader, SignalQuery("node:1", (signal,)), 0.2, 0.4)
    assert found == read or str(read) in str(found)
    known = SignalQuery("node:1", (dataclasses.replace(signal, scale=100),))
    assert read_by(reader, known, 0.2, 0.4) == 40.0
