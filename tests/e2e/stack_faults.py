"""What goes wrong on purpose with the programs of deploy/stack: they are killed, or their pods deleted."""

from __future__ import annotations

import random

from farm_at_work import NAMESPACE, is_ready
from faults import OFFLINE, Fault, stay_away
from real_nodes import RealNode
from seen import Seen
from stack import SERVER, Stack
from victims import until_ready, until_streams_have_left
from watching import wait_for

ROLLED_OUT_S = 300.0
ABSENT_AT_ONCE = 1
ELSEWHERE_S = 90.0
"""A pod is made anew 30 s after its node is NotReady."""


def crash(name: str, within_s: float, seen: Seen, namespace: str = NAMESPACE, container: str = "") -> Fault:
    """The processes of a program are killed; kubelet starts them again."""

    def happen(stack: Stack, _: random.Random) -> None:
        stack.crash(name, namespace, container, within_s=within_s)

    return Fault(f"{container or name} killed", happen, within_s, seen, {})


def lost_pod(name: str, within_s: float, seen: Seen, namespace: str = NAMESPACE) -> Fault:
    """The pods of a program are deleted with force; its controller makes others."""

    def happen(stack: Stack, _: random.Random) -> None:
        stack.delete_pods(name, namespace, within_s=within_s)

    return Fault(f"pod of {name} deleted with force", happen, within_s, seen, {})


def dashboard_killed(stack: Stack, _: random.Random) -> None:
    """Afterwards the page shows all streams to who logs in."""
    stack.crash("posture-dashboard")
    with stack.page("operator", stack.secrets()["POSTURE_OPERATOR_PASSWORD"]) as page:
        wait_for(lambda: set(page.json("/api/streams")["streams"]) == set(stack.streams), 60, look_s=0.5)


def keda_killed_in_a_rollout(stack: Stack, _: random.Random) -> None:
    """All streams get a changed setting, one by one; KEDA is away while the first is replaced."""
    before, since = stack.jobs(), stack.timeline.count()
    # neither the default nor what another time has left
    bad_after_s = 4 + len(stack.timeline.accounts) / 100
    rollout = stack.roll_out("analyzer", "bad_after_s", bad_after_s)
    wait_for(lambda: not rollout.running or not set(before) <= set(stack.jobs()), ROLLED_OUT_S, look_s=0.1)
    assert rollout.running, rollout.said
    stack.cluster.keda.kill()
    stay_away(stack)
    stack.cluster.keda.start()
    assert rollout.wait(ROLLED_OUT_S) == 0, rollout.said
    assert not set(before) & set(stack.jobs()), rollout.said
    absent = [set(stack.streams) - set(running) for running in stack.timeline.places(since)]
    assert max(map(len, absent), default=0) <= ABSENT_AT_ONCE, "two streams were away at the same time"


def node_of_the_scaler(stack: Stack) -> RealNode:
    """Have scaler and balancer on a node without which the others can go on, and return it."""
    stack.kubectl("cordon", SERVER)
    stack.delete_pods("posture-scaler")
    stack.kubectl("uncordon", SERVER)
    (pod,) = stack.pods("posture-scaler")
    return stack.nodes[pod.spec.nodeName]


def until_replaced(stack: Stack, node: RealNode) -> None:
    """Wait until scaler and balancer run on another node, and no stream on this one."""
    wait_for(
        lambda: any(is_ready(one) and one.spec.nodeName != node.name for one in stack.pods("posture-scaler")),
        stack.pace.node_monitor_s + ELSEWHERE_S, look_s=0.5,
    )  # fmt: skip
    until_streams_have_left(stack, node.name)


def kubelet_of_the_scaler_s_node_stopped(stack: Stack, _: random.Random) -> None:
    node = node_of_the_scaler(stack)
    node.stop_program("kubelet")
    try:
        until_replaced(stack, node)
    finally:
        node.start_program("kubelet")
    until_ready(stack)


def node_of_the_scaler_switched_off(stack: Stack, _: random.Random) -> None:
    node = node_of_the_scaler(stack)
    node.cut_power()
    try:
        until_replaced(stack, node)
    finally:
        node.start()
    until_ready(stack)


def server_switched_off(stack: Stack, _: random.Random) -> None:
    """The node with broker, database, pictures and Prometheus loses its power, and is switched on again."""
    node = stack.nodes[SERVER]
    node.cut_power()
    stay_away(stack)
    node.start()


BLIND = Seen("/", "The broker is away", ("PostureDashboardBlind",))
NO_DATABASE = Seen("/", "", ("PostureDatabaseDown",), "it is back before the page asks again")
NO_PICTURES = Seen("/", "", ("PostureAnalyzerOffline",), "it is back before an analyzer says so")
NO_PAGE = Seen("/", "No connection to the dashboard", ("PostureDashboardDown",))
NO_FIGURES = Seen("/farm", "", ("PostureNodeUnknown",), "it is back before its last figures are too old")
NO_SCALER = Seen("/farm", "Scaler .*", ("PostureScalerDown",))
NO_BALANCER = Seen("/farm", "Balancer .*", ("PostureBalancerDown",))
NO_PROMETHEUS = Seen("/farm", "", but="it is back before the page asks again; by itself it can't tell")
NO_KEDA = Seen("/farm", r"KEDA has not asked for \d+ s", ("PostureKedaSilent",))
NOT_READY = Seen("/farm", "NotReady", OFFLINE, "the streams are moved before they come")
NO_SERVER = Seen("/", "(The broker is|No connection).*", ("PostureDashboardBlind", "PostureDatabaseDown"))

STACK_FIRST = (
    crash("posture-mqtt", 90, BLIND),
    crash("posture-postgres", 90, NO_DATABASE),
    Fault("posture-dashboard killed", dashboard_killed, 60, NO_PAGE, {}),
    crash("posture-exporter", 60, NO_FIGURES),
    Fault("KEDA killed in a rollout", keda_killed_in_a_rollout, 120, NO_KEDA, {}),
    Fault("kubelet of the scaler's node stopped", kubelet_of_the_scaler_s_node_stopped, 120, NOT_READY, {}),
)
"""Those of every run."""

STACK_OTHERS = (
    crash("posture-pictures", 90, NO_PICTURES),
    crash("posture-scaler", 60, NO_SCALER, container="scaler"),
    crash("posture-scaler", 60, NO_BALANCER, container="balancer"),
    crash("prometheus", 60, NO_PROMETHEUS, namespace="monitoring"),
    lost_pod("posture-mqtt", 90, BLIND),
    lost_pod("posture-postgres", 90, NO_DATABASE),
    lost_pod("posture-pictures", 90, NO_PICTURES),
    lost_pod("posture-scaler", 60, NO_SCALER),
    lost_pod("posture-dashboard", 60, NO_PAGE),
    lost_pod("posture-exporter", 60, NO_FIGURES),
    Fault("node of the scaler switched off", node_of_the_scaler_switched_off, 120, NOT_READY, {}),
    Fault("server switched off", server_switched_off, 240, NO_SERVER, {}),
)
