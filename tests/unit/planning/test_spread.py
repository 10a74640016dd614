"""The first placement by property: even, by the lowest usage, ties at random, the same whatever the order."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planned_farms import SEEDS

from posture.planning.spread import even_spread


@given(st.sets(st.integers(1, 99).map("pi{}".format)), st.lists(st.floats(0, 100), min_size=1), SEEDS)
def test_even_spread_gives_each_node_floor_or_ceil_and_the_extras_to_the_lowest(streams, points, rng) -> None:
    usage = {f"n{i}": value for i, value in enumerate(points)}
    placed = even_spread(streams, usage, rng)
    assert set(placed) == streams
    counts = Counter(placed.values())
    floor, extras = divmod(len(streams), len(usage))
    assert all(counts[name] in (floor, floor + 1) for name in usage)
    with_extra = [usage[name] for name in usage if counts[name] == floor + 1]
    without = [usage[name] for name in usage if counts[name] == floor]
    assert len(with_extra) == extras
    assert max(with_extra, default=0) <= min(without, default=100)


def test_even_spread_breaks_ties_uniformly() -> None:
    # 2 extras on 5 equal nodes: 10 pairs; chi-square with 9 degrees of freedom is under 27.9 with p = 0.999
    usage = {"a": 20.0, "b": 20.0, "c": 20.0, "d": 20.0, "e": 20.0, "hot": 30.0}
    seen: Counter[tuple[str, ...]] = Counter()
    for seed in range(4000):
        placed = even_spread([f"pi{i}" for i in range(8)], usage, Random(seed))
        counts = Counter(placed.values())
        seen[tuple(sorted(name for name in counts if counts[name] == 2))] += 1
    assert len(seen) == 10
    assert sum((count - 400) ** 2 / 400 for count in seen.values()) < 27.9


@given(st.lists(st.text("ab", min_size=1), unique=True), st.integers(1, 6), st.integers(0, 99))
def test_even_spread_depends_on_names_and_seed_and_not_on_the_order_of_its_input(streams, n, seed) -> None:
    usage = {f"n{i}": float(i % 2) for i in range(n)}
    backwards = dict(reversed(usage.items()))
    assert even_spread(streams, usage, Random(seed)) == even_spread(streams[::-1], backwards, Random(seed))


@given(st.integers(0, 20), st.integers(1, 5), st.data())
def test_even_spread_fills_up_around_pinned_streams(n_streams, n_nodes, data) -> None:
    streams = [f"pi{i}" for i in range(n_streams)]
    usage = {f"n{i}": 10.0 * i for i in range(n_nodes)}
    pins = data.draw(st.dictionaries(st.sampled_from(streams or ["none"]), st.sampled_from(sorted(usage))))
    placed = even_spread(streams, usage, Random(0), pins)
    assert all(placed[stream] == node for stream, node in pins.items() if stream in streams)
    pinned = Counter(node for stream, node in pins.items() if stream in streams)
    counts = Counter(placed.values())
    grown = [counts[name] for name in usage if counts[name] > pinned[name]]
    assert max(grown, default=0) <= min(counts[name] for name in usage) + 1


def test_even_spread_without_any_node_is_an_error_and_without_any_stream_is_empty() -> None:
    with pytest.raises(ValueError, match="no node has a valid metric"):
        even_spread(["pi1"], {}, Random(0))
    assert even_spread([], {}, Random(0)) == {}
