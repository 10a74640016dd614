"""Which of Prometheus' labels ``instance`` a node's own is: the same, or the same host with any port. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

LONGEST_MATCHER = 12_000
"""Characters. Beyond it, "any instance" replaces the list: VictoriaMetrics refuses a query of 16 KiB."""
HOST_AND_PORT = re.compile(r"(\[.+\]|[^:]+):[0-9]+")


def matcher(instances: Iterable[str]) -> str:
    """Return the label matcher in PromQL for these instances; it may let others through."""
    found = f"instance=~{any_of(instances, _pattern)}"
    return found if len(found) <= LONGEST_MATCHER else 'instance!=""'


def any_of(texts: Iterable[str], pattern: Callable[[str], str] = re.escape) -> str:
    """Return a PromQL string: a regular expression that matches these texts only (Prometheus anchors it)."""
    return json.dumps("|".join(pattern(text) for text in sorted(set(texts))))


def by_host(labels: Iterable[str]) -> dict[str, list[str]]:
    """Return host -> those of the labels that are this host, with or without a port."""
    found: dict[str, list[str]] = {}
    for label in sorted(labels):
        split = HOST_AND_PORT.fullmatch(label)
        found.setdefault((split[1] if split else label).strip("[]"), []).append(label)
    return found


def labels_of(
    instance: str, shown: Container[str], hosts: Mapping[str, Sequence[str]], owned: Container[str]
) -> list[str]:
    """Return the labels that are a node's.

    Args:
        instance: what GPU_QUERIES has; one without a port stands for the host's exporters on all ports.
        shown: the labels that series have.
        hosts: the same, by host.
        owned: what GPU_QUERIES has for all nodes: a label that is another node's by its port is not this one's.
    """
    if instance in shown:
        return [instance]
    if HOST_AND_PORT.fullmatch(instance):
        return []
    return [label for label in hosts.get(instance.strip("[]"), ()) if label not in owned]


def _pattern(instance: str) -> str:
    if HOST_AND_PORT.fullmatch(instance):
        return re.escape(instance)
    escaped = re.escape(instance.strip("[]"))
    brackets = r"\[?" if ":" in instance else ""
    return rf"{brackets}{escaped}{brackets.replace('[', ']')}(:[0-9]+)?"
