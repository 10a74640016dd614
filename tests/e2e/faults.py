"""What goes wrong on purpose: each fault happens to a running farm, and leaves it as it was but for the fault."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from control_plane import ScaledJob
from deployed import BASE, account, objects_of, send
from lightkube.resources.admissionregistration_v1 import (
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
)
from lightkube.resources.core_v1 import Node
from raw_mqtt import RawClient, publish, user_property
from real_farm import FACTORS, NAMESPACE, STREAMS, RealFarm, is_ready_node
from real_nodes import CGROUPS, CONTAINERS
from stolen_token import ATTEMPTS, NAME, refusal
from watching import wait_for

from posture.kube import labels
from posture.kube.annotations import MOVE
from posture.wire.frame import JPEG, Identity, stamp

AWAY_S = 8.0
"""How long what is stopped stays away."""
FLOOD = 1000
"""Frames of a stranger."""
CUT_S = 60.0
"""How long a network is cut."""
HOG = "import sys; open('/proc/self/oom_score_adj', 'w').write('-1000'); sys.stdin.readline(); b = b'x' * (2 << 30)"


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        name: what it is, in words.
        happen: does it, and undoes what an operator would undo; takes the farm and a source of chance.
        within_s: every stream runs exactly once so long after that, at the latest.
        clocks: stream -> by how many seconds its camera's clock is wrong at first.
    """

    name: str
    happen: Callable[[RealFarm, random.Random], None]
    within_s: float
    clocks: Mapping[str, int]


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


def a_node_with_streams(farm: RealFarm, rng: random.Random) -> str:
    return rng.choice(sorted({places[0] for places in farm.where().values()}))


def an_analyzer(farm: RealFarm, rng: random.Random) -> tuple[str, str, int]:
    """Some stream, its node, and the pid of its process."""
    stream = rng.choice(STREAMS)
    (node,) = farm.where()[stream]
    (pid,) = (pid for pid, name in farm.nodes[node].analyzers().items() if name == stream)
    return stream, node, pid


def await_end(pid: int, timeout_s: float = 60.0) -> None:
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), timeout_s)


def analyzer_killed(farm: RealFarm, rng: random.Random) -> None:
    _, _, pid = an_analyzer(farm, rng)
    os.kill(pid, signal.SIGKILL)
    await_end(pid)


def analyzer_out_of_memory(farm: RealFarm, rng: random.Random) -> None:
    """Its container's memory fills up to the limit. Who fills it is spared, so that the analyzer is what dies."""
    _, node, pid = an_analyzer(farm, rng)
    (name,) = (name for name, main in farm.nodes[node].main_processes().items() if main == pid)
    (group,) = [*CGROUPS.glob(f"{CONTAINERS}/{name}"), *CGROUPS.glob(f"memory/{CONTAINERS}/{name}")]
    with subprocess.Popen([sys.executable, "-c", HOG], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as hog:
        (group / "cgroup.procs").write_text(f"{hog.pid}\n")
        assert hog.stdin is not None
        hog.stdin.write(b"now\n")
        hog.stdin.flush()
        try:
            await_end(pid)
        finally:
            hog.kill()


def runtime_restarted(farm: RealFarm, rng: random.Random) -> None:
    farm.nodes[a_node_with_streams(farm, rng)].restart_runtime()


def kubelet_stopped(farm: RealFarm, rng: random.Random) -> None:
    """Until the node is NotReady and its streams run elsewhere; then it comes back."""
    name = a_node_with_streams(farm, rng)
    node = farm.nodes[name]
    node.stop_program("kubelet")
    try:
        until_streams_have_left(farm, name)
    finally:
        node.start_program("kubelet")
    until_ready(farm)


def node_deleted(farm: RealFarm, rng: random.Random) -> None:
    """Power and Node object are gone until its streams run elsewhere; then the machine is switched on again."""
    name = a_node_with_streams(farm, rng)
    node = farm.nodes[name]
    node.cut_power()
    farm.cluster.client.delete(Node, name)
    try:
        until_streams_have_left(farm, name)
    finally:
        node.start()
    until_ready(farm)


def until_streams_have_left(farm: RealFarm, name: str) -> None:
    pace = farm.pace
    bound_s = pace.node_monitor_s + pace.node_grace_s + 2 * pace.loop_s + pace.polling_s + 120

    def left() -> bool:
        running = farm.where()
        return set(running) == set(STREAMS) and all(places != [name] for places in running.values())

    wait_for(left, bound_s, look_s=1.0)


def until_ready(farm: RealFarm) -> None:
    farm.cluster.until(Node, None, lambda nodes: sum(map(is_ready_node, nodes)) == len(FACTORS), timeout_s=240)


def keda_killed(farm: RealFarm, rng: random.Random) -> None:
    """And while it is away an analyzer ends, for which the Job alone has to care."""
    farm.cluster.keda.kill()
    analyzer_killed(farm, rng)
    time.sleep(AWAY_S)
    farm.cluster.keda.start()


def api_server_and_etcd_restarted(farm: RealFarm, _: random.Random) -> None:
    farm.cluster.api_server.kill()
    farm.cluster.etcd.stop()
    time.sleep(AWAY_S)
    farm.cluster.start()
    until_ready(farm)


def scaler_killed(farm: RealFarm, _: random.Random) -> None:
    """build_and_push.py, which stays, starts it again."""
    pid = farm.pid_of("scaler")
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            return farm.pid_of("scaler") != pid and farm.pid_of("balancer") > 0
        return False

    wait_for(back, 120, look_s=0.2)


def balancer_killed_in_mid_move(farm: RealFarm, _: random.Random) -> None:
    with overload(farm):
        wait_for(lambda: bool(open_moves(farm)), 4 * farm.pace.loop_s + 60, look_s=0.1)
        os.kill(farm.pid_of("balancer"), signal.SIGKILL)
        farm.timeline.spans[-1].outcome = f"killed while {', '.join(open_moves(farm))} was being moved"
        wait_for(lambda: not open_moves(farm), 240, look_s=0.5)
        farm.until_each_runs_once()


def open_moves(farm: RealFarm) -> list[str]:
    """Streams with an open move."""
    found = farm.cluster.client.list(ScaledJob, namespace=NAMESPACE)
    return [one.metadata.labels[labels.STREAM] for one in found if MOVE in (one.metadata.annotations or {})]


def prometheus_stopped(farm: RealFarm, _: random.Random) -> None:
    farm.prometheus.stop()
    time.sleep(AWAY_S)
    farm.prometheus.start()


def prometheus_hanging(farm: RealFarm, _: random.Random) -> None:
    process = farm.prometheus.process
    process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(AWAY_S)
    finally:
        process.send_signal(signal.SIGCONT)


def prometheus_lying(farm: RealFarm, _: random.Random) -> None:
    """One node is stale, one NaN, and the third overloaded: there is nowhere to go, so nothing is moved."""
    with overload(farm) as busy:
        liars = [node for node in FACTORS if node != busy]
        farm.usage.lies.update({liars[0]: "stale", liars[1]: "nan"})
        before = len(farm.timeline.moves())
        try:
            farm.await_loops(3)
            assert len(farm.timeline.moves()) == before, "moved on lies"
        finally:
            farm.usage.foreign[busy] = 0.0
            farm.usage.lies.clear()
            farm.await_loops(1)


def mosquitto_restarted(farm: RealFarm, _: random.Random) -> None:
    farm.mosquitto.stop()
    time.sleep(AWAY_S)
    farm.mosquitto.start()


def mosquitto_killed(farm: RealFarm, _: random.Random) -> None:
    farm.mosquitto.kill()
    time.sleep(AWAY_S)
    farm.mosquitto.start()


def postgres_restarted(farm: RealFarm, _: random.Random) -> None:
    farm.postgres.stop()
    time.sleep(AWAY_S)
    farm.postgres.start()


def postgres_full(farm: RealFarm, _: random.Random) -> None:
    """Its disk is full, until somebody makes room."""
    ballast = farm.database_disk / "ballast"
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    time.sleep(2 * AWAY_S)
    ballast.unlink()
    if farm.postgres.process.poll() is not None:  # it gave up, which it may
        farm.postgres.start()


def network_cut(farm: RealFarm, rng: random.Random) -> None:
    with farm.nodes[a_node_with_streams(farm, rng)].network_cut():
        time.sleep(CUT_S)


def clock_wrong(farm: RealFarm, _: random.Random) -> None:
    farm.until_rows(time.time())


def poison_message(farm: RealFarm, rng: random.Random) -> None:
    """Every program gets a message that its MQTT library refuses, live, and retained at its next connection."""
    poison = {stream: b"poison " + rng.randbytes(8) for stream in STREAMS}
    properties = user_property(b"who", "\ufeff".encode())
    topics = [f"committed/{stream}".encode() for stream in STREAMS]
    stranger = RawClient(farm.mosquitto.port)
    for stream, payload in poison.items():
        stranger.send(publish(f"images/{stream}".encode(), payload, properties))
    for topic in topics:
        stranger.send(publish(topic, b"poison", properties, retain=True))
    stranger.close()
    mosquitto_restarted(farm, rng)
    for stream, payload in poison.items():
        farm.until_stored(stream, [hashlib.sha256(payload).hexdigest()])
    farm.until_rows(time.time())
    stranger = RawClient(farm.mosquitto.port)
    for topic in topics:
        stranger.send(publish(topic, b"", retain=True))
    stranger.close()
    farm.timeline.spans[-1].outcome = f"{len(poison)} poisoned messages, and each has its row"


def flood(farm: RealFarm, rng: random.Random) -> None:
    """A stranger sends one stream broken pictures as fast as the broker takes them, each of a boot of its own."""
    stream, run = rng.choice(STREAMS), rng.randbytes(4).hex()
    names = [f"flood-{run}-{number}" for number in range(FLOOD)]
    stranger = RawClient(farm.mosquitto.port)
    for name in names:
        identity = Identity(name, seq=rng.randrange(1 << 40), boot_id=name)
        picture = stamp(JPEG + rng.randbytes(2000), identity)
        stranger.send(publish(f"images/{stream}".encode(), picture))
    stranger.close()
    farm.until_stored(stream, names)
    farm.timeline.spans[-1].outcome = f"{FLOOD} frames of a stranger for {stream}, and each has its row"


def fault(happen: Callable[[RealFarm, random.Random], None], within_s: float, **clocks: int) -> Fault:
    return Fault(happen.__name__.replace("_", " "), happen, within_s, clocks)


def camera_clock_steps(farm: RealFarm, _: random.Random) -> None:
    """Forward by hours, back by a day, put right, and a minute ahead: after each step rows go on coming."""
    for offset_s in (7200, -86400, 0, 60):
        farm.cameras["pi2"].set_clock(offset_s)
        farm.until_camera_clock("pi2", offset_s)


def stolen_token_tries_everything(farm: RealFarm, _: random.Random) -> None:
    """Who has the token of the scaler's account tries to change a stream; deploy/'s policy refuses each attempt."""
    cluster = farm.cluster
    policy = objects_of(BASE / "admission-policy.yaml")
    for item in policy:
        assert send(cluster, item) == ""
    try:
        thief = cluster.client_for(account(cluster, NAMESPACE, "posture-scaler"))
        counts = itertools.count()

        def in_force() -> bool:
            # a label does nobody harm
            said = refusal(thief, NAMESPACE, ("add", "/metadata/labels/probe", str(next(counts))))
            return "ValidatingAdmissionPolicy" in said

        wait_for(in_force, 30)
        before = cluster.client.get(ScaledJob, NAME, namespace=NAMESPACE).to_dict()["spec"]
        taken = [what for what, operation in ATTEMPTS.items() if not refusal(thief, NAMESPACE, operation)]
        assert taken == [], f"it may change {taken}"
        assert cluster.client.get(ScaledJob, NAME, namespace=NAMESPACE).to_dict()["spec"] == before
    finally:
        kinds = {"ValidatingAdmissionPolicy": ValidatingAdmissionPolicy}
        for item in policy:
            kind = kinds.get(item["kind"], ValidatingAdmissionPolicyBinding)
            cluster.client.delete(kind, item["metadata"]["name"])


FIRST = (
    fault(analyzer_killed, 90),
    fault(kubelet_stopped, 120),
    fault(keda_killed, 120),
    fault(mosquitto_restarted, 60),
    fault(balancer_killed_in_mid_move, 120),
    fault(poison_message, 60),
    fault(flood, 60),
)
"""Those of every run."""

OTHERS = (
    fault(scaler_killed, 60),
    fault(analyzer_out_of_memory, 90),
    fault(runtime_restarted, 120),
    fault(node_deleted, 180),
    fault(api_server_and_etcd_restarted, 120),
    fault(prometheus_lying, 60),
    fault(prometheus_stopped, 60),
    fault(prometheus_hanging, 60),
    fault(mosquitto_killed, 60),
    fault(postgres_restarted, 60),
    fault(postgres_full, 90),
    fault(network_cut, 120),
    fault(clock_wrong, 60, pi1=3600),
    fault(camera_clock_steps, 60, pi2=0),
    fault(stolen_token_tries_everything, 60),
)
