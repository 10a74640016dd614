"""Simulated nodes: what a kubelet tells the API server, without containers.

The real scheduler binds pods to them; each pod goes from Pending to Running, and goes away when it is deleted.
What happens on the way is set per node.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import signal
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from control_plane import ANSWER_S
from lightkube import ALL_NS, ApiError, AsyncClient, KubeConfig
from lightkube.codecs import from_dict
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Node, Pod
from pods import RETRY_S, Fault, PodLife, condition

Result = TypeVar("Result")

LEASES = "kube-node-lease"
HEARTBEAT_S = 5.0
"""The node controller gives up a node after 50 s without."""
CALL_S = 120.0
LOOK_S = 0.05
MARKS = {"node.alpha.kubernetes.io/ttl", "beta.kubernetes.io/os"}
"""Controllers write this annotation and this label to each node."""


class SimulatedNode:
    """One node. Its settings may be changed at any time; they count for the pods that start or end afterwards."""

    def __init__(self, kubelets: Kubelets, name: str) -> None:
        self.name = name
        self.start_delay_s = 0.0
        """From a pod's binding until it runs and is ready; once it is shortened, pods that wait so long start."""
        self.termination_delay_s = 0.0
        """From a pod's deletion until it is gone."""
        self.fault: Fault | None = None
        """What goes wrong with pods here; None: nothing."""
        self.runs_commands = False
        """Whether a pod's real command is started as a process of this machine, with the pod's environment."""
        self.entrypoints: dict[str, Sequence[str]] = {}
        """What an image starts where the pod names no command."""
        self.status: dict[str, Any] = {}
        """What the kubelet reports of the node, one report after the other."""
        self.reporting = asyncio.Lock()
        self.up = asyncio.Event()
        """Whether the kubelet works; of the kubelets' thread."""
        self._kubelets = kubelets

    def die(self) -> None:
        """Lose power: the node and its pods are not ready at once, and its pods can't go away any more.

        What the node controller does after 50 s without a heartbeat is done here at once; the taint that follows
        is the node controller's own.
        """
        self._kubelets.call(self._kubelets.lose(self))

    def revive(self) -> None:
        """Come back from ``die``: pods that were deleted meanwhile go, the others have failed."""
        self._kubelets.call(self._kubelets.find_again(self))

    def set_ready(self, ready: bool) -> None:
        """Report Ready or not, with a kubelet that goes on working."""
        self._kubelets.call(self._kubelets.report(self, "True" if ready else "False"))

    def cordon(self, cordoned: bool = True) -> None:
        """Make it unschedulable, or schedulable again."""
        self._kubelets.call(self._kubelets.patch(self.name, {"spec": {"unschedulable": cordoned}}))

    def taint(self, key: str, effect: str = "NoSchedule", value: str = "") -> None:
        """Add a taint."""
        taints = [{"key": key, "effect": effect, "value": value}]
        self._kubelets.call(self._kubelets.patch(self.name, {"spec": {"taints": taints}}))

    def delete(self) -> None:
        """Remove the Node object; its kubelet is gone with it."""
        self._kubelets.call(self._kubelets.remove(self))


class Kubelets:
    """The kubelets of all simulated nodes, in one thread.

    Args:
        kubeconfig: the administrator's.
        folder: for the output of the pods' real commands: ``<pod>.log``.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._folder = folder
        self._config = KubeConfig.from_file(kubeconfig).get()
        self._nodes: dict[str, SimulatedNode] = {}
        self._pods: dict[str, tuple[PodLife, asyncio.Task[None]]] = {}
        self._loop = asyncio.new_event_loop()
        # this thread stays, and the pods' processes end with it
        self._thread = threading.Thread(target=self._loop.run_forever, name="kubelets", daemon=True)
        self._thread.start()
        self._client: AsyncClient = self.call(self._connect())
        work = (self._follow_pods(), self._send_heartbeats())
        self._background = [asyncio.run_coroutine_threadsafe(one, self._loop) for one in work]

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run something in the kubelets' thread and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    def add(
        self,
        name: str,
        cpu: str = "4",
        memory: str = "8Gi",
        labels: Mapping[str, str] | None = None,
        schedulable: bool = True,
    ) -> SimulatedNode:
        """Add a node that is Ready, labelled ``gpu-node=<name>`` unless ``labels`` says otherwise.

        Without ``schedulable`` nobody waits for the node controller, slow after an outage of the API server.
        """
        node = SimulatedNode(self, name)
        self.call(self._add(node, cpu, memory, {"gpu-node": name} if labels is None else labels))
        if schedulable:
            self.call(self._become_schedulable(name))
        return node

    def remove_all(self) -> None:
        """Take all nodes away, and their pods with them."""
        self.call(self._remove_all())

    def end_pod(self, namespace: str, name: str, status: int) -> None:
        """Let a running pod's program end with that exit status."""
        self.call(self._end_pod(namespace, name, status))

    def process_of(self, namespace: str, name: str) -> int:
        """The process id of a pod's real command."""
        return self.call(self._process_of(namespace, name))

    def log(self, pod: str) -> str:
        """What a pod's real command has printed."""
        return (self._folder / f"{pod}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End the thread, and the pods' processes."""
        for work in self._background:
            work.cancel()
        self.call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # all that follows runs in the kubelets' thread

    async def lose(self, node: SimulatedNode) -> None:
        node.up.clear()
        pods = self._pods_of([node])
        for pod in pods:
            pod.kill()
        await self.report(node, "Unknown")
        await asyncio.gather(*(pod.lose_readiness() for pod in pods if pod.started))

    async def find_again(self, node: SimulatedNode) -> None:
        for pod in self._pods_of([node]):
            if pod.started:
                pod.exit(128 + signal.SIGKILL)
        node.up.set()
        await self.report(node, "True")
        await self._renew(node)

    async def report(self, node: SimulatedNode, ready: str) -> None:
        state = {**condition("Ready", True), "status": ready, "reason": "Simulated", "message": ""}
        node.status = {"status": {"conditions": [state]}}
        await self._post(node)

    async def _post(self, node: SimulatedNode) -> None:
        async with node.reporting:
            await self._client.patch(Node.Status, node.name, node.status)

    async def patch(self, name: str, patch: Mapping[str, Any]) -> None:
        await self._client.patch(Node, name, dict(patch))

    async def remove(self, node: SimulatedNode) -> None:
        node.up.clear()
        self._nodes.pop(node.name, None)
        tasks = [task for pod, task in self._pods.values() if pod.node is node]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with found_or_gone():
            await self._client.delete(Node, node.name)
        with found_or_gone():
            await self._client.delete(Lease, node.name, namespace=LEASES)

    async def _connect(self) -> AsyncClient:
        return AsyncClient(self._config, timeout=httpx2.Timeout(ANSWER_S), trust_env=False)

    async def _close(self) -> None:
        tasks = [task for _, task in self._pods.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def _add(self, node: SimulatedNode, cpu: str, memory: str, labels: Mapping[str, str]) -> None:
        name = node.name
        # known before its first pod comes
        self._nodes[name] = node
        node.up.set()
        hosts = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
        resources = {"cpu": cpu, "memory": memory, "pods": "250", "ephemeral-storage": "100Gi"}
        await self._client.create(
            from_dict(
                {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {**hosts, **labels}}}
            )
        )
        await self._client.create(
            Lease.from_dict({"metadata": {"name": name}, "spec": lease(name)}), namespace=LEASES
        )
        await self._client.patch(Node.Status, name, {"status": {"capacity": resources, "allocatable": resources}})
        await self.report(node, "True")

    async def _become_schedulable(self, name: str) -> None:
        # a new node is born with the taint of one that isn't ready; the node controller takes it away
        while not is_settled(await self._client.get(Node, name)):
            await asyncio.sleep(LOOK_S)

    async def _remove_all(self) -> None:
        nodes = list(self._nodes.values())
        names = {node.name for node in nodes}
        for node in nodes:
            await self.remove(node)
        # without a kubelet a deleted pod stays for ever
        async for pod in self._client.list(Pod, namespace=ALL_NS):
            if pod.spec.nodeName in names:
                with found_or_gone():
                    where = pod.metadata.namespace
                    await self._client.delete(Pod, pod.metadata.name, namespace=where, grace_period=0)

    async def _end_pod(self, namespace: str, name: str, status: int) -> None:
        self._pod(namespace, name).exit(status)

    async def _process_of(self, namespace: str, name: str) -> int:
        return self._pod(namespace, name).pid

    def _pod(self, namespace: str, name: str) -> PodLife:
        (pod,) = (pod for pod, _ in self._pods.values() if (pod.namespace, pod.name) == (namespace, name))
        return pod

    def _pods_of(self, nodes: Iterable[SimulatedNode]) -> list[PodLife]:
        return [pod for pod, _ in self._pods.values() if pod.node in nodes]

    async def _send_heartbeats(self) -> None:
        while True:
            for node in list(self._nodes.values()):
                if node.up.is_set():
                    with contextlib.suppress(httpx2.HTTPError):
                        await self._renew(node)
            await asyncio.sleep(HEARTBEAT_S)

    async def _renew(self, node: SimulatedNode) -> None:
        # after a long absence of the API server the node controller may have given the node up
        await self._post(node)
        await self._client.patch(Lease, node.name, {"spec": lease(node.name)}, namespace=LEASES)

    async def _follow_pods(self) -> None:
        while True:
            try:
                async for event, pod in self._client.watch(Pod, namespace=ALL_NS):
                    self._see(event, pod)
            except httpx2.HTTPError:  # the API server is away, or the watch has grown too old: start again
                await asyncio.sleep(RETRY_S)

    def _see(self, event: str, pod: Any) -> None:
        uid = pod.metadata.uid
        if event == "DELETED":
            if uid in self._pods:
                self._pods[uid][1].cancel()
            return
        if uid not in self._pods:
            node = self._nodes.get(pod.spec.nodeName or "")
            if node is None or (pod.status.phase in {"Succeeded", "Failed"}):
                return
            life = PodLife(self._client, node, pod, self._folder)
            task = asyncio.ensure_future(life.run())
            task.add_done_callback(lambda ended: self._forget(uid, ended))
            self._pods[uid] = (life, task)
        if pod.metadata.deletionTimestamp is not None:
            self._pods[uid][0].deleted.set()

    def _forget(self, uid: str, ended: asyncio.Task[None]) -> None:
        self._pods.pop(uid)
        if not ended.cancelled() and ended.exception() is not None:
            self._loop.call_exception_handler({"message": "a simulated pod failed", "exception": ended.exception()})


def is_settled(node: Any) -> bool:
    """Whether controllers have done with a new node what they do with each."""
    marks = {*(node.metadata.annotations or {}), *node.metadata.labels}
    return not node.spec.taints and marks >= MARKS


@contextlib.contextmanager
def found_or_gone() -> Any:
    """What is to be deleted may be gone already."""
    try:
        yield
    except ApiError as error:
        if error.status.code != 404:
            raise


def lease(node: str) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now}
