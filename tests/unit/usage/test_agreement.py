"""A node that is balanced by what its streams don't use is named; one that can't be judged is not."""

from __future__ import annotations

import pytest

from posture.settings.signals import PRESETS
from posture.settings.table import GpuQuery, SignalQuery
from posture.usage.agreement import disagreements, processors


def query(metric: str) -> GpuQuery:
    return GpuQuery("192.0.2.11:9100", metric)


@pytest.mark.parametrize(
    ("metric", "measures"),
    [
        ("jetson_gpu_usage_percent", {"gpu"}),
        ("DCGM_FI_DEV_GPU_UTIL", {"gpu"}),
        ("nvidia_smi_utilization_gpu_ratio", {"gpu"}),
        ("node_cpu_seconds_total", {"cpu"}),
        ("usage_percent", set()),
    ],
)
def test_a_metrics_name_tells_what_it_measures(metric: str, measures: set[str]) -> None:
    assert processors(query(metric)) == measures


@pytest.mark.parametrize(
    ("signals", "measure"),
    [
        (["gpu"], {"gpu"}),
        (["cpu"], {"cpu"}),
        (["jetson"], {"gpu"}),
        (["dcgm"], {"gpu"}),
        (["nvidia-smi"], {"gpu"}),
        (["gpu", "cpu"], {"gpu", "cpu"}),
    ],
)
def test_a_preset_tells_what_it_measures(signals: list[str], measure: set[str]) -> None:
    assert processors(SignalQuery("192.0.2.11", tuple(PRESETS[name] for name in signals))) == measure


def test_streams_that_run_on_what_their_node_is_not_balanced_by_are_named_with_what_to_change() -> None:
    queries = {"orin": query("gpu_percent"), "nano": query("gpu_percent"), "agx": query("cpu_percent")}
    places = {"pi1": "orin", "pi10": "nano", "pi2": "nano", "pi3": "agx", "pi4": "agx"}
    delegates = {"pi1": "gpu", "pi10": "cpu", "pi2": "cpu", "pi3": "gpu"}
    nano, agx = disagreements(queries, places, delegates)
    assert str(nano) == (
        "nano is balanced by its GPU, and pi2, pi10 run on its CPU: moving changes nothing that is measured; "
        "set GPU_QUERIES.nano to signal: [gpu, cpu], or let its streams use the GPU (docs/boards.md)"
    )
    assert str(agx) == (
        "agx is balanced by its CPU, and pi3 runs on its GPU: moving changes nothing that is measured; "
        "set GPU_QUERIES.agx to signal: [gpu, cpu]"
    )


def test_what_cannot_be_told_is_not_accused() -> None:
    queries = {"orin": query("usage"), "nano": query("gpu_percent")}
    places = {"pi1": "orin", "pi2": "nano", "pi3": "elsewhere"}
    assert disagreements(queries, places, {"pi1": "cpu", "pi3": "cpu"}) == []
