"""One balancer acts at a time (R10): a Lease of the Kubernetes API, as client-go's leader election takes it.

Clocks of different machines are never compared: a Lease has expired when *we* have seen it unchanged for its
duration. Whoever holds it stops acting some time before the others would take it.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from posture.kube import errors, kinds, labels
from posture.kube.client import KubeClient, Object

log = logging.getLogger(__name__)

SAFE_SHARE = 2 / 3
"""We act for this fraction of the duration after our last renewal; the others wait for the whole duration."""


def awake_or_asleep() -> float:
    """Return seconds of a monotonic clock that, on Linux, also counts while the machine is suspended."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Lease:
    """The right to act for one farm.

    Args:
        cluster: where the Lease lives.
        farm: the farm's name; the Lease is named after it.
        duration_s: after so many seconds without a renewal another may take it.
        clock: a laptop that was closed must not believe that no time has passed.
    """

    def __init__(
        self, cluster: KubeClient, farm: str, duration_s: float, clock: Callable[[], float] = awake_or_asleep
    ) -> None:
        self.name = f"posture-balancer-{farm}"
        self.identity = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.holder = ""
        """Who held it when we last looked."""
        self._cluster = cluster
        self._farm = farm
        self._duration_s = duration_s
        self._clock = clock
        self._lock = threading.Lock()
        self._renewed_at: float | None = None
        self._ours: Object | None = None
        self._seen: str | None = None
        self._seen_at = 0.0

    @property
    def held(self) -> bool:
        """Say whether we may act now."""
        renewed_at = self._renewed_at
        return renewed_at is not None and self._clock() - renewed_at < self._duration_s * SAFE_SHARE

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the Lease while it is ours, from a thread of its own, however long other work takes meanwhile."""
        ended = threading.Event()

        def keep() -> None:
            while not ended.wait(self._duration_s / 4):
                with self._lock:
                    # one that has expired is taken anew by who then has to look at the whole farm
                    if not self.held:
                        continue
                    try:
                        self._renew()
                    except errors.KubeError as error:
                        log.warning("the Lease %s was not renewed: %s", self.name, error)

        thread = threading.Thread(target=keep, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def renew(self) -> bool:
        """Take the Lease, or keep it; return whether we may act.

        Raises:
            KubeError: the API server did not answer; what :attr:`held` says still holds.
        """
        with self._lock:
            return self._renew()

    def _renew(self) -> bool:
        asked_at = self._clock()
        try:
            if self._ours is None:
                self._ours = self._read()
                if self._ours is not None and not self._is_free(self._ours):
                    self._ours = self._renewed_at = None
                    return False
            self._ours = self._write(self._ours, self.identity)
        except errors.ConflictError:
            # another one was quicker
            self._ours = self._renewed_at = None
            return False
        except errors.KubeError:
            # whether it was written is not known
            self._ours = None
            raise
        if self._renewed_at is None:
            log.info("this balancer acts from now on (Lease %s)", self.name)
        self._renewed_at = asked_at
        self.holder = self.identity
        return self.held

    def release(self) -> None:
        """Give the Lease back, so that another need not wait for it to expire; errors are only logged."""
        with self._lock:
            if self._renewed_at is None:
                return
            self._renewed_at = None
        try:
            lease = self._read()
            if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
                self._write(lease, "")
        except errors.KubeError as error:
            log.warning("the Lease could not be given back: %s", error)

    def _read(self) -> Object | None:
        try:
            return self._cluster.get(kinds.LEASE, self.name)
        except errors.NotFoundError:
            return None

    def _is_free(self, lease: Object) -> bool:
        """Say whether it is ours, nobody's, or has not been renewed for its duration."""
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder != self.holder and holder not in {"", self.identity}:
            log.info("the balancer %s acts; this one waits", holder)
        self.holder = holder
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen:
            self._seen, self._seen_at = version, self._clock()
        if holder in {"", self.identity}:
            return True
        duration_s = float(spec.get("leaseDurationSeconds") or self._duration_s)
        return self._clock() - self._seen_at > duration_s

    def _write(self, lease: Object | None, holder: str) -> Object:
        """Write the Lease over the one that was read, if nobody else has; return it as it is now."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = (lease or {}).get("spec") or {}
        changed = before.get("holderIdentity") != holder
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(self._duration_s)),
            "acquireTime": now if changed else before.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + int(changed),
        }
        metadata: Object = {
            "name": self.name,
            "namespace": self._cluster.namespace,
            "labels": {labels.PART_OF: labels.OURS, labels.FARM: self._farm},
        }
        body: Object = {
            "apiVersion": kinds.LEASE.api,
            "kind": kinds.LEASE.name,
            "metadata": metadata,
            "spec": spec,
        }
        if lease is None:
            return self._cluster.create(kinds.LEASE, body)
        metadata["resourceVersion"] = lease["metadata"]["resourceVersion"]
        return self._cluster.replace(kinds.LEASE, self.name, body)
