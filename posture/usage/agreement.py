"""Whether a node's usage follows what its streams use.

Where a node is balanced by its GPU and its streams run on the CPU, moving one changes nothing that is measured, and
the balancer works in vain. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from posture.natural_order import natural, some_of
from posture.settings.table import NodeQuery

_WORDS = {"cpu": re.compile("cpu", re.IGNORECASE), "gpu": re.compile("gpu|nvidia|dcgm", re.IGNORECASE)}
"""How the name of a signal, its metric or its expression tells what it measures."""


@dataclass(frozen=True)
class Disagreement:
    """A node whose usage does not follow some of its streams.

    Attributes:
        node: its name.
        measured: ``gpu`` or ``cpu``, what its usage is about.
        used: the other one, on which the streams run.
        streams: those streams, in natural order.
    """

    node: str
    measured: str
    used: str
    streams: tuple[str, ...]

    def __str__(self) -> str:
        """Return one sentence, and what to change."""
        runs = "runs" if len(self.streams) == 1 else "run"
        return (
            f"{self.node} is balanced by its {self.measured.upper()}, and {some_of(self.streams)} {runs} on its "
            f"{self.used.upper()}: moving changes nothing that is measured; {remedy(self.node, self.measured)}"
        )


def gpu_missing(stream: str, node: str) -> str:
    """Return one sentence about a stream that was told to use the GPU and uses the CPU."""
    return f"{stream} was told to use the GPU, and uses the CPU of {node}; its log says why (docs/boards.md)"


def gpu_only(queries: Mapping[str, NodeQuery]) -> list[str]:
    """Return the nodes whose usage is that of their GPU and of nothing else."""
    return [node for node, query in queries.items() if processors(query) == {"gpu"}]


def remedy(node: str, measured: str) -> str:
    """Return what to change where a node's usage does not follow its streams."""
    both = f"set GPU_QUERIES.{node} to signal: [gpu, cpu]"
    return f"{both}, or let its streams use the GPU (docs/boards.md)" if measured == "gpu" else both


def processors(query: NodeQuery) -> frozenset[str]:
    """Return of which processors a node's usage speaks: ``gpu``, ``cpu``, both, or nothing that can be told."""
    told = [f"{signal.name} {signal.metric} {signal.query}" for signal in query.signals]
    return frozenset(processor for processor, words in _WORDS.items() if any(map(words.search, told)))


def disagreements(
    queries: Mapping[str, NodeQuery], places: Mapping[str, str], delegates: Mapping[str, str]
) -> list[Disagreement]:
    """Return the nodes whose usage does not follow some of their streams.

    Args:
        queries: node -> where its usage is read.
        places: stream -> its node.
        delegates: stream -> ``cpu`` or ``gpu``, what it says that it runs on; streams that are not in it count as
            neither.
    """
    found = []
    for node, query in queries.items():
        measured = processors(query)
        if len(measured) != 1:
            continue
        (one,) = measured
        other = "cpu" if one == "gpu" else "gpu"
        streams = [name for name, place in places.items() if place == node and delegates.get(name) == other]
        if streams:
            found.append(Disagreement(node, one, other, tuple(sorted(streams, key=natural))))
    return found
