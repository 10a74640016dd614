"""What preflight says of signals that look like ratios; what streams run on: tests/scripts, tests/cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest
from identities import retained
from servers import Mosquitto

from posture.kube import affinity, labels
from posture.lifecycle.preflight import signals
from posture.lifecycle.preflight.cluster import check_metrics
from posture.lifecycle.preflight.findings import Intent, Survey
from posture.settings.signals import PRESETS, Signal
from posture.settings.table import GpuQuery, Mqtt, Prometheus, Settings, SignalQuery
from posture.usage.readings import Reading, SignalReading


def scaled_job(node: str, *, active: bool) -> dict[str, Any]:
    pod = {"affinity": affinity.with_node(None, node)}
    return {
        "metadata": {"name": "s", "uid": "u", "generation": 1},
        "spec": {"jobTargetRef": {"template": {"spec": pod}}},
        "status": {"conditions": [{"type": "Active", "status": str(active)}]},
    }


def shown(*values: float, step_s: float = 10.0) -> Reading:
    scrapes = tuple((number * step_s, value) for number, value in enumerate(values))
    return Reading({"gpu_percent": SignalReading(scrapes[-1][1], scrapes[-1][0], scrapes)})


@pytest.mark.parametrize(
    ("reading", "active", "named"),
    [
        pytest.param(shown(0.5, 0.9, 0.0, 0.7), True, True, id="a ratio"),
        pytest.param(shown(0.5, 9.0, 0.0, 0.7), True, False, id="percent"),
        pytest.param(shown(0.5, 0.9, 0.0, 0.7), False, False, id="no stream runs there"),
        pytest.param(shown(0.5, 0.9, step_s=5.0), True, False, id="too short a time"),
    ],
)
def test_a_signal_that_looks_like_a_ratio_where_a_stream_runs_is_a_warning(
    reading: Reading, active: bool, named: bool
) -> None:
    settings = Settings(gpu_queries={"agx": GpuQuery("agx:1", "gpu_percent")})
    survey = Survey(scaled_jobs={"pi1": scaled_job("agx", active=active)}, readings={"agx": reading})
    found = list(signals.like_ratios(settings, survey))
    assert [finding.warning for finding in found] == [True] * named
    if found:
        assert found[0].what.startswith("agx: gpu_percent looks like a ratio: for 60 s it was never above 1")
        assert found[0].mend.startswith("in cluster.yaml, GPU_QUERIES.agx.scale: 100")


@pytest.mark.usefixtures("patience")
def test_a_stream_that_was_told_to_use_the_gpu_and_uses_the_cpu_is_a_warning(mosquitto: Mosquitto) -> None:
    said = {
        "pi1": {"state": "online", "delegate": "cpu", "delegate_asked": "gpu"},
        "pi2": {"state": "online", "delegate": "cpu", "delegate_asked": "auto"},
    }
    retained(mosquitto.port, {f"status/{stream}": json.dumps(one).encode() for stream, one in said.items()})
    settings = Settings(mqtt=Mqtt(url=f"mqtt://127.0.0.1:{mosquitto.port}"))
    live = {stream: scaled_job("agx", active=True) for stream in said}
    for stream, item in live.items():
        item["metadata"]["labels"] = {labels.STREAM: stream}
    (finding,) = signals.as_they_run(Intent(settings, {}), Survey(scaled_jobs=live))
    assert finding.warning
    assert finding.what.startswith("pi1 was told to use the GPU, and uses the CPU of agx")


def test_a_metric_that_is_called_a_ratio_is_a_warning_before_any_stream_runs() -> None:
    settings = Settings(gpu_queries={"agx": GpuQuery("agx:1", "gpu_ratio")})
    (finding,) = signals.called_ratios(settings)
    assert finding.warning
    assert "gpu_ratio looks like a ratio: its name says so" in finding.what


def test_a_node_whose_signals_are_unknown_comes_with_what_prometheus_can_be_asked() -> None:
    own = Signal("own", query='100 * busy{core="0"}', fresh=("busy",))
    queries = {"agx": SignalQuery("agx", (PRESETS["gpu"], own))}
    settings = Settings(prometheus=Prometheus(url="http://127.0.0.1:9"), gpu_queries=queries)
    (finding,) = check_metrics(Intent(settings, {}), Survey())
    assert finding.what == (
        "no GPU usage of agx: Prometheus at http://127.0.0.1:9 can't be reached: Connection refused"
    ), "once, and not for each signal"
    assert (
        "'query=posture_gpu_usage_percent or (100 * busy{core=\"0\"})'   (it must show instance agx)"
        in finding.mend
    )
