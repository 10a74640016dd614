#!/usr/bin/env python3
"""How fast the External Scaler answers KEDA, beside a scaler that queries Prometheus inside its calls.

    .venv/bin/python bench/scaler.py                  # about a minute
    .venv/bin/python bench/scaler.py --seconds 30

1,000 ScaledJobs are polled as KEDA does: GetMetricSpec, GetMetrics, IsActive, each after the answer to the one
before, over one connection. *open*: each ScaledJob once a second, whether or not the answers keep up: 3,000 RPC/s
offered; the time of a late start counts. *closed*: always 64 calls in flight: the ceiling.

The baseline is the usual way: a thread pool, and in each call one instant query for each of the 7 nodes. (A sample
that spares GetMetricSpec the queries is half as fast again.) Both ask one real Prometheus. Where two cores are, the
server has one to itself, and the client the other. The client speaks HTTP/2 by hand, with what it sends made
before, so that it takes little of it. CPU is the server's, user and system.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import grpc
import requests
from driven_exporter import METRIC, GpuExporter, gpu_queries, instance_of
from processes import cpu_seconds
from scaler_process import ScalerProcess, ref, wire, wire_grpc
from servers import PrometheusServer, Server, free_port

from posture.settings.flags import positive

NODES = tuple(f"node-{number}" for number in range(7))
JOBS = 1000
IN_FLIGHT = 64
POLLS_A_SECOND = 1000
CALLS = ("GetMetricSpec", "GetMetrics", "IsActive")

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1


class Baseline(Server):
    """The usual sample's way, as a process."""

    def __init__(self, folder: Path, prometheus: str) -> None:
        super().__init__()
        self.port = free_port()
        self.log = folder / "baseline.log"
        self.command = [sys.executable, __file__, "--baseline", str(self.port), prometheus]


class BaselineServicer(wire_grpc.ExternalScalerServicer):
    """Queries inside its calls."""

    def __init__(self, prometheus: str) -> None:
        self.url = f"{prometheus}/api/v1/query"

    def usage(self) -> list[float]:
        """One query a node."""
        queries = [f'{METRIC}{{instance="{instance_of(node)}"}}' for node in NODES]
        answers = [requests.get(self.url, params={"query": query}, timeout=5).json() for query in queries]
        return [float(answer["data"]["result"][0]["value"][1]) for answer in answers]

    def IsActive(self, request, context):  # noqa: D102, N802
        return wire.IsActiveResponse(result=any(points < 50 for points in self.usage()))

    def GetMetricSpec(self, request, context):  # noqa: D102, N802
        self.usage()
        return wire.GetMetricSpecResponse(metricSpecs=[wire.MetricSpec(metricName="gpu_trigger", targetSize=1)])

    def GetMetrics(self, request, context):  # noqa: D102, N802
        free = int(sum(100 - points for points in self.usage()))
        return wire.GetMetricsResponse(metricValues=[wire.MetricValue(metricName="gpu_trigger", metricValue=free)])


def serve_baseline(port: str, prometheus: str) -> None:
    """Answer until killed."""
    server = grpc.server(ThreadPoolExecutor(max_workers=10))
    wire_grpc.add_ExternalScalerServicer_to_server(BaselineServicer(prometheus), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """An HTTP/2 frame."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def literal(name: str, value: str) -> bytes:
    """A header that is not to be remembered, in plain letters."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def prepared_calls() -> list[list[tuple[bytes, bytes]]]:
    """For each ScaledJob the headers and the body of its three calls."""
    common = [("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "grpc-go/1.75.0")]
    heads = {
        call: b"\x83\x86"  # POST, http
        + literal(":path", f"/externalscaler.ExternalScaler/{call}")
        + literal(":authority", "scaler")
        + b"".join(literal(*header) for header in common)
        for call in CALLS
    }
    jobs = []
    for number in range(JOBS):
        of = ref(f"posture-analyzer-scaledjob-pi{number}")
        messages = [of, wire.GetMetricsRequest(scaledObjectRef=of, metricName="gpu_trigger"), of]
        bodies = [message.SerializeToString() for message in messages]
        jobs.append(
            [
                (heads[call], b"\0" + len(body).to_bytes(4, "big") + body)
                for call, body in zip(CALLS, bodies, strict=True)
            ]
        )
    return jobs


class Client:
    """One connection that many polls share, as with KEDA."""

    def __init__(self, port: int) -> None:
        self.jobs = prepared_calls()
        self.latencies: list[float] = []
        self.failed = 0
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._buffer = b""
        self._stream = 1
        self._next_job = 0
        self._with_message: set[int] = set()
        self._calls: dict[int, tuple[int, int, float]] = {}
        """By stream: the ScaledJob, which of the three calls, when it was due."""
        largest = (2**31 - 1).to_bytes(4, "big")
        window = frame(SETTINGS, 0, 0, b"\0\4" + largest) + frame(
            WINDOW_UPDATE, 0, 0, (2**31 - 65_536).to_bytes(4, "big")
        )
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + window)

    def start_poll(self, due: float) -> bytes:
        """Return the bytes of a poll's first call."""
        self._next_job = (self._next_job + 1) % JOBS
        return self._call(self._next_job, 0, due)

    def _call(self, job: int, number: int, due: float) -> bytes:
        headers, body = self.jobs[job][number]
        stream, self._stream = self._stream, self._stream + 2
        self._calls[stream] = (job, number, due)
        return frame(HEADERS, END_HEADERS, stream, headers) + frame(DATA, END_STREAM, stream, body)

    def open_loop(self, seconds: float) -> None:
        """Start polls as the clock says."""
        began = due = time.perf_counter()
        while due < began + seconds or self._calls:
            now = time.perf_counter()
            polls = []
            while due <= now and due < began + seconds:
                polls.append(self.start_poll(due))
                due += 1 / POLLS_A_SECOND
            self._socket.sendall(b"".join(polls))
            self._take(max(0.0, due - time.perf_counter()) if due < began + seconds else 1.0, lambda now: b"")

    def closed_loop(self, seconds: float) -> None:
        """Start a poll whenever one has ended."""
        began = time.perf_counter()

        def again(now: float) -> bytes:
            return self.start_poll(now) if now < began + seconds else b""

        self._socket.sendall(b"".join(self.start_poll(began) for _ in range(IN_FLIGHT)))
        while self._calls:
            self._take(1.0, again)

    def _take(self, timeout: float, poll_ended: Callable[[float], bytes]) -> None:
        """Read what has come, and send what follows from it."""
        if not self._selector.select(timeout):
            return
        received = self._socket.recv(1 << 18)
        if not received:
            raise ConnectionError("the server has ended the connection")
        now = time.perf_counter()
        answers: deque[bytes] = deque()
        for kind, flags, stream, body in self._frames(received):
            if kind == GOAWAY:
                raise ConnectionError(f"the server sends us away: {body!r}")
            if kind in (SETTINGS, PING) and not flags & ACK:
                answers.append(frame(kind, ACK, 0, body if kind == PING else b""))
            elif kind == DATA:
                self._with_message.add(stream)
            elif stream in self._calls and (kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM)):
                job, number, due = self._calls.pop(stream)
                self.latencies.append(now - due)
                self.failed += stream not in self._with_message
                self._with_message.discard(stream)
                answers.append(poll_ended(now) if number == 2 else self._call(job, number + 1, now))
        self._socket.sendall(b"".join(answers))

    def _frames(self, received: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        buffer, at = self._buffer + received, 0
        while len(buffer) - at >= 9 and len(buffer) - at >= 9 + (
            length := int.from_bytes(buffer[at : at + 3], "big")
        ):
            body = buffer[at + 9 : at + 9 + length]
            yield buffer[at + 3], buffer[at + 4], int.from_bytes(buffer[at + 5 : at + 9], "big"), body
            at += 9 + length
        self._buffer = buffer[at:]


def measure(server: Server, loop: str, seconds: float) -> tuple[float, str]:
    """Return RPCs a second, and the table's row."""
    assert server.process is not None
    client = Client(server.port)
    cpu, began = cpu_seconds(server.process.pid), time.perf_counter()
    getattr(client, f"{loop}_loop")(seconds)
    took, cpu = time.perf_counter() - began, cpu_seconds(server.process.pid) - cpu
    latencies = sorted(client.latencies)
    count = len(latencies)
    p50, p99, p999 = (latencies[min(count - 1, int(count * share))] * 1000 for share in (0.5, 0.99, 0.999))
    rate, load = count / took, os.getloadavg()[0]
    shown = f"{rate:.0f} | {p50:.2f}, {p99:.2f}, {p999:.2f} | {cpu / count * 1e6:.0f} | {cpu / took:.2f}"
    return rate, f"{shown} | {client.failed} | {load:.1f} |"


def on_its_own_core(server: Server) -> None:
    """Give the server one core, and the client another."""
    if os.cpu_count() == 1 or not hasattr(os, "sched_setaffinity"):
        return
    assert server.process is not None
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {1})
    os.sched_setaffinity(0, {0})


def main() -> None:
    """Measure both, one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=positive, default=10.0, help="of each measurement (default: 10)")
    parser.add_argument("--baseline", nargs=2, metavar=("PORT", "URL"), help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.baseline:
        serve_baseline(*flags.baseline)
        return
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as started:
        folder = Path(name)
        exporter = GpuExporter()
        for number, node in enumerate(NODES):
            exporter.set(node, 10 * number)
        prometheus = PrometheusServer(folder / "prometheus", exporter.targets(*NODES), scrape_interval_s=5.0)
        ours = ScalerProcess(folder / "ours", gpu_queries(*NODES), prometheus.url, "--no-balancer")
        ours.command += ["--interval", "5"]
        for server in (prometheus, ours, baseline := Baseline(folder, prometheus.url)):
            started.callback(server.stop)
            server.start()
        exporter.wait_for_scrapes(NODES[-1])
        print("| scaler | loop | RPC/s | p50, p99, p99.9 ms | CPU us/RPC | cores | failed | load |")
        print("|---|---|---|---|---|---|---|---|")
        rates = {}
        for who, server, loop in (
            ("ours", ours, "open"),
            ("ours", ours, "closed"),
            ("baseline", baseline, "closed"),
            ("ours", ours, "open"),
        ):
            on_its_own_core(server)
            rates[who, loop], row = measure(server, loop, flags.seconds)
            print(f"| {who} | {loop} | {row}", flush=True)
        print(f"\nclosed loop, ours / baseline: {rates['ours', 'closed'] / rates['baseline', 'closed']:.0f}")


if __name__ == "__main__":
    main()
