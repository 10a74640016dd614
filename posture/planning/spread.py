"""The first placement: the farm's streams spread evenly over its nodes."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Mapping
from random import Random

from posture.natural_order import natural


def even_spread(
    streams: Collection[str], usage: Mapping[str, float], rng: Random, pinned: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Place streams evenly: each of M nodes gets floor(N/M) or ceil(N/M) of N streams.

    The N mod M extra ones go to the nodes with the lowest usage, ties at random. The result depends on names,
    usage and the state of ``rng``, not on the order in which they are given.

    Args:
        streams: the streams' names.
        usage: node -> points, of the nodes with a valid metric only; of several signals the largest.
        rng: breaks ties.
        pinned: stream -> node, for streams that have no choice; the others fill up around them.

    Returns:
        stream -> node.

    Raises:
        ValueError: there is a stream to place, and no node.
    """
    pinned = pinned or {}
    placed = {stream: pinned[stream] for stream in streams if stream in pinned}
    free = sorted(set(streams) - set(placed), key=natural)
    if free and not usage:
        raise ValueError("no node has a valid metric")
    counts = Counter(placed.values())
    heap = [(counts[name], usage[name], rng.random(), name) for name in sorted(usage, key=natural)]
    heapq.heapify(heap)
    for stream in free:
        count, points, tie, name = heap[0]
        placed[stream] = name
        heapq.heapreplace(heap, (count + 1, points, tie, name))
    return placed
