"""The text of the one PromQL query for all nodes, and how its answer is parsed. Pure.

The query is a range selector, because that returns each sample with the time of its scrape. An instant query stamps
a value with the time of the query, so that the last value of a dead exporter looks fresh for five minutes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from posture.settings.table import GpuQuery
from posture.usage.readings import Series, SeriesByName

NOT_OF_A_GPU = frozenset(
    {"__name__", "instance", "job", "pod", "namespace", "container", "vgpu", "service", "endpoint", "pid", "user"}
)
LONGEST_MATCHER = 12_000
"""Characters. Beyond it, "any instance" replaces the list: VictoriaMetrics refuses a query of 16 KiB."""


def batched_query(queries: Mapping[str, GpuQuery], freshness_metric: str, lookback_s: float) -> str:
    """Return the query for all nodes.

    Args:
        queries: node -> metric and instance. The settings have checked both, and they are quoted all the same.
        freshness_metric: is asked for, too; empty: none.
        lookback_s: length of the range in seconds.
    """
    names = {query.metric for query in queries.values()} | {freshness_metric} - {""}
    instances = {query.instance for query in queries.values()}
    matcher = f"instance=~{_any_of(instances)}"
    if len(matcher) > LONGEST_MATCHER:
        matcher = 'instance!=""'
    return f"{{__name__=~{_any_of(names)},{matcher}}}[{math.ceil(lookback_s * 1000)}ms]"


def _any_of(texts: set[str]) -> str:
    """Return a PromQL string: a regular expression that matches these texts only (Prometheus anchors it)."""
    return json.dumps("|".join(re.escape(text) for text in sorted(texts)))


def _gpu(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the labels that tell one GPU from another: not those of who uses it, or of who asked the exporter."""
    return tuple(
        sorted(
            (name, value) for name, value in labels.items() if name not in NOT_OF_A_GPU and name[:9] != "exported_"
        )
    )


def parse_answer(body: Any, ahead_s: float) -> SeriesByName:
    """Return the series of the answer to :func:`batched_query`.

    Args:
        body: the answer of ``/api/v1/query``, decoded from JSON.
        ahead_s: by how many seconds the server's clock is ahead of ours; it is subtracted from each time.

    Raises:
        AttributeError, KeyError, OverflowError, TypeError, ValueError: it is not the answer to such a query.
    """
    if body["data"]["resultType"] != "matrix":
        raise ValueError(body["data"]["resultType"])
    found: dict[tuple[str, str], list[Series]] = {}
    for one in body["data"]["result"]:
        values = one.get("values")  # absent in a native histogram
        if values:
            times = tuple(float(at) - ahead_s for at, _ in values)
            series = Series(times, tuple(float(text) for _, text in values), _gpu(one["metric"]))
            found.setdefault((one["metric"]["__name__"], one["metric"]["instance"]), []).append(series)
    return found
