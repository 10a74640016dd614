"""The life of one pod on a simulated node, as its kubelet would tell it to the API server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import enum
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx2
from lightkube import ApiError, AsyncClient
from lightkube.resources.core_v1 import ConfigMap, Pod, Secret
from lightkube.types import PatchType

from posture.system.children import bound_to_us

ROOT = Path(__file__).resolve().parent.parent.parent
RETRY_S = 0.1
LATE_LOOK_S = 2.0
"""How often a pod that starts late looks whether it still is to."""


class Fault(enum.Enum):
    """What goes wrong with a pod on its node."""

    STUCK = "it stays in ContainerCreating"
    IMAGE_PULL = "its image can't be pulled: ImagePullBackOff"
    NEVER_READY = "it runs and never gets ready"
    CRASH = "its program ends at once with status 1"


class Place(Protocol):
    """What a pod needs to know of its node."""

    name: str
    start_delay_s: float
    termination_delay_s: float
    fault: Fault | None
    runs_commands: bool
    entrypoints: Mapping[str, Sequence[str]]
    up: asyncio.Event


class PodLife:
    """One pod from its binding to its end.

    Args:
        client: the administrator's.
        node: where it was bound.
        pod: as it was then.
        folder: for the output of its real command: ``<pod>.log``.
    """

    def __init__(self, client: AsyncClient, node: Place, pod: Any, folder: Path) -> None:
        self._client = client
        self.node = node
        self.name: str = pod.metadata.name
        self.namespace: str = pod.metadata.namespace
        self._pod = pod
        self._log = folder / f"{self.name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self.started = False
        self.deleted = asyncio.Event()
        """Somebody wants it gone."""
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Its program's exit status."""

    @property
    def pid(self) -> int:
        """Of its real command, which runs."""
        assert self._process is not None
        return self._process.pid

    async def run(self) -> None:
        """Live it. Cancelled when the object is gone or the node is removed."""
        try:
            await self._start()
            status = await self._wait_for_end()
            if self.started:
                await self._report_end(status)
            await self.deleted.wait()
            if not self.started:
                await self._report({"phase": "Failed"})
            await self._let_go()
        finally:
            self.kill()

    def exit(self, status: int) -> None:
        """Its program ends with this status."""
        if not self.exited.done():
            self.exited.set_result(status)

    def kill(self) -> None:
        """End its real process, if there is one, without a word to the API server."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def lose_readiness(self) -> None:
        """What the node controller does to the pods of a node that is gone."""
        await self._patch({"conditions": [condition("Ready", False)]})

    async def _start(self) -> None:
        """Bring it as far as its node's fault lets it."""
        node, began = self.node, time.monotonic()
        while not self.deleted.is_set() and (left_s := began + node.start_delay_s - time.monotonic()) > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.deleted.wait(), min(left_s, LATE_LOOK_S))
        if self.deleted.is_set() or node.fault is Fault.STUCK:
            return
        if node.fault is Fault.IMAGE_PULL:
            waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
            await self._report({"containerStatuses": self._containers(waiting, ready=False)})
            return
        await node.up.wait()
        self.started = True
        if node.runs_commands:
            await self._start_process()
        ready = node.fault is None
        await self._report(
            {
                "phase": "Running",
                "startTime": now(),
                "podIP": "127.0.0.1",
                "podIPs": [{"ip": "127.0.0.1"}],
                "conditions": [
                    condition("Initialized", True), condition("ContainersReady", ready), condition("Ready", ready)
                ],
                "containerStatuses": self._containers({"running": {"startedAt": now()}}, ready=ready),
            }
        )  # fmt: skip
        if node.fault is Fault.CRASH:
            self.exit(1)

    async def _wait_for_end(self) -> int:
        """Return the exit status, once its program has ended by itself or because the pod was deleted."""
        deleted = asyncio.ensure_future(self.deleted.wait())
        try:
            await asyncio.wait([deleted, self.exited], return_when=asyncio.FIRST_COMPLETED)
        finally:
            deleted.cancel()
        if self.exited.done():
            return self.exited.result()
        await asyncio.sleep(self.node.termination_delay_s)
        return await self._stop_process()

    async def _report_end(self, status: int) -> None:
        terminated = {"terminated": {"exitCode": status, "startedAt": now(), "finishedAt": now()}}
        await self._report(
            {
                "phase": "Failed" if status else "Succeeded",
                "conditions": [condition("ContainersReady", False), condition("Ready", False)],
                "containerStatuses": self._containers(terminated, ready=False),
            }
        )

    async def _report(self, status: Mapping[str, Any]) -> None:
        await self._insist(lambda: self._patch(status))

    async def _patch(self, status: Mapping[str, Any]) -> None:
        patch = {"metadata": {"uid": self._pod.metadata.uid}, "status": dict(status)}
        await self._client.patch(
            Pod.Status, self.name, patch, namespace=self.namespace, patch_type=PatchType.STRATEGIC
        )

    async def _let_go(self) -> None:
        await self._insist(lambda: self._client.delete(Pod, self.name, namespace=self.namespace, grace_period=0))

    async def _insist(self, request: Callable[[], Awaitable[Any]]) -> None:
        """Send a request, when the node is up, until the API server has answered it."""
        while True:
            await self.node.up.wait()
            try:
                await request()
            except ApiError as error:
                if error.status.code in {404, 409}:  # the pod has gone already
                    return
            except httpx2.HTTPError:
                pass  # the API server is away
            else:
                return
            await asyncio.sleep(RETRY_S)

    def _containers(self, state: Mapping[str, Any], ready: bool) -> list[dict[str, Any]]:
        return [
            {
                "name": container.name,
                "image": container.image,
                "imageID": "",
                "ready": ready,
                "started": ready,
                "restartCount": 0,
                "state": dict(state),
            }
            for container in self._pod.spec.containers
        ]

    # its real command

    async def _start_process(self) -> None:
        container = self._pod.spec.containers[0]
        command = [*(container.command or self.node.entrypoints[container.image]), *(container.args or [])]
        # the image's Python is ours
        command[0] = sys.executable if command[0] in {"python", "python3"} else command[0]
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *bound_to_us(command),
                cwd=ROOT,
                env={**environment, **await self._environment(container)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        asyncio.ensure_future(self._process.wait()).add_done_callback(lambda ended: self.exit(abs(ended.result())))

    async def _stop_process(self) -> int:
        """Ask it to end, and end it after the pod's grace period; without one the status is 0."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait(), self._pod.spec.terminationGracePeriodSeconds or 30)
        self.kill()
        return abs(await self._process.wait())

    async def _environment(self, container: Any) -> dict[str, str]:
        """The variables that the manifest sets: plain ones, the pod's own fields, ConfigMaps and Secrets."""
        found = {}
        for source in container.envFrom or []:
            if source.secretRef is not None:
                found.update(await self._values(Secret, source.secretRef))
            if source.configMapRef is not None:
                found.update(await self._values(ConfigMap, source.configMapRef))
        for variable in container.env or []:
            source = variable.valueFrom
            value = variable.value or "" if source is None else await self._value_from(source)
            if value is not None:
                found[variable.name] = value
        return found

    async def _value_from(self, source: Any) -> str | None:
        """One variable's value; None if it is optional and not there."""
        if source.fieldRef is not None:
            return self._field(source.fieldRef.fieldPath)
        kind, ref = (Secret, source.secretKeyRef) if source.secretKeyRef else (ConfigMap, source.configMapKeyRef)
        values = await self._values(kind, ref)
        return values.get(ref.key) if ref.optional else values[ref.key]

    def _field(self, path: str) -> str:
        fields = {
            "metadata.name": self.name,
            "metadata.namespace": self.namespace,
            "metadata.uid": self._pod.metadata.uid,
            "spec.nodeName": self.node.name,
            "status.podIP": "127.0.0.1",
        }
        return fields[path]

    async def _values(self, kind: type[Any], ref: Any) -> dict[str, str]:
        """What a Secret or a ConfigMap holds; nothing if it is optional and not there."""
        try:
            data = (await self._client.get(kind, ref.name, namespace=self.namespace)).data or {}
        except ApiError as error:
            if error.status.code == 404 and ref.optional:
                return {}
            raise
        return {key: base64.b64decode(value).decode() if kind is Secret else value for key, value in data.items()}


def condition(kind: str, holds: bool) -> dict[str, Any]:
    return {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": now()}


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
