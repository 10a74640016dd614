"""An External Scaler whose answers a test sets. The real one is cpu_monitor_and_offload.py."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from servers import free_port

import externalscaler_pb2 as pb
import externalscaler_pb2_grpc


class StubScaler(externalscaler_pb2_grpc.ExternalScalerServicer):
    """Answers KEDA on ``address``, from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self.active = True
        self.value = 300
        self._asked: Counter[str] = Counter()
        self._change = threading.Condition()
        self.address = f"127.0.0.1:{free_port()}"

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(4))
        externalscaler_pb2_grpc.add_ExternalScalerServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        self._server.start()

    def wait_for_polls(self, scaled_job: str, number: int, timeout_s: float = 120.0) -> None:
        """Return once KEDA has polled for that ScaledJob so many times more: what a poll would do has been done."""
        with self._change:
            # the last one may still be at work
            enough = self._asked[scaled_job] + number + 1
            assert self._change.wait_for(lambda: self._asked[scaled_job] >= enough, timeout_s), "KEDA doesn't ask"

    def stop(self) -> None:
        self._server.stop(None).wait()

    def IsActive(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        with self._change:
            self._asked[request.name] += 1
            self._change.notify_all()
        return pb.IsActiveResponse(result=self.active)

    def GetMetricSpec(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.GetMetricSpecResponse(metricSpecs=[pb.MetricSpec(metricName="gpu_trigger", targetSize=1)])

    def GetMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.GetMetricsResponse(
            metricValues=[pb.MetricValue(metricName="gpu_trigger", metricValue=self.value)]
        )
