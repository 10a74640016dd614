"""The PromQL queries for all nodes, and how their answers are parsed. Pure.

A metric is asked for by a range selector, because that returns each sample with the time of its scrape. An instant
query stamps a value with the time of the query, so that the last value of a dead exporter looks fresh for five
minutes. For the same reason an expression is asked for together with the times of its raw metric's scrapes.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from posture.settings.signals import Signal
from posture.usage.instances import any_of, matcher
from posture.usage.series import Series, SeriesByInstance

NOT_OF_A_GPU = frozenset(
    {"__name__", "instance", "job", "pod", "pod_uid", "namespace", "container", "vgpu", "hpc_job", "service"}
    | {"endpoint", "pid", "user", "Hostname"}
)
"""Labels of who uses the GPU, or of who asked the exporter; dcgm-exporter's Hostname is that of its own pod."""
PART = "posture_part"
"""The label that tells an expression's values, ``value``, from the times of its raw metrics' scrapes."""


def batched_query(metrics: Collection[str], instances: Collection[str], lookback_s: float) -> str:
    """Return one query for the samples of several metrics.

    Args:
        metrics: their names. The settings have checked them, and they are quoted all the same.
        instances: as GPU_QUERIES has them.
        lookback_s: length of the range in seconds.
    """
    return f"{{__name__=~{any_of(metrics)},{matcher(instances)}}}[{_ms(lookback_s)}]"


def signal_query(signal: Signal, instances: Collection[str], lookback_s: float, scrape_interval_s: float) -> str:
    """Return the query for one signal of all its nodes.

    Args:
        signal: what is measured.
        instances: as GPU_QUERIES has them.
        lookback_s: length of the range in seconds.
        scrape_interval_s: an expression is evaluated twice as often, so that no scrape is missed.
    """
    if signal.metric:
        labels = "".join(f",{name}={json.dumps(value)}" for name, value in signal.labels)
        return f"{{__name__={json.dumps(signal.metric)},{matcher(instances)}{labels}}}[{_ms(lookback_s)}]"
    # a comment at the end of the expression must not hide the bracket
    parts = {"value": f"({signal.query}\n)"}
    for number, selector in enumerate(signal.fresh):
        parts[str(number)] = f"max by (instance) (timestamp({_with(selector, matcher(instances))}))"
    all_of_them = " or ".join(f'label_replace({text}, "{PART}", "{part}", "", "")' for part, text in parts.items())
    return f"({all_of_them})[{_ms(lookback_s)}:{_ms(scrape_interval_s / 2)}]"


def _with(selector: str, more: str) -> str:
    """Return a selector with one more matcher."""
    name, _, inner = selector.partition("{")
    return f"{name}{{{more},{inner or '}'}"


def _ms(seconds: float) -> str:
    return f"{math.ceil(seconds * 1000)}ms"


def parse_answer(body: Any, ahead_s: float) -> Mapping[str, SeriesByInstance]:
    """Return metric -> instance -> the series of the answer to :func:`batched_query`.

    Args:
        body: the answer of ``/api/v1/query``, decoded from JSON.
        ahead_s: by how many seconds the server's clock is ahead of ours; it is subtracted from each time.

    Raises:
        AttributeError, KeyError, OverflowError, TypeError, ValueError: it is not the answer to such a query.
    """
    found: dict[str, dict[str, list[Series]]] = {}
    for one in _result(body):
        labels, times, values = one["metric"], [], []
        for at, text in one.get("values", ()):  # absent in a native histogram
            times.append(float(at) - ahead_s)
            values.append(float(text))
        if times:
            series = Series(tuple(times), tuple(values), labels["instance"], _gpu(labels))
            found.setdefault(labels["__name__"], {}).setdefault(series.instance, []).append(series)
    return found


def parse_signal(signal: Signal, body: Any, ahead_s: float) -> SeriesByInstance:
    """Return instance -> the series of the answer to :func:`signal_query`.

    The samples of an expression get the time of the newest scrape that they were made of; those that were made of
    none are left out.

    Args:
        signal: what was asked for.
        body: as in :func:`parse_answer`, which says what is raised.
        ahead_s: as there.
    """
    if signal.metric:
        return parse_answer(body, ahead_s).get(signal.metric, {})
    scraped: dict[str, dict[float, float]] = defaultdict(dict)
    valued: list[tuple[Mapping[str, str], dict[float, float]]] = []
    for one in _result(body):
        labels = one["metric"]
        values = {float(at): float(text) for at, text in one.get("values", ())}
        if labels[PART] == "value":
            valued.append((labels, values))
            continue
        times = scraped[labels["instance"]]
        for at, scrape in values.items():
            times[at] = max(scrape, times.get(at, scrape))
    found: dict[str, list[Series]] = {}
    for labels, values in valued:
        scrapes = scraped.get(labels.get("instance", ""), {})
        # of several evaluations between two scrapes the last one stays
        samples = {scrapes[at] - ahead_s: value for at, value in sorted(values.items()) if at in scrapes}
        if samples:
            ordered = sorted(samples)
            series = Series(
                tuple(ordered), tuple(samples[scrape] for scrape in ordered), labels["instance"], _gpu(labels)
            )
            found.setdefault(series.instance, []).append(series)
    return found


def _result(body: Any) -> Any:
    if body["data"]["resultType"] != "matrix":
        raise ValueError(body["data"]["resultType"])
    return body["data"]["result"]


def _gpu(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the labels that tell one GPU of an instance from another."""
    return tuple(
        sorted(
            (name, value)
            for name, value in labels.items()
            if name not in NOT_OF_A_GPU and name != PART and name[:9] != "exported_"
        )
    )
