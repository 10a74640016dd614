"""Signals and what names them: presets, changed and new ones, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from posture.errors import UserError
from posture.settings import loading
from posture.settings.signals import PRESETS, SIGNALS_VARIABLE, Signal
from posture.settings.table import GpuQuery, SignalQuery


def load(tmp_path: Path, text: str, **environ: str) -> dict[str, object]:
    (tmp_path / "cluster.yaml").write_text(text)
    return dict(loading.load(tmp_path / "cluster.yaml", environ).gpu_queries)


def mistakes(tmp_path: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(UserError) as error:
        load(tmp_path, text, **environ)
    return [line.removeprefix(f"{tmp_path}/") for line in str(error.value).splitlines()]


def test_presets_are_known_without_being_given_and_the_old_form_stands_beside_them(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        "GPU_QUERIES:\n"
        "  a: {instance: 'h1', signal: [gpu, cpu]}\n"
        "  b: {instance: 'h2:9400', signal: dcgm}\n"
        "  c: {instance: 'h3:9100', metric: jetson_gpu_usage_percent}\n",
    )
    assert found == {
        "a": SignalQuery("h1", (PRESETS["gpu"], PRESETS["cpu"])),
        "b": SignalQuery("h2:9400", (PRESETS["dcgm"],)),
        "c": GpuQuery("h3:9100", "jetson_gpu_usage_percent"),
    }
    assert set(PRESETS) == {"gpu", "cpu", "dcgm", "nvidia-smi", "jetson"}


def test_a_preset_is_changed_key_by_key_or_replaced_and_others_are_added(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        "signals:\n"
        "  dcgm: {labels: {gpu: 0, modelName: NVIDIA A2}, several: avg}\n"
        "  nvidia-smi: {metric: nvidia_smi_utilization_gpu_ratio, scale: 100}\n"
        "  cpu: {query: '100 * busy', fresh: [busy, 'also{a=~\"b|c\", d!=\"}\",}']}\n"
        "  jetson:\n"
        "  own:\n    query: |\n      100 *\n      busy  # of all\n    fresh: busy\n"
        "GPU_QUERIES:\n  a: {instance: h, signal: [dcgm, nvidia-smi, cpu, own, jetson]}\n",
    )
    assert found["a"] == SignalQuery(
        "h",
        (
            Signal(
                "dcgm",
                metric="DCGM_FI_DEV_GPU_UTIL",
                several="avg",
                labels=(("gpu", "0"), ("modelName", "NVIDIA A2")),
            ),
            Signal("nvidia-smi", metric="nvidia_smi_utilization_gpu_ratio", scale=100),
            Signal("cpu", query="100 * busy", fresh=("busy", 'also{a=~"b|c", d!="}",}')),
            Signal("own", query="100 *\nbusy  # of all", fresh=("busy",)),
            PRESETS["jetson"],
        ),
    )


def test_the_environment_replaces_the_files_map_of_signals(tmp_path: Path) -> None:
    text = "signals: {own: {metric: a}}\nGPU_QUERIES: {n: {instance: h, signal: own}}\n"
    found = load(tmp_path, text, **{SIGNALS_VARIABLE: '{"own": {"metric": "b"}}'})
    assert found["n"] == SignalQuery("h", (Signal("own", metric="b"),))
    (said,) = mistakes(tmp_path, text, **{SIGNALS_VARIABLE: "{other: {metric: b}}"})
    assert said.startswith("cluster.yaml:2: GPU_QUERIES.n.signal: 'own' is no signal; known: gpu, cpu, dcgm")
    (said,) = mistakes(tmp_path, text, **{SIGNALS_VARIABLE: "{own: {metric: 1}}"})
    assert said.startswith(f"environment: {SIGNALS_VARIABLE}:1: signals.own.metric: 1 is not accepted")


def test_the_map_that_scripts_show_has_signals_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = "{a: {instance: h, signal: [gpu, cpu]}, b: {instance: 'h:1', signal: gpu}}"
    monkeypatch.setenv("POSTURE_GPU_QUERIES", queries)
    assert loading.GpuQueries() == {
        "a": {"instance": "h", "signal": ["gpu", "cpu"]},
        "b": {"instance": "h:1", "signal": "gpu"},
    }


SHAPE = "accepted: NAME: {metric: name}, or NAME: {query: expression, fresh: name}"


@pytest.mark.parametrize(
    ("signal", "said"),
    [
        ("{}", f"signals.x: neither metric nor query is given; {SHAPE}"),
        ("{scale: 1}", f"signals.x: neither metric nor query is given; {SHAPE}"),
        ("{metric: m, query: q, fresh: f}", f"signals.x: metric and query are both given; {SHAPE}"),
        ("{query: q}", "signals.x: fresh must be given: the raw metric that the query is made of"),
        ("{metric: m, fresh: f}", "signals.x: fresh belongs to a query; accepted beside a metric: prometheus."),
        (
            "{query: q, fresh: f, labels: {a: b}}",
            "signals.x: labels belong to a metric; accepted: the same matchers",
        ),
        ("gpu", f"signals.x: 'gpu' is not accepted; {SHAPE}"),
        (
            "{metric: 'up or vector(0)'}",
            "signals.x.metric: 'up or vector(0)' is not accepted; accepted: a metric's",
        ),
        ("{query: '', fresh: f}", "signals.x.query: '' is not accepted; accepted: an expression in PromQL"),
        ("{query: q, fresh: []}", "signals.x.fresh: [] is not accepted; accepted: the raw metric that"),
        ("{query: q, fresh: 'f{a=b}'}", "signals.x.fresh: 'f{a=b}' is not accepted; accepted: the raw metric that"),
        ("{query: q, fresh: 'f{} or g'}", "signals.x.fresh: 'f{} or g' is not accepted; accepted: the raw metric"),
        ("{query: q, fresh: {a: b}}", "signals.x.fresh.a: 'b' is not accepted; accepted: fresh: the raw"),
        (
            "{metric: m, several: most}",
            "signals.x.several: 'most' is not accepted; accepted: max, avg, sum or refuse",
        ),
        ("{metric: m, scale: -1}", "signals.x.scale: -1 is not accepted; accepted: what makes percent of it"),
        ("{metric: m, labels: gpu}", "signals.x.labels: 'gpu' is not accepted; accepted: labels: {name: value}"),
        (
            "{metric: m, labels: {instance: h}}",
            "signals.x.labels.instance: 'instance' is not accepted; accepted: a l",
        ),
        ("{metric: m, labels: {__name__: h}}", "signals.x.labels.__name__: '__name__' is not accepted"),
        ("{metric: m, labels: {gpu: [0]}}", "signals.x.labels.gpu: [0] is not accepted; accepted: a label's value"),
        ("{metric: m, lables: {gpu: 0}}", "signals.x.lables.gpu: unknown key; did you mean labels?"),
    ],
)
def test_a_mistake_in_a_signal_is_told_once_with_its_line(tmp_path: Path, signal: str, said: str) -> None:
    text = f"GPU_QUERIES: {{n: {{instance: h, signal: x}}}}\nsignals:\n  x: {signal}\n"
    (line,) = mistakes(tmp_path, text)
    assert line.startswith(f"cluster.yaml:3: {said}")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{instance: h, signal: gpus}", ".signal: 'gpus' is no signal; did you mean gpu?"),
        ("{instance: h, signal: []}", ".signal: [] is not accepted; accepted: a signal's name, or a list"),
        ("{instance: h, signal: [gpu, gpu]}", ".signal: ['gpu', 'gpu'] is not accepted"),
        ("{instance: h, signal: [gpu, 7]}", ".signal: ['gpu', 7] is not accepted"),
        ("{instance: h, signal: gpu, metric: m}", ": metric and signal are both given; accepted: one of them"),
        ("{instance: h, signal: gpu, scale: 100}", ": scale belongs to a metric; accepted: signals.NAME.scale"),
        ("{signal: gpu}", ": instance must be given"),
    ],
)
def test_a_mistake_in_what_a_node_is_read_by_is_told_once(tmp_path: Path, entry: str, said: str) -> None:
    (line,) = mistakes(tmp_path, f"GPU_QUERIES:\n  n: {entry}\n")
    assert line.startswith(f"cluster.yaml:2: GPU_QUERIES.n{said}")


@pytest.mark.parametrize("text", ["signals: gpu", "signals: [gpu]", "signals: {'a b': {metric: m}}"])
def test_a_map_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (line,) = mistakes(tmp_path, text)
    assert line.startswith("cluster.yaml:1: signals")
    assert "accepted: " in line
