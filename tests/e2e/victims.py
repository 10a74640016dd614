"""Who a fault happens to, and how its end is awaited."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

from farm_at_work import FarmAtWork, is_ready
from lightkube.resources.core_v1 import Node
from real_farm import FACTORS, RealFarm
from watching import wait_for

MOVED_S = 400.0
"""In which an overload is relieved: a stream that was away for minutes holds its node for up to 300 s (R5)."""


def overloaded(farm: RealFarm) -> str:
    """Put foreign load on the node with most streams, so that it is over the threshold by 5 points."""
    counts = {node: sum(node in places for places in farm.where().values()) for node in FACTORS}
    node = max(counts, key=lambda name: counts[name])
    farm.usage.foreign[node] = 55.0 - counts[node] * FACTORS[node]
    return node


@contextlib.contextmanager
def overload(farm: RealFarm) -> Iterator[str]:
    """The same for a while."""
    node = overloaded(farm)
    try:
        yield node
    finally:
        farm.usage.foreign[node] = 0.0


def a_node_with_streams(farm: FarmAtWork, rng: random.Random) -> str:
    """One of those without which the others can go on."""
    return rng.choice(sorted({places[0] for places in farm.where().values()} - set(farm.servers_on)))


def an_analyzer(farm: FarmAtWork, rng: random.Random) -> tuple[str, str, int]:
    """Some stream, its node, and the pid of its process."""
    stream = rng.choice(farm.streams)
    (node,) = farm.where()[stream]
    (pid,) = (pid for pid, name in farm.nodes[node].analyzers().items() if name == stream)
    return stream, node, pid


def await_end(pid: int, timeout_s: float = 60.0) -> None:
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), timeout_s)


def analyzer_killed(farm: FarmAtWork, rng: random.Random) -> str:
    """Kill the analyzer of some stream, and return which."""
    stream, _, pid = an_analyzer(farm, rng)
    os.kill(pid, signal.SIGKILL)
    await_end(pid)
    return stream


def until_streams_have_left(farm: FarmAtWork, name: str) -> None:
    pace = farm.pace
    bound_s = pace.node_monitor_s + pace.node_grace_s + 2 * pace.loop_s + pace.polling_s + 120

    def left() -> bool:
        running = farm.where()
        return set(running) == set(farm.streams) and all(places != [name] for places in running.values())

    wait_for(left, bound_s, look_s=1.0)


def until_ready(farm: FarmAtWork) -> None:
    farm.cluster.until(Node, None, lambda nodes: sum(map(is_ready, nodes)) == len(farm.nodes), timeout_s=240)
