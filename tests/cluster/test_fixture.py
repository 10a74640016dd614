"""The fixture itself: rights, nodes, and that nothing of it outlives a killed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import binaries
import pytest
from control_plane import Cluster
from lightkube import ALL_NS, ApiError
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Node, Pod
from nodes import Kubelets, SimulatedNode
from pods import Fault
from processes import is_running
from scaled_jobs import affinity, is_ready
from watching import wait_for

HERE = Path(__file__).resolve().parent
END_S = 30.0


def pod(name: str, node: str, *command: str, **environment: str) -> dict[str, object]:
    container = {
        "name": "program",
        "image": "none",
        "command": list(command),
        "env": [
            *({"name": key, "value": value} for key, value in environment.items()),
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
    }
    spec = {"affinity": affinity(node), "restartPolicy": "Never", "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_a_role_may_do_what_its_rules_say_and_nothing_else(cluster: Cluster, namespace: str) -> None:
    kubeconfig = cluster.role(
        namespace,
        "reader",
        rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
        cluster_rules=[{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}],
    )
    reader = cluster.client_for(kubeconfig)
    assert list(reader.list(Pod, namespace=namespace)) == []
    assert list(reader.list(Node)) == []
    for kind, where in ((Job, namespace), (Pod, ALL_NS)):
        with pytest.raises(ApiError) as caught:
            list(reader.list(kind, namespace=where))
        assert caught.value.status.code == 403


@pytest.mark.parametrize("obstacle", ["not ready", "cordoned", "tainted", "too full"])
def test_the_scheduler_binds_no_pod_to_a_node_that_must_not_have_it(
    cluster: Cluster, namespace: str, nodes: Kubelets, obstacle: str
) -> None:
    node = nodes.add("agx", cpu="100m" if obstacle == "too full" else "4")
    if obstacle == "not ready":
        node.set_ready(False)
        cluster.until(Node, None, lambda all_of_them: bool(all_of_them[0].spec.taints))
    if obstacle == "cordoned":
        node.cordon()
    if obstacle == "tainted":
        node.taint("maintenance")
    manifest = pod("one", "agx", "sleep", "infinity")
    manifest["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "200m"}}  # type: ignore[index]
    cluster.create(namespace, manifest)
    (unscheduled,) = cluster.until(Pod, namespace, lambda pods: any(map(is_unschedulable, pods)))
    assert unscheduled.spec.nodeName is None


def is_unschedulable(found: Pod) -> bool:
    conditions = (found.status.conditions or []) if found.status else []
    return any(condition.type == "PodScheduled" and condition.reason == "Unschedulable" for condition in conditions)


def phases(pods: Iterable[Any]) -> list[str]:
    return [one.status.phase for one in pods]


def taints(node: Any) -> list[str]:
    return [taint.key for taint in node.spec.taints or []]


def waiting_reason(found: Pod) -> str | None:
    statuses = (found.status.containerStatuses or []) if found.status else []
    return next((status.state.waiting.reason for status in statuses if status.state.waiting), None)


def test_a_node_lets_its_pods_start_late_or_go_wrong(cluster: Cluster, namespace: str, nodes: Kubelets) -> None:
    node = nodes.add("agx")
    node.fault = Fault.IMAGE_PULL
    cluster.create(namespace, pod("image", "agx", "sleep", "infinity"))
    cluster.until(Pod, namespace, lambda pods: any(waiting_reason(one) == "ImagePullBackOff" for one in pods))
    node.fault = Fault.NEVER_READY
    cluster.create(namespace, pod("never", "agx", "sleep", "infinity"))
    cluster.until(Pod, namespace, lambda pods: "Running" in phases(pods))
    assert not any(map(is_ready, cluster.client.list(Pod, namespace=namespace)))
    node.fault = Fault.CRASH
    cluster.create(namespace, pod("crash", "agx", "sleep", "infinity"))
    cluster.until(Pod, namespace, lambda pods: "Failed" in phases(pods))
    node.fault, node.start_delay_s = None, 1.0
    started = time.monotonic()
    cluster.create(namespace, pod("late", "agx", "sleep", "infinity"))
    cluster.until(Pod, namespace, lambda pods: any(map(is_ready, pods)))
    assert time.monotonic() - started >= 1.0


def test_a_node_can_run_the_pods_real_command_with_its_environment(
    cluster: Cluster, namespace: str, nodes: Kubelets
) -> None:
    node = nodes.add("agx")
    node.runs_commands = True
    program = "import os, time; print(os.environ['STREAM'], os.environ['NODE'], flush=True); time.sleep(1000)"
    cluster.create(namespace, pod("one", "agx", "python3", "-c", program, STREAM="pi1"))
    cluster.until(Pod, namespace, lambda pods: any(map(is_ready, pods)))
    pid = nodes.process_of(namespace, "one")
    deadline = time.monotonic() + END_S
    while nodes.log("one") != "pi1 agx\n":
        assert time.monotonic() < deadline, nodes.log("one")
        time.sleep(0.02)
    cluster.client.delete(Pod, "one", namespace=namespace)
    cluster.until(Pod, namespace, lambda pods: not pods)
    assert not is_running(pid)


def test_a_program_that_ends_ends_its_pod(cluster: Cluster, namespace: str, nodes: Kubelets) -> None:
    node = nodes.add("agx")
    node.runs_commands = True
    cluster.create(namespace, pod("good", "agx", "true"), pod("bad", "agx", "false"))
    pods = cluster.until(Pod, namespace, lambda pods: {"Pending", "Running"}.isdisjoint(phases(pods)))
    assert {one.metadata.name: one.status.phase for one in pods} == {"good": "Succeeded", "bad": "Failed"}


def test_a_dead_node_is_tainted_by_the_node_controller(cluster: Cluster, namespace: str, nodes: Kubelets) -> None:
    node: SimulatedNode = nodes.add("agx")
    node.die()
    cluster.until(Node, None, lambda found: "node.kubernetes.io/unreachable" in taints(found[0]))


def test_a_node_that_was_given_up_by_mistake_says_that_it_is_ready(
    cluster: Cluster, namespace: str, nodes: Kubelets
) -> None:
    nodes.add("agx")
    given_up = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": ""}

    def is_given_up() -> bool:
        # each time: a heartbeat may come before the node controller has seen it
        cluster.client.patch(Node.Status, "agx", {"status": {"conditions": [given_up]}})
        return "node.kubernetes.io/unreachable" in taints(cluster.client.get(Node, "agx"))

    wait_for(is_given_up)
    cluster.until(Node, None, lambda found: taints(found[0]) == [])


def test_all_of_it_can_be_killed_and_started_again_with_its_data(
    cluster: Cluster, namespace: str, nodes: Kubelets
) -> None:
    nodes.add("agx")
    cluster.create(namespace, pod("before", "agx", "sleep", "infinity"))
    cluster.until(Pod, namespace, lambda pods: any(map(is_ready, pods)))
    for component in cluster.components:
        component.kill()
    cluster.start()
    cluster.create(namespace, pod("after", "agx", "sleep", "infinity"))
    cluster.until(Pod, namespace, lambda pods: len(pods) == 2 and all(map(is_ready, pods)))


STARTS_ETCD = """
import sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent / "support")]
import binaries, control_plane
etcd = control_plane.Etcd(binaries.folder(), Path(sys.argv[2]))
etcd.start()
print(etcd.process.pid, flush=True)
time.sleep(1000)
"""


def test_no_component_outlives_a_killed_run(cluster: Cluster, tmp_path: Path) -> None:
    assert not binaries.missing()
    command = [sys.executable, "-c", STARTS_ETCD, str(HERE), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert is_running(pid)
        os.kill(run.pid, signal.SIGKILL)
    deadline = time.monotonic() + END_S
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
