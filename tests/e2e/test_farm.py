"""What the README promises, on real nodes with real containers: the farm's life from the first image to the end.

The tests run in the order in which they stand here; each leaves a farm that runs.
"""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from collections.abc import Sequence

import pytest
from faults import ANY_FARM, FIRST, OTHERS, SEED, Fault, survive
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Node, Pod
from processes import is_running
from processors import NodeProcessors
from real_farm import NAMESPACE, STREAMS, WAIT_S, RealFarm
from victims import MOVED_S, overload
from watching import wait_for

UP_S = 900.0
"""The first time, all layers of the images are built, pushed and pulled."""
RANDOM_FAULTS = 40
HOT_FPS = 10.0
HOT_SHARE = 0.32
"""Of a node, what one stream at that pace uses."""
MEASURED_S = 6.0
"""Of processor time: so much is used until it is taken as what they use."""
MOMENT_S = 0.3
"""Figures that are no further apart belong together."""


def test_streams_are_placed_evenly_where_their_pods_really_run(farm: RealFarm) -> None:
    farm.usage.foreign.update(orin=5.0, nano=5.0)  # agx has least to do: it gets the stream that is left over
    farm.usage.look()
    for node in farm.nodes:
        farm.usage.exporter.wait_for_scrapes(node)
    farm.create_what_is_not_ours()
    farm.bring_up(UP_S)
    places = farm.until_each_runs_once()
    farm.usage.foreign.update(orin=0.0, nano=0.0)
    assert Counter(places.values()) == {"agx": 2, "orin": 1, "nano": 1}
    assert farm.places_by_the_plan() == places
    with farm.traffic("first placement"):
        pass


@pytest.mark.long
def test_a_node_that_gets_busy_gives_up_one_stream_and_then_the_farm_is_stable(farm: RealFarm) -> None:
    before = farm.until_each_runs_once()
    moves = len(farm.timeline.moves())
    with farm.traffic("balance"), overload(farm) as busy:
        began = time.monotonic()
        wait_for(lambda: len(farm.timeline.moves()) > moves, WAIT_S, look_s=0.5)
        decided_s = time.monotonic() - began
        places = farm.until_moved(before)
        took_s = time.monotonic() - began
        farm.await_loops(3)
        made = farm.timeline.moves()[moves:]
        assert [(move.kind, move.source) for move in made] == [("offload", busy)], made
        assert farm.until_each_runs_once() == places
    farm.timeline.facts["balance"] = (
        f"decided {decided_s:.0f} s after the load came, the stream ran on its new node after {took_s:.0f} s, "
        "and nothing moved in the next three loops"
    )


def used_and_rows(
    farm: RealFarm, processors: NodeProcessors, node: str, streams: Sequence[str]
) -> tuple[float, int]:
    """What a node has used, in seconds, and how many rows streams have, at the same moment."""
    found = (0.0, 0)

    def taken() -> bool:
        nonlocal found
        looked_s = processors.looked_s
        found = processors.used_s[node], farm.count_rows(*streams)
        return time.monotonic() - looked_s < MOMENT_S

    wait_for(taken, WAIT_S)
    return found


def test_a_node_whose_analyzers_use_up_its_processors_gives_up_one_of_them(farm: RealFarm) -> None:
    """No load is made up: analyzers work, the kernel accounts it, our exporter on each node shows it."""
    before = farm.until_each_runs_once()
    busy, streams = Counter(before.values()).most_common(1)[0]
    assert streams == 2, before
    hot = {stream: HOT_FPS for stream, node in before.items() if node == busy}
    moves = len(farm.timeline.moves())
    with farm.balanced_by_processors() as processors, farm.traffic("processors", fps=hot):
        used_s, rows = used_and_rows(farm, processors, busy, list(hot))
        wait_for(lambda: processors.used_s[busy] > used_s + MEASURED_S, WAIT_S)
        used_later_s, rows_later = used_and_rows(farm, processors, busy, list(hot))
        of_a_frame_s = (used_later_s - used_s) / (rows_later - rows)
        of_one = of_a_frame_s * HOT_FPS
        # all nodes are so large that two busy streams are too much for one, and one beside a quiet one is not
        processors.cores.update(dict.fromkeys(processors.cores, of_one / HOT_SHARE))
        began_s = time.monotonic()
        places = farm.until_moved(before, MOVED_S)
        took_s = time.monotonic() - began_s
        farm.await_loops(3)
        assert farm.until_each_runs_once() == places
        made = farm.timeline.moves()[moves:]
        assert [(move.kind, move.source) for move in made] == [("offload", busy)], made
        assert made[0].stream in hot
    farm.timeline.facts["balance by processors"] = (
        f"a frame took {of_a_frame_s * 1000:.0f} ms of a processor; of two that were too much for their node "
        f"one ran elsewhere {took_s:.0f} s later, and nothing moved in the next three loops"
    )


def cases(faults: Sequence[Fault]) -> pytest.MarkDecorator:
    """Of these, what test_stack.py does not have."""
    return pytest.mark.parametrize(
        "fault", [pytest.param(one, id=one.name.replace(" ", "-")) for one in faults if one not in ANY_FARM]
    )


@cases(FIRST)
def test_every_stream_runs_once_and_no_frame_is_lost_after(farm: RealFarm, fault: Fault) -> None:
    farm.be_quick()
    survive(farm, fault, random.Random(SEED))


@pytest.mark.long
@cases(OTHERS)
def test_every_stream_runs_once_and_no_frame_is_lost_also_after(farm: RealFarm, fault: Fault) -> None:
    farm.be_quick()
    survive(farm, fault, random.Random(SEED))


@pytest.mark.long
def test_forty_faults_at_random_lose_no_frame(farm: RealFarm) -> None:
    farm.be_quick()
    print(f"E2E_SEED={SEED}")
    farm.timeline.facts["seed of the random faults"] = str(SEED)
    rng = random.Random(SEED)
    failures = []
    for fault in rng.choices(FIRST + OTHERS, k=RANDOM_FAULTS):
        try:
            survive(farm, fault, rng)
        except AssertionError as error:
            failures.append((fault.name, str(error)))
    assert not failures, failures


def test_new_images_are_rolled_out_stream_by_stream_without_losing_a_frame(farm: RealFarm) -> None:
    before, places = farm.images(), farm.until_each_runs_once()
    with farm.traffic("upgrade"):
        absent = farm.watch_absences()
        farm.upgrade(UP_S)
        assert farm.until_each_runs_once() == places
        assert max(map(len, absent()), default=0) <= 1, "two streams were down at the same time"
    after = farm.images()
    assert all(after[stream] != before[stream] for stream in STREAMS), (before, after)


def test_enter_leaves_nothing_of_ours_and_does_not_touch_what_is_not_ours(farm: RealFarm) -> None:
    pids = [farm.pid_of("scaler"), farm.pid_of("balancer")]
    not_ours = farm.pods_that_are_not_ours()
    farm.script.press_enter()
    assert farm.script.wait(300) == 0, farm.script.said
    assert [job.metadata.name for job in farm.cluster.client.list(Job, namespace=NAMESPACE)] == ["not-ours"]
    pods = {pod.metadata.uid: pod.status.phase for pod in farm.cluster.client.list(Pod, namespace=NAMESPACE)}
    assert pods == not_ours
    assert "Running" in pods.values()
    for node in farm.cluster.client.list(Node):
        assert not [taint for taint in node.spec.taints or [] if taint.key.startswith("posture-farm")]
    assert farm.where() == {}
    assert not [pid for pid in pids if is_running(pid)]
    with socket.socket() as probe:
        # connections that have ended hold the port for a minute; somebody who listens has it all the same
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", farm.checkout.port))
