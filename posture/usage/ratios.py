"""Signals that look like ratios from 0 to 1: by their name, or because a busy node never shows more than 1. Pure.

Read as percent, a ratio makes every node an idle one. Those that can't be anything else are refused or scaled
already (posture/usage/scale.py); a person has to look at these.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from posture.natural_order import some_of
from posture.settings.signals import Signal
from posture.settings.table import NodeQuery
from posture.usage.scale import named_ratio, scale_setting

WHILE_S = 60.0
"""For so long a node that runs streams has shown no value above 1."""


@dataclass(frozen=True)
class Suspicion:
    """A signal that looks like a ratio.

    Attributes:
        nodes: where.
        signal: its name.
        why: what it looks like, in words.
        remedy: what to set where.
    """

    nodes: tuple[str, ...]
    signal: str
    why: str
    remedy: str

    @property
    def what(self) -> str:
        """One sentence, without the nodes."""
        return f"{self.signal} looks like a ratio: {self.why}"

    def __str__(self) -> str:
        """Return one sentence, and what to change."""
        return f"{some_of(self.nodes)}: {self.what}; {self.remedy}"


def by_name(queries: Mapping[str, NodeQuery]) -> list[Suspicion]:
    """Return the metrics that are called ratios and have no scale that confirms it.

    Args:
        queries: GPU_QUERIES.
    """
    nodes: dict[Signal, list[str]] = {}
    for node, query in queries.items():
        for signal in query.signals:
            if named_ratio(signal):
                nodes.setdefault(signal, []).append(node)
    why = "its name says so, and so it is read as a share of 1"
    return [
        Suspicion(
            tuple(where),
            one.name,
            why,
            f"{scale_setting(where[0], queries[where[0]], one)}: 100 if it is one, 1 if not",
        )
        for one, where in nodes.items()
    ]


class RatioWatch:
    """What busy nodes have shown so far.

    It is told the values of one window after the other.
    """

    def __init__(self) -> None:
        self._low_since: dict[tuple[str, Signal], float] = {}
        self._shown: set[tuple[str, Signal]] = set()
        """Those that have had a value above 0."""

    def see(
        self,
        queries: Mapping[str, NodeQuery],
        values: Mapping[str, Mapping[str, Iterable[float]]],
        busy: Container[str],
        since_s: float,
        now_s: float,
    ) -> list[Suspicion]:
        """Take a window; return what looks like a ratio by now, a line for each node and signal.

        Args:
            queries: GPU_QUERIES.
            values: node -> signal -> its percentages in the window.
            busy: the nodes that ran streams all the time.
            since_s: when the window began, in seconds; of any clock, but always the same.
            now_s: when it ended.
        """
        low: dict[tuple[str, Signal], float] = {}
        for node, query in queries.items():
            for signal in query.signals:
                shown = list(values.get(node, {}).get(signal.name, ()))
                may_be = node in busy and not signal.scale and not named_ratio(signal)
                if may_be and shown and max(shown) <= 1:
                    low[node, signal] = self._low_since.get((node, signal), since_s)
                    if max(shown) > 0:
                        self._shown.add((node, signal))
        self._low_since = low
        self._shown &= low.keys()
        return [
            Suspicion(
                (node,),
                signal.name,
                f"for {now_s - low[node, signal]:.0f} s it was never above 1, and streams run there",
                f"{scale_setting(node, queries[node], signal)}: 100 if it is one, 1 if it is percent",
            )
            for node, signal in low
            if (node, signal) in self._shown and now_s - low[node, signal] >= WHILE_S
        ]
