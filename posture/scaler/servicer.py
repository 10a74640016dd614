"""The gRPC servicer of the External Scaler: answers KEDA's calls from memory.

KEDA asks three questions a poll and ScaledJob, one after the other and without a deadline. So a handler only looks
at :class:`Answers`, which somebody else renews; it never waits for Prometheus or Kubernetes, and starts nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram

import externalscaler_pb2 as wire
from posture.scaler.debounce import Debounce

METRIC = "gpu_trigger"
TARGET = 1
"""KEDA starts value / target Jobs, at most maxReplicaCount: one free point suffices for one Job."""

LONGEST_NAME = 253
"""Of a Kubernetes object."""

MOST_STREAMS = 2000
"""Open at a time. KEDA opens one for each ScaledJob with an external-push trigger, and ours are external."""

LATENCY_BUCKETS_S = (2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2, 1e-1, 1.0)

Context = Any
"""A grpc.aio.ServicerContext."""


class Answers:
    """What each call is answered with. Everything happens in one event loop; other threads only read.

    Args:
        debounce: decides.
    """

    def __init__(self, debounce: Debounce) -> None:
        self.debounce = debounce
        self.closing = False
        self.metric_spec = wire.GetMetricSpecResponse(
            # One metric only: KEDA sums several. It reads the float; older versions read the integer.
            metricSpecs=[wire.MetricSpec(metricName=METRIC, targetSize=TARGET, targetSizeFloat=TARGET)]
        )
        self._changed = asyncio.Event()
        self._renew()

    def observe(self, usage: Mapping[str, float], now: float) -> bool:
        """Take a reading (points of each node that has a valid sample), and return whether Active has changed."""
        changed = self.debounce.observe(usage, now)
        self._renew()
        if changed:
            self._wake_streams()
        return changed

    def close(self) -> None:
        """End the streams."""
        self.closing = True
        self._wake_streams()

    async def changes(self, seconds: float) -> AsyncIterator[None]:
        """Yield at once, and at every change of Active; ends after so many seconds (0: never), or with us."""
        until = time.monotonic() + seconds if seconds else None
        while not self.closing:
            changed = self._changed
            yield None
            try:
                await asyncio.wait_for(changed.wait(), until and until - time.monotonic())
            except asyncio.TimeoutError:
                return

    def _renew(self) -> None:
        value = self.debounce.value
        self.is_active = wire.IsActiveResponse(result=self.debounce.active)
        self.metrics = wire.GetMetricsResponse(
            metricValues=[wire.MetricValue(metricName=METRIC, metricValue=int(value), metricValueFloat=value)]
        )

    def _wake_streams(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Calls:
    """Who asked what, and how long the answer took.

    Args:
        registry: where the figures are shown.
        max_tracked: of so many ScaledJobs the last call is remembered, those that asked last.
    """

    def __init__(self, registry: CollectorRegistry, max_tracked: int) -> None:
        self.last_at: float | None = None
        self.last_by_job: dict[tuple[str, str], float] = {}
        self._max_tracked = max_tracked
        self._seconds = Histogram(
            "posture_scaler_rpc_seconds",
            "Time in the handler of a call that was answered; what gRPC itself takes is not in it.",
            ["method"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._by_method = {name: self._seconds.labels(name) for name in ("IsActive", "GetMetricSpec", "GetMetrics")}
        self._refused = Counter(
            "posture_scaler_rpc_refused", "Calls that made no sense.", ["method", "code"], registry=registry
        )

    def answered(self, method: str, ref: wire.ScaledObjectRef, started: float) -> None:
        """Note a call.

        Args:
            method: its name.
            ref: for which ScaledJob.
            started: when it came, by time.perf_counter().
        """
        self.seen(ref)
        self._by_method[method].observe(time.perf_counter() - started)

    def seen(self, ref: wire.ScaledObjectRef) -> None:
        """Note that KEDA asked for this ScaledJob now."""
        job = (ref.namespace, ref.name)
        self.last_at = time.monotonic()
        # removed and added again, so that the dict is ordered by the time of the last call
        self.last_by_job.pop(job, None)
        self.last_by_job[job] = self.last_at
        if len(self.last_by_job) > self._max_tracked:
            del self.last_by_job[next(iter(self.last_by_job))]

    def refused(self, method: str, code: grpc.StatusCode) -> None:
        """Count a call with an invalid request."""
        self._refused.labels(method, code.name).inc()


class ExternalScaler:
    """The five calls of externalscaler.proto.

    Args:
        answers: what to say.
        calls: takes note.
        max_rpc_s: a stream ends after so many seconds; 0: never.
    """

    def __init__(self, answers: Answers, calls: Calls, max_rpc_s: float) -> None:
        self._answers = answers
        self._calls = calls
        self._max_rpc_s = max_rpc_s
        self._streams = 0

    async def IsActive(self, request: wire.ScaledObjectRef, context: Context) -> wire.IsActiveResponse:  # noqa: N802
        """Whether the farm has room, debounced."""
        started = time.perf_counter()
        await self._check("IsActive", request, context)
        self._calls.answered("IsActive", request, started)
        return self._answers.is_active

    async def GetMetricSpec(  # noqa: N802
        self, request: wire.ScaledObjectRef, context: Context
    ) -> wire.GetMetricSpecResponse:
        """The metric's name and target."""
        started = time.perf_counter()
        await self._check("GetMetricSpec", request, context)
        self._calls.answered("GetMetricSpec", request, started)
        return self._answers.metric_spec

    async def GetMetrics(self, request: wire.GetMetricsRequest, context: Context) -> wire.GetMetricsResponse:  # noqa: N802
        """The free points of all nodes together; at least 1 while Active."""
        started = time.perf_counter()
        await self._check("GetMetrics", request.scaledObjectRef, context)
        if request.metricName != METRIC:
            problem = f"metricName {request.metricName[:LONGEST_NAME]!r} is unknown; known: {METRIC}"
            await self._refuse("GetMetrics", context, grpc.StatusCode.NOT_FOUND, problem)
        self._calls.answered("GetMetrics", request.scaledObjectRef, started)
        return self._answers.metrics

    async def StreamIsActive(  # noqa: N802
        self, request: wire.ScaledObjectRef, context: Context
    ) -> AsyncIterator[wire.IsActiveResponse]:
        """The same as IsActive, now and at every change."""
        async with self._stream("StreamIsActive", request, context):
            async for _ in self._answers.changes(self._max_rpc_s):
                yield self._answers.is_active

    async def StreamMetricSpec(  # noqa: N802
        self, request: wire.ScaledObjectRef, context: Context
    ) -> AsyncIterator[wire.GetMetricSpecResponse]:
        """The same as GetMetricSpec. It never changes; it is sent again at every change of Active."""
        async with self._stream("StreamMetricSpec", request, context):
            async for _ in self._answers.changes(self._max_rpc_s):
                yield self._answers.metric_spec

    @contextlib.asynccontextmanager
    async def _stream(self, method: str, ref: wire.ScaledObjectRef, context: Context) -> AsyncIterator[None]:
        """Let a stream of answers begin, if there are not too many: no other call is to wait for one to end."""
        await self._check(method, ref, context)
        if self._streams >= MOST_STREAMS:
            problem = f"{MOST_STREAMS} streams are open already"
            await self._refuse(method, context, grpc.StatusCode.RESOURCE_EXHAUSTED, problem)
        self._calls.seen(ref)
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def _check(self, method: str, ref: wire.ScaledObjectRef, context: Context) -> None:
        if 0 < len(ref.name) <= LONGEST_NAME and len(ref.namespace) <= LONGEST_NAME:
            return
        problem = "the ScaledObjectRef's name must be given, and names have at most 253 characters"
        await self._refuse(method, context, grpc.StatusCode.INVALID_ARGUMENT, problem)

    async def _refuse(self, method: str, context: Context, code: grpc.StatusCode, problem: str) -> None:
        self._calls.refused(method, code)
        await context.abort(code, problem)
