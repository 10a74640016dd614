"""Signals that look like ratios are named where streams run, and no others are."""

from __future__ import annotations

import pytest

from posture.settings.signals import PRESETS, Signal
from posture.settings.table import GpuQuery, NodeQuery, SignalQuery
from posture.usage.ratios import WHILE_S, RatioWatch, by_name

QUERIES: dict[str, NodeQuery] = {
    "agx": GpuQuery("agx:9100", "gpu_percent"),
    "nano": SignalQuery("nano", (PRESETS["gpu"], PRESETS["jetson"])),
}


def suspected(
    watch: RatioWatch, *windows: float, busy: str = "agx", node: str = "agx", step_s: float = 30.0
) -> str:
    """What is said after windows of these values, one after the other."""
    (signal,) = {"agx": ["gpu_percent"], "nano": ["jetson"]}[node]
    said = ""
    for number, value in enumerate(windows):
        values = {node: {signal: [0.0, value]}}
        found = watch.see(QUERIES, values, {busy}, number * step_s, (number + 1) * step_s)
        said = "\n".join(map(str, found))
    return said


def test_a_busy_node_that_shows_nothing_above_1_for_a_while_is_named_with_what_to_set() -> None:
    assert suspected(RatioWatch(), 0.7, 0.9, 1.0) == (
        "agx: gpu_percent looks like a ratio: for 90 s it was never above 1, and streams run there; "
        "GPU_QUERIES.agx.scale: 100 if it is one, 1 if it is percent"
    )
    assert "; signals.jetson.scale: 100 if" in suspected(RatioWatch(), 0.7, 0.9, node="nano", busy="nano")


@pytest.mark.parametrize(
    "windows",
    [
        pytest.param((0.7,), id="a moment"),
        pytest.param((0.0, 0.0, 0.0), id="nothing at all"),
        pytest.param((0.7, 1.5, 0.7), id="more than 1 meanwhile"),
    ],
)
def test_what_may_well_be_percent_is_not_named(windows: tuple[float, ...]) -> None:
    assert suspected(RatioWatch(), *windows) == ""


def test_a_node_without_streams_may_be_idle_and_its_time_begins_when_they_come() -> None:
    watch = RatioWatch()
    assert suspected(watch, 0.7, 0.7, 0.7, busy="nano") == ""
    assert suspected(watch, 0.7) == ""
    assert 30 < WHILE_S <= 60
    assert suspected(watch, 0.7, 0.7) != ""


@pytest.mark.parametrize("query", [GpuQuery("agx:9100", "gpu", 1), SignalQuery("agx", (PRESETS["cpu"],))])
def test_a_signal_whose_scale_is_known_is_not_named(query: NodeQuery) -> None:
    (signal,) = query.signals
    found = RatioWatch().see({"agx": query}, {"agx": {signal.name: [0.7]}}, {"agx"}, 0.0, 100.0)
    assert found == []


def test_a_metric_that_is_called_a_ratio_and_has_no_scale_is_named_once_for_all_its_nodes() -> None:
    queries: dict[str, NodeQuery] = {
        **{f"n{number}": GpuQuery(f"n{number}:1", "gpu_utilization_ratio") for number in range(7)},
        "scaled": GpuQuery("s:1", "gpu_utilization_ratio", 100),
        "own": SignalQuery("o:1", (Signal("own", metric="busy_ratio"), PRESETS["nvidia-smi"])),
    }
    metric, own = map(str, by_name(queries))
    assert metric == (
        "n0, n1, n2, n3, n4 and 2 more: gpu_utilization_ratio looks like a ratio: its name says so, and so it is "
        "read as a share of 1; GPU_QUERIES.n0.scale: 100 if it is one, 1 if not"
    )
    assert own.startswith("own: own looks like a ratio")
    assert own.endswith("; signals.own.scale: 100 if it is one, 1 if not")
