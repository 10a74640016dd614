"""GPU_QUERIES: the instance and the metric from which each node's usage is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posture.settings import parsers
from posture.settings.parsers import NotAcceptedError, did_you_mean
from posture.settings.table import GpuQuery
from posture.settings.yaml_leaves import Leaf

GPU_QUERIES_VARIABLE = "POSTURE_GPU_QUERIES"
"""Environment variable with the whole map as YAML or JSON, which replaces the file's."""

GPU_QUERY_KEYS: Mapping[str, tuple[parsers.Parser, str]] = {
    "instance": (parsers.label_value, "Prometheus' label instance, most often host:port"),
    "metric": (parsers.matching(parsers.METRIC_NAME), "a metric's name: letters, digits, _ and :, no digit first"),
    "scale": (
        parsers.number(0, 1_000_000),
        "what makes percent of it: 100 for a ratio, 0.1 for 0 to 1000; 0: by the metric's name",
    ),
}
OPTIONAL = {"scale"}


def parse_gpu_queries(leaves: list[Leaf], mistakes: list[str]) -> dict[str, GpuQuery]:
    """Return node -> where its usage is read.

    Args:
        leaves: of the YAML below GPU_QUERIES.
        mistakes: what is wrong is appended: a node without both keys, an unknown key, an instance used twice.
    """
    shape = "accepted: node: {instance: host:port, metric: name}"
    entries: dict[str, dict[str, Any]] = {}
    places: dict[str, str] = {}
    for where, key, value in leaves:
        dotted = ".".join(key)
        if len(key) == 1 and not value:
            continue
        if len(key) == 1 or len(key) > 3:
            mistakes.append(f"{where}: {dotted}: {parsers.shown(value)} is not accepted; {shape}")
            continue
        node = key[1]
        if node not in entries and not parsers.NODE_NAME.fullmatch(node):
            mistakes.append(
                f"{where}: GPU_QUERIES: {node!r} is no node's name; accepted: a-z, 0-9, - and ., up to 63"
            )
        if len(key) == 2 and value:
            mistakes.append(f"{where}: {dotted}: {parsers.shown(value)} is not accepted; {shape}")
            continue
        entries.setdefault(node, {})
        places.setdefault(node, where)
        if len(key) == 2:
            continue
        if key[2] not in GPU_QUERY_KEYS:
            mistakes.append(f"{where}: {dotted}: unknown key{did_you_mean(key[2], list(GPU_QUERY_KEYS))}")
        else:
            _parse_gpu_query(entries[node], key[2], value, f"{where}: {dotted}", mistakes)
    return _whole_gpu_queries(entries, places, mistakes)


def _parse_gpu_query(entry: dict[str, Any], name: str, value: Any, where: str, mistakes: list[str]) -> None:
    parse, accepted = GPU_QUERY_KEYS[name]
    entry[name] = ""  # the key is present, even if its value is not accepted
    try:
        entry[name] = parse(value)
    except NotAcceptedError:
        mistakes.append(f"{where}: {parsers.shown(value)} is not accepted; accepted: {accepted}")


def _whole_gpu_queries(
    entries: dict[str, dict[str, Any]], places: dict[str, str], mistakes: list[str]
) -> dict[str, GpuQuery]:
    queries: dict[str, GpuQuery] = {}
    owners: dict[str, str] = {}
    for node, entry in entries.items():
        missing = [name for name in GPU_QUERY_KEYS if name not in entry and name not in OPTIONAL]
        if missing:
            mistakes.append(f"{places[node]}: GPU_QUERIES.{node}: {' and '.join(missing)} must be given")
            continue
        instance = entry["instance"]
        if instance and instance in owners:
            mistakes.append(
                f"{places[node]}: GPU_QUERIES.{node}.instance: {instance!r} is {owners[instance]}'s already; "
                "accepted: one instance for each node"
            )
        owners.setdefault(instance, node)
        queries[node] = GpuQuery(**entry)
    return queries
