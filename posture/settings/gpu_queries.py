"""GPU_QUERIES: the instance, and the signals or the metric, from which each node's usage is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posture.settings import parsers
from posture.settings.parsers import NotAcceptedError, did_you_mean
from posture.settings.signals import METRIC_NAME, SCALE, Signal
from posture.settings.table import GpuQuery, NodeQuery, SignalQuery
from posture.settings.yaml_leaves import Leaf

GPU_QUERIES_VARIABLE = "POSTURE_GPU_QUERIES"
"""Environment variable with the whole map as YAML or JSON, which replaces the file's."""


def _names(value: Any) -> tuple[str, ...]:
    """Accept the name of a signal, or a list of such names without one twice."""
    names = tuple(parsers.text(name) for name in (value if isinstance(value, list) else [value]))
    if not all(names) or not names or len(set(names)) < len(names):
        raise NotAcceptedError
    return names


GPU_QUERY_KEYS: Mapping[str, tuple[parsers.Parser, str]] = {
    "instance": (parsers.label_value, "Prometheus' label instance, most often host:port"),
    "metric": METRIC_NAME,
    "scale": SCALE,
    "signal": (_names, "a signal's name, or a list of different ones"),
}


def parse_gpu_queries(
    leaves: list[Leaf], signals: Mapping[str, Signal], mistakes: list[str]
) -> dict[str, NodeQuery]:
    """Return node -> where its usage is read.

    Args:
        leaves: of the YAML below GPU_QUERIES.
        signals: every signal by its name.
        mistakes: what is wrong is appended: a node without both keys, an unknown key, an instance used twice.
    """
    shape = "accepted: node: {instance: host:port, signal: name}, or metric: name instead of signal"
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
    return _whole_gpu_queries(entries, places, signals, mistakes)


def _parse_gpu_query(entry: dict[str, Any], name: str, value: Any, where: str, mistakes: list[str]) -> None:
    parse, accepted = GPU_QUERY_KEYS[name]
    entry[name] = ""  # the key is present, even if its value is not accepted
    try:
        entry[name] = parse(value)
    except NotAcceptedError:
        mistakes.append(f"{where}: {parsers.shown(value)} is not accepted; accepted: {accepted}")


def _whole_gpu_queries(
    entries: dict[str, dict[str, Any]],
    places: dict[str, str],
    signals: Mapping[str, Signal],
    mistakes: list[str],
) -> dict[str, NodeQuery]:
    queries: dict[str, NodeQuery] = {}
    owners: dict[str, str] = {}
    for node, entry in entries.items():
        contradiction = _contradiction(entry)
        if contradiction:
            mistakes.append(f"{places[node]}: GPU_QUERIES.{node}: {contradiction}")
            continue
        instance = entry["instance"]
        if instance and instance in owners:
            mistakes.append(
                f"{places[node]}: GPU_QUERIES.{node}.instance: {instance!r} is {owners[instance]}'s already; "
                "accepted: one instance for each node"
            )
        owners.setdefault(instance, node)
        if "metric" in entry:
            queries[node] = GpuQuery(**entry)
            continue
        unknown = [name for name in entry["signal"] if name not in signals]
        mistakes.extend(
            f"{places[node]}: GPU_QUERIES.{node}.signal: {name!r} is no signal{did_you_mean(name, list(signals))}"
            for name in unknown
        )
        queries[node] = SignalQuery(instance, tuple(signals[name] for name in entry["signal"] if name in signals))
    return queries


def _contradiction(entry: Mapping[str, Any]) -> str:
    """Return what is wrong with the keys of an entry together; empty if nothing is."""
    missing = [] if "instance" in entry else ["instance"]
    if "metric" not in entry and "signal" not in entry:
        missing.append("metric or signal")
    if missing:
        return f"{', and '.join(missing)} must be given"
    if "metric" in entry and "signal" in entry:
        return "metric and signal are both given; accepted: one of them"
    if "signal" in entry and "scale" in entry:
        return "scale belongs to a metric; accepted: signals.NAME.scale"
    return ""
