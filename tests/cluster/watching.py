"""Waiting for the cluster's state by watch, with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx2
from lightkube import AsyncClient
from lightkube.config.kubeconfig import SingleConfig
from lightkube.resources.core_v1 import Pod
from scaled_jobs import is_ready

if TYPE_CHECKING:
    from control_plane import Cluster

RETRY_S = 0.1
LOOK_S = 0.05


def until(
    config: SingleConfig,
    kind: type[Any],
    namespace: str | None,
    condition: Callable[[Sequence[Any]], bool],
    labels: Mapping[str, str] | None,
    timeout_s: float,
) -> list[Any]:
    """Return the objects of a kind once the condition holds for them; an API server that is away is waited for.

    Raises:
        AssertionError: it didn't hold within ``timeout_s``.
    """
    seen: dict[str, Any] = {}
    try:
        return asyncio.run(asyncio.wait_for(_until(config, kind, namespace, condition, labels, seen), timeout_s))
    except asyncio.TimeoutError:
        state = "\n".join(str(item.to_dict()) for item in seen.values()) or "none"
        raise AssertionError(f"not within {timeout_s:g} s; {kind.__name__}s:\n{state}") from None


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0, look_s: float = LOOK_S) -> None:
    """Wait for what no watch tells, looking every ``look_s``.

    Raises:
        AssertionError: it didn't hold within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        time.sleep(look_s)


@contextlib.contextmanager
def unready_streams(cluster: Cluster, namespace: str) -> Iterator[list[set[str]]]:
    """Note, at each change of a pod, which of the streams that ran at first have no Ready pod."""
    client = cluster.client_for(cluster.kubeconfig)
    pods = client.list(Pod, namespace=namespace)
    ready = {pod.metadata.uid: pod.metadata.labels["posture-farm/stream"] for pod in pods if is_ready(pod)}
    streams, noted, ended = set(ready.values()), [], threading.Event()

    def follow() -> None:
        # the API server may end before the watch does
        with contextlib.suppress(httpx2.HTTPError):
            for event, pod in client.watch(Pod, namespace=namespace, resource_version=pods.resourceVersion):
                if ended.is_set():
                    return
                ready.pop(pod.metadata.uid, None)
                if event != "DELETED" and is_ready(pod):
                    ready[pod.metadata.uid] = pod.metadata.labels["posture-farm/stream"]
                noted.append(streams - set(ready.values()))

    threading.Thread(target=follow, daemon=True).start()
    yield noted

    def is_up_to_date() -> bool:
        return set(ready) == {pod.metadata.uid for pod in client.list(Pod, namespace=namespace) if is_ready(pod)}

    wait_for(is_up_to_date)
    ended.set()


async def _until(
    config: SingleConfig,
    kind: type[Any],
    namespace: str | None,
    condition: Callable[[Sequence[Any]], bool],
    labels: Mapping[str, str] | None,
    seen: dict[str, Any],
) -> list[Any]:
    where = {} if namespace is None else {"namespace": namespace}
    client = AsyncClient(config, trust_env=False)
    try:
        while True:
            try:
                listing = client.list(kind, labels=labels, **where)
                seen.clear()
                seen.update({item.metadata.uid: item async for item in listing})
                if condition(list(seen.values())):
                    return list(seen.values())
                version = listing.resourceVersion
                async for event, item in client.watch(kind, labels=labels, resource_version=version, **where):
                    if event == "DELETED":
                        seen.pop(item.metadata.uid, None)
                    else:
                        seen[item.metadata.uid] = item
                    if condition(list(seen.values())):
                        return list(seen.values())
            except httpx2.HTTPError:
                await asyncio.sleep(RETRY_S)
    finally:
        await client.close()
