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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from control_plane import ScaledJob
from deployed import BASE, account, objects_of, send
from farm_at_work import NAMESPACE, FarmAtWork
from interference import (
    admission_webhook_away,
    node_added_and_removed_for_good,
    node_clock_steps,
    node_drained,
    old_manifests_reapplied,
    quota_reached,
    scaled_job_edited_by_hand,
)
from lightkube.resources.admissionregistration_v1 import (
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
)
from lightkube.resources.core_v1 import Node
from lightkube.types import PatchType
from raw_mqtt import RawClient, publish, user_property
from real_farm import FACTORS, STREAMS, RealFarm
from real_nodes import CGROUPS, CONTAINERS
from seen import Seen
from stolen_token import ATTEMPTS, NAME, refusal
from victims import (
    MOVED_S,
    a_node_with_streams,
    an_analyzer,
    analyzer_killed,
    await_end,
    overload,
    until_ready,
    until_streams_have_left,
)
from watching import wait_for

from posture.kube import labels
from posture.kube.annotations import MOVE, PINNED
from posture.wire.frame import JPEG, Identity, stamp

SEED = int(os.environ.get("E2E_SEED") or random.SystemRandom().randrange(1_000_000))
"""Of what is left to chance."""
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
        happen: does it, and undoes what an operator would undo; takes the farm, of the form that it needs, and a
            source of chance. What it returns is of no account.
        within_s: every stream runs exactly once so long after that, at the latest.
        seen: how an operator gets to know of it.
        clocks: stream -> by how many seconds its camera's clock is wrong at first.
    """

    name: str
    happen: Callable[[Any, random.Random], object]
    within_s: float
    seen: Seen
    clocks: Mapping[str, int]


def survive(farm: FarmAtWork, fault: Fault, rng: random.Random) -> None:
    """Let a fault happen during traffic: each stream runs once and has rows in time, and the account holds."""
    farm.mend()
    farm.until_each_runs_once()
    with farm.looked_at(fault.seen, fault.name), farm.traffic(fault.name, **fault.clocks):
        befall(farm, fault, rng)


def befall(farm: FarmAtWork, fault: Fault, rng: random.Random) -> None:
    """Let a fault happen: each stream runs once and has rows in time, and the dashboard has said what it should."""
    with farm.timeline.span("fault", fault.name) as span:
        span.seen, span.picture = fault.seen, farm.look.picture
        fault.happen(farm, rng)
    began, began_s = time.time(), time.monotonic()
    farm.until_each_runs_once(fault.within_s)
    farm.until_rows(began, fault.within_s)
    said = (
        f"every stream ran once, with rows, {time.monotonic() - began_s:.0f} s after it "
        f"(bound {fault.within_s:g} s)"
    )
    span.outcome = f"{span.outcome}; {said}" if span.outcome else said
    farm.look.finish()


def stay_away(farm: FarmAtWork, least_s: float = AWAY_S) -> None:
    """Let what is away be so for a while, and until the dashboard says it."""
    time.sleep(least_s)
    farm.look.until_shown()


def analyzer_out_of_memory(farm: FarmAtWork, rng: random.Random) -> None:
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


def runtime_restarted(farm: FarmAtWork, rng: random.Random) -> None:
    farm.nodes[a_node_with_streams(farm, rng)].restart_runtime()


def kubelet_stopped(farm: FarmAtWork, rng: random.Random) -> None:
    """Until the node is NotReady and its streams run elsewhere; then it comes back."""
    name = a_node_with_streams(farm, rng)
    node = farm.nodes[name]
    node.stop_program("kubelet")
    try:
        until_streams_have_left(farm, name)
    finally:
        node.start_program("kubelet")
    until_ready(farm)


def node_deleted(farm: FarmAtWork, rng: random.Random) -> None:
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
    farm.take_in_new_nodes()


def keda_killed(farm: FarmAtWork, rng: random.Random) -> None:
    """And while it is away an analyzer ends, for which the Job alone has to care."""
    farm.cluster.keda.kill()
    analyzer_killed(farm, rng)
    stay_away(farm)
    farm.cluster.keda.start()


def api_server_and_etcd_restarted(farm: FarmAtWork, _: random.Random) -> None:
    farm.cluster.api_server.kill()
    farm.cluster.etcd.stop()
    stay_away(farm)
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
        wait_for(lambda: bool(open_moves(farm)), MOVED_S, look_s=0.1)
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
    stay_away(farm)
    farm.prometheus.start()


def prometheus_hanging(farm: RealFarm, _: random.Random) -> None:
    process = farm.prometheus.process
    process.send_signal(signal.SIGSTOP)
    try:
        stay_away(farm)
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
    stay_away(farm)
    farm.mosquitto.start()


def mosquitto_killed(farm: RealFarm, _: random.Random) -> None:
    farm.mosquitto.kill()
    stay_away(farm)
    farm.mosquitto.start()


def postgres_restarted(farm: RealFarm, _: random.Random) -> None:
    farm.postgres.stop()
    stay_away(farm)
    farm.postgres.start()


def postgres_full(farm: RealFarm, _: random.Random) -> None:
    """Its disk is full, until somebody makes room."""
    ballast = farm.database_disk / "ballast"
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    stay_away(farm, 2 * AWAY_S)
    ballast.unlink()
    if farm.postgres.process.poll() is not None:  # it gave up, which it may
        farm.postgres.start()


def network_cut(farm: FarmAtWork, rng: random.Random) -> None:
    with farm.nodes[a_node_with_streams(farm, rng)].network_cut():
        time.sleep(CUT_S)


def clock_wrong(farm: FarmAtWork, _: random.Random) -> None:
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


def fault(happen: Callable[[Any, random.Random], object], within_s: float, seen: Seen, **clocks: int) -> Fault:
    return Fault(happen.__name__.replace("_", " "), happen, within_s, seen, clocks)


def camera_clock_steps(farm: RealFarm, _: random.Random) -> None:
    """Forward by hours, back by a day, put right, and a minute ahead: after each step rows go on coming."""
    for offset_s in (7200, -86400, 0, 60):
        since = time.time()
        farm.cameras["pi2"].set_clock(offset_s)
        farm.until_clocks_differ("pi2", offset_s, since)


def stolen_token_tries_everything(farm: RealFarm, _: random.Random) -> None:
    """Who has the token of the scaler's account tries to change a stream; deploy/'s policy refuses each attempt."""
    cluster = farm.cluster
    policy = objects_of(BASE / "admission-policy.yaml")
    for item in policy:
        assert send(cluster, item) == ""
    annotate(farm, {"theirs": "x", PINNED: "true"})  # what it must not touch
    try:
        thief = cluster.client_for(account(cluster, NAMESPACE, "posture-scaler"))
        counts = itertools.count()

        def in_force() -> bool:
            # a label does nobody harm
            said = refusal(thief, NAMESPACE, ("add", "/metadata/labels/probe", str(next(counts))))
            return "ValidatingAdmissionPolicy" in said

        wait_for(in_force, 120)
        before = cluster.client.get(ScaledJob, NAME, namespace=NAMESPACE).to_dict()["spec"]
        taken = [what for what, operation in ATTEMPTS.items() if not refusal(thief, NAMESPACE, operation)]
        assert taken == [], f"it may change {taken}"
        assert cluster.client.get(ScaledJob, NAME, namespace=NAMESPACE).to_dict()["spec"] == before
    finally:
        annotate(farm, {"theirs": None, PINNED: None})
        kinds = {"ValidatingAdmissionPolicy": ValidatingAdmissionPolicy}
        for item in policy:
            kind = kinds.get(item["kind"], ValidatingAdmissionPolicyBinding)
            cluster.client.delete(kind, item["metadata"]["name"])


def annotate(farm: RealFarm, texts: Mapping[str, str | None]) -> None:
    """Write annotations of the stream that the token's thief is after, or take them away."""
    changed = {"metadata": {"annotations": dict(texts)}}
    farm.cluster.client.patch(ScaledJob, NAME, changed, namespace=NAMESPACE, patch_type=PatchType.MERGE)


OFFLINE = ("PostureAnalyzerOffline", "PostureStreamDown")
LOST = r"The analyzer is offline: connection lost"
BLIND = "Prometheus can't tell that it is away: another one has to"

FIRST = (
    fault(analyzer_killed, 90, Seen("/", LOST, OFFLINE)),
    fault(kubelet_stopped, 120, Seen("/farm", "NotReady", OFFLINE, "the streams are moved before they come")),
    fault(keda_killed, 120, Seen("/farm", r"KEDA has not asked for \d+ s", ("PostureKedaSilent",))),
    fault(mosquitto_restarted, 60, Seen("/", "The broker is away", ("PostureDashboardBlind",))),
    fault(
        balancer_killed_in_mid_move, 120,
        Seen("/farm", "(→.* not finished|Balancer .*)", ("PostureBalancerDown", "PostureMoveHangs")),
    ),
    fault(
        poison_message, 60,
        Seen("/", r"\d+ rejected", ("PostureFramesRejected",), "not before there are more than 10 in 15 minutes"),
    ),
    fault(flood, 60, Seen("/", r"\d{3,} rejected", ("PostureFramesRejected",))),
    fault(
        old_manifests_reapplied, 60,
        Seen("/farm", "PlacementDrift .*", but="the balancer turns it back, and the Event has who wrote it"),
    ),
    fault(node_drained, 60, Seen("/farm", "cordoned", but="it is done on purpose")),
)  # fmt: skip
"""Those of every run."""

OTHERS = (
    fault(scaler_killed, 60, Seen("/farm", "Scaler .*", ("PostureScalerDown",))),
    fault(analyzer_out_of_memory, 90, Seen("/farm", r"failed .*OOMKilled.*", OFFLINE)),
    fault(
        runtime_restarted, 120,
        Seen("/farm", "", but="containers go on without containerd, and nothing is to be done about it"),
    ),
    fault(
        node_deleted, 180, Seen("/farm", "No node of the cluster has the label .*", ("PostureNodeUnknown",))
    ),
    fault(
        api_server_and_etcd_restarted, 120, Seen("/farm", "The Kubernetes API is away", ("PostureBalancerIdle",))
    ),
    fault(prometheus_lying, 60, Seen("/farm", "Usage unknown: .*", ("PostureNodeUnknown",))),
    fault(prometheus_stopped, 60, Seen("/farm", "Prometheus is away", but=BLIND)),
    fault(prometheus_hanging, 60, Seen("/farm", "Prometheus is away", but=BLIND)),
    fault(mosquitto_killed, 60, Seen("/", "The broker is away", ("PostureDashboardBlind",))),
    fault(postgres_restarted, 60, Seen("/", "The database is away", ("PostureDatabaseDown",))),
    fault(postgres_full, 90, Seen("/", "The analyzer is offline: waiting for the store", OFFLINE[:1])),
    fault(network_cut, 120, Seen("/", LOST, OFFLINE[:1])),
    fault(clock_wrong, 60, Seen("/", "clock is .* ahead", ("PostureCameraClock",)), pi1=3600),
    fault(camera_clock_steps, 60, Seen("/", "clock is .* ahead", ("PostureCameraClock",)), pi2=0),
    fault(
        node_clock_steps, 60,
        Seen("/", "", but="only analyzed_time is by it; clocks of nodes are node_exporter's to watch"),
    ),
    fault(node_added_and_removed_for_good, 60, Seen("/farm", "xavier", but="it is done on purpose")),
    fault(
        scaled_job_edited_by_hand, 60,
        Seen("/farm", "(PlacementDrift|StreamDown) .*", ("PostureStreamDown", "PostureStreamForgotten")),
    ),
    fault(admission_webhook_away, 120, Seen("/farm", "failed calling webhook", ("PostureStreamDown",))),
    fault(quota_reached, 120, Seen("/farm", "exceeded quota", ("PostureStreamDown",))),
    fault(
        stolen_token_tries_everything, 60,
        Seen("/farm", "", but="each is refused, nothing changes, and the API server's audit log has who asked"),
    ),
)  # fmt: skip

ANY_FARM_FIRST = tuple(one for one in FIRST if one.happen is analyzer_killed)
ANY_FARM = tuple(
    one
    for one in FIRST + OTHERS
    if one.happen
    in (
        analyzer_killed, analyzer_out_of_memory, runtime_restarted, kubelet_stopped, node_deleted, keda_killed,
        api_server_and_etcd_restarted, network_cut,
    )
)  # fmt: skip
"""Those that ask for a farm's nodes, control plane and cameras only: they happen to the stack (test_stack.py)."""
