"""Signals: what a node's usage is read by, under a name. Presets, and those of ``signals:`` in cluster.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from posture.settings import parsers
from posture.settings.parsers import NotAcceptedError, did_you_mean
from posture.settings.yaml_leaves import Leaf

SIGNALS_VARIABLE = "POSTURE_SIGNALS"
"""Environment variable with the whole map as YAML or JSON, which replaces the file's."""

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
LABEL_NAME = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*")
_MATCHER = r'\s*[A-Za-z_][A-Za-z0-9_]*\s*(?:=|!=|=~|!~)\s*"(?:[^"\\]|\\.)*"\s*'
SELECTOR = re.compile(rf"({parsers.METRIC_NAME.pattern})(?:\{{({_MATCHER}(?:,{_MATCHER})*,?\s*)?\}})?")
"""A metric's name, and label matchers in PromQL."""


@dataclass(frozen=True)
class Signal:
    """One kind of usage: a metric's samples, or the values of an expression, times ``scale`` are percent."""

    name: str
    metric: str = ""
    query: str = ""
    """In PromQL, instead of a metric; its series keep the label ``instance``."""
    fresh: tuple[str, ...] = ()
    """The raw metrics of an expression, each with or without matchers: the last scrape of any of them is when its
    value was measured."""
    scale: float = 0.0
    """0: by the metric's name, 100 for a ratio and 1 for all others."""
    several: str = "refuse"
    """What counts where one instance has several series: their max, avg or sum, or none of them."""
    labels: tuple[tuple[str, str], ...] = ()
    """Labels that a metric's series must have."""


CPU = (
    "max by (instance) (posture_cpu_usage_percent) or clamp(100 * (1 - avg by (instance) "
    '(sum by (instance, cpu) (irate(node_cpu_seconds_total{mode=~"idle|iowait"}[2m])))), 0, 100)'
)
"""By irate, what a scrape shows happened since the one before it: a longer average would show moves late. Our own
exporter comes first: where both have one ``instance``, the rate of a dead node_exporter lives on for a time."""

PRESETS: Mapping[str, Signal] = {
    one.name: one
    for one in (
        Signal("gpu", metric="posture_gpu_usage_percent", scale=1),
        Signal(
            "cpu",
            query=CPU,
            fresh=('node_cpu_seconds_total{mode="idle"}', "posture_cpu_usage_percent"),
            scale=1,
            several="max",
        ),
        Signal("dcgm", metric="DCGM_FI_DEV_GPU_UTIL", several="max"),
        Signal("nvidia-smi", metric="nvidia_smi_utilization_gpu_ratio", scale=100, several="max"),
        Signal("jetson", metric="jetson_gpu_usage_percent"),
    )
}


def _selectors(value: Any) -> tuple[str, ...]:
    """Accept a metric's name, also with label matchers, or a list of such."""
    given = value if isinstance(value, list) else [value]
    if not given:
        raise NotAcceptedError
    return tuple(parsers.matching(SELECTOR)(one) for one in given)


def _expression(value: Any) -> str:
    """Accept a text that may be PromQL, on one line or several. Prometheus itself says what is wrong with it."""
    given = parsers.text(value).strip()
    if not given or "\0" in given:
        raise NotAcceptedError
    return given


def _label(value: Any) -> str:
    """Accept what a label has; a number too, since ``gpu: 0`` is one in YAML."""
    return parsers.label_value(str(value) if type(value) is int else value)


METRIC_NAME = (parsers.matching(parsers.METRIC_NAME), "a metric's name: letters, digits, _ and :, no digit first")
SCALE = (
    parsers.number(0, 1_000_000),
    "what makes percent of it: 100 for a ratio, 0.1 for 0 to 1000; 0: by the metric's name",
)
KEYS: Mapping[str, tuple[parsers.Parser, str]] = {
    "metric": METRIC_NAME,
    "query": (_expression, "an expression in PromQL whose series keep the label instance"),
    "fresh": (_selectors, 'the raw metric that the query is made of, such as name or name{a="b"}, or a list'),
    "scale": SCALE,
    "several": (parsers.choice("max", "avg", "sum", "refuse"), "max, avg, sum or refuse"),
    "labels": (_label, "a label's value: a text on one line, or a whole number"),
}


SHAPE = "accepted: NAME: {metric: name}, or NAME: {query: expression, fresh: name}"


def parse_signals(leaves: list[Leaf], mistakes: list[str]) -> dict[str, Signal]:
    """Return every signal by its name: the presets, and those that are given.

    One that has a preset's name and neither ``metric`` nor ``query`` changes what it has of that preset; any other
    stands for itself.

    Args:
        leaves: of the YAML below signals.
        mistakes: what is wrong is appended.
    """
    entries: dict[str, dict[str, Any]] = {}
    places: dict[str, str] = {}
    wrong: set[str] = set()
    for where, key, value in leaves:
        if len(key) == 1 and not value:
            continue
        try:
            _take(entries, key, value)
            places.setdefault(key[1], where)
        except NotAcceptedError as mistake:
            mistakes.append(f"{where}: {'.'.join(key)}: {mistake}")
            wrong.update(key[1:2])
    found = dict(PRESETS)
    for name, entry in entries.items():
        stands_alone = name not in PRESETS or "metric" in entry or "query" in entry
        found[name] = Signal(name, **entry) if stands_alone else replace(PRESETS[name], **entry)
        contradiction = _contradiction(found[name])
        if contradiction and name not in wrong:
            mistakes.append(f"{places[name]}: signals.{name}: {contradiction}")
    return found | {name: Signal(name) for name in wrong - found.keys()}


def _take(entries: dict[str, dict[str, Any]], key: tuple[str, ...], value: Any) -> None:
    """Put one value of the map into its signal's entry.

    Raises:
        NotAcceptedError: what is wrong with it, and what is accepted.
    """
    if len(key) > 1 and not NAME.fullmatch(key[1]):
        raise NotAcceptedError(f"{key[1]!r} is no signal's name; accepted: letters, digits, - and _, up to 63")
    if len(key) == 1 or (len(key) == 2 and value):
        raise NotAcceptedError(f"{parsers.shown(value)} is not accepted; {SHAPE}")
    entry = entries.setdefault(key[1], {})
    if len(key) == 2:
        return
    name = key[2]
    if name not in KEYS:
        raise NotAcceptedError(f"unknown key{did_you_mean(name, list(KEYS))}")
    if len(key) == 3 and name == "labels" and not value:
        entry["labels"] = ()
    elif len(key) != (4 if name == "labels" else 3):
        shape = "labels: {name: value}" if name == "labels" else f"{name}: {KEYS[name][1]}"
        raise NotAcceptedError(f"{parsers.shown(value)} is not accepted; accepted: {shape}")
    elif name == "labels" and (not LABEL_NAME.fullmatch(key[3]) or key[3] == "instance"):
        accepted = "a label's name; the instance stands in GPU_QUERIES"
        raise NotAcceptedError(f"{key[3]!r} is not accepted; accepted: {accepted}")
    else:
        parsed = _parsed(name, value)
        entry[name] = (*entry.get("labels", ()), (key[3], parsed)) if name == "labels" else parsed


def _parsed(name: str, value: Any) -> Any:
    parse, accepted = KEYS[name]
    try:
        return parse(value)
    except NotAcceptedError:
        raise NotAcceptedError(f"{parsers.shown(value)} is not accepted; accepted: {accepted}") from None


def _contradiction(signal: Signal) -> str:
    """Return what is wrong with the keys of a signal together; empty if nothing is."""
    if bool(signal.metric) == bool(signal.query):
        return f"{'metric and query are both' if signal.metric else 'neither metric nor query is'} given; {SHAPE}"
    if signal.query and not signal.fresh:
        return "fresh must be given: the raw metric that the query is made of, whose scrapes say how old a value is"
    if signal.metric and signal.fresh:
        return "fresh belongs to a query; accepted beside a metric: prometheus.freshness_metric"
    if signal.query and signal.labels:
        return "labels belong to a metric; accepted: the same matchers inside the query"
    return ""
