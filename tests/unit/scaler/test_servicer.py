"""KEDA's calls over a real socket, plaintext and TLS: the scaler's server, with readings that the test decides."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import grpc
import pytest
import trustme
from google.protobuf.descriptor import FieldDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client import CollectorRegistry
from scaler_process import ANSWER_S, ROOT, Certificates, poll, ref, wire, wire_grpc
from servers import free_port

from posture.errors import UserError
from posture.scaler.debounce import Debounce
from posture.scaler.server import ScalerServer, check_exposure
from posture.scaler.servicer import METRIC, Answers, Calls, ExternalScaler
from posture.scaler.tls import credentials
from posture.settings.table import Scaler

OVERLOADED = {"agx1": 90.0, "nano1": 95.0}
WITH_ROOM = {"agx1": 90.0, "nano1": 20.0}
WINDOW_S = 120.0


class RunningServer:
    """The server with its own event loop in a thread; what the answers are told comes from the test."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Scaler(listen=f"127.0.0.1:{free_port()}", **settings)
        self.address = self.settings.listen
        self.registry = CollectorRegistry()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._now = 0.0
        self.run(self._start())

    async def _start(self) -> None:
        self.answers = Answers(Debounce(50.0, WINDOW_S, WINDOW_S))
        self.calls = Calls(self.registry, self.settings.max_tracked)
        self.server = ScalerServer(self.settings, ExternalScaler(self.answers, self.calls, self.settings.max_rpc_s))
        await self.server.start()

    def run(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(ANSWER_S)

    def observe(self, usage: dict[str, float], after: float = 1.0) -> None:
        """A reading so many seconds after the last one."""

        async def take() -> None:
            self._now += after
            self.answers.observe(usage, self._now)

        self.run(take())

    def close(self) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_S)
        self._loop.close()

    async def _close(self) -> None:
        self.answers.close()
        await self.server.stop(0.2)


@pytest.fixture
def serve() -> Iterator[Callable[..., RunningServer]]:
    with contextlib.ExitStack() as servers:

        def start(**settings: Any) -> RunningServer:
            server = RunningServer(**settings)
            servers.callback(server.close)
            return server

        yield start


@pytest.fixture
def server(serve: Callable[..., RunningServer]) -> RunningServer:
    return serve()


@pytest.fixture
def stub(server: RunningServer) -> Iterator[wire_grpc.ExternalScalerStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield wire_grpc.ExternalScalerStub(channel)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "certificates")


def tls_settings(certificates: Certificates, *, mutual: bool = True) -> dict[str, str]:
    cert, key = certificates.issue("server")
    settings = {"tls_cert": str(cert), "tls_key": str(key)}
    return settings | ({"client_ca": str(certificates.ca)} if mutual else {})


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code()


# The contract


def test_the_stubs_are_what_the_contract_generates(tmp_path: Path) -> None:
    shutil.copy(ROOT / "externalscaler.proto", tmp_path)
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=."]
    subprocess.run([*command, "externalscaler.proto"], cwd=tmp_path, check=True, timeout=60)
    for name in ("externalscaler_pb2.py", "externalscaler_pb2_grpc.py"):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), f"{name}: generate it again"


def test_the_contract_is_kedas() -> None:
    # names and numbers as KEDA 2.21's own client has them
    expected = {
        "ScaledObjectRef": {"name": 1, "namespace": 2, "scalerMetadata": 3},
        "IsActiveResponse": {"result": 1},
        "GetMetricSpecResponse": {"metricSpecs": 1},
        "MetricSpec": {"metricName": 1, "targetSize": 2, "targetSizeFloat": 3},
        "GetMetricsRequest": {"scaledObjectRef": 1, "metricName": 2},
        "GetMetricsResponse": {"metricValues": 1},
        "MetricValue": {"metricName": 1, "metricValue": 2, "metricValueFloat": 3},
    }
    messages = wire.DESCRIPTOR.message_types_by_name
    assert {
        name: {field.name: field.number for field in message.fields} for name, message in messages.items()
    } == expected
    kinds = {field.name: field.type for name in ("MetricSpec", "MetricValue") for field in messages[name].fields}
    assert kinds["targetSize"] == kinds["metricValue"] == FieldDescriptor.TYPE_INT64
    assert kinds["targetSizeFloat"] == kinds["metricValueFloat"] == FieldDescriptor.TYPE_DOUBLE
    service = wire.DESCRIPTOR.services_by_name["ExternalScaler"]
    assert service.full_name == "externalscaler.ExternalScaler"
    calls = {
        method.name: (method.input_type.name, method.output_type.name, method.server_streaming)
        for method in service.methods
    }
    assert calls == {
        "IsActive": ("ScaledObjectRef", "IsActiveResponse", False),
        "StreamIsActive": ("ScaledObjectRef", "IsActiveResponse", True),
        "GetMetricSpec": ("ScaledObjectRef", "GetMetricSpecResponse", False),
        "GetMetrics": ("GetMetricsRequest", "GetMetricsResponse", False),
        "StreamMetricSpec": ("ScaledObjectRef", "GetMetricSpecResponse", True),
    }


def test_no_handler_can_start_a_process_ask_kubernetes_or_query_prometheus() -> None:
    """The servicer's module, and all of ours that it imports, know nothing that could."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); import posture.scaler.servicer; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    ours = {name for name in loaded if name.startswith("posture.")}
    assert ours == {"posture.scaler", "posture.scaler.servicer", "posture.scaler.debounce"}
    assert not {"requests", "urllib3", "lightkube", "httpx"} & set(loaded)
    imported = set()
    for name in ours - {"posture.scaler"}:
        for node in ast.walk(ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module))
    allowed = {"__future__", "asyncio", "collections.abc", "dataclasses", "time", "typing"}
    allowed |= {"externalscaler_pb2", "grpc", "prometheus_client", "posture.scaler.debounce"}
    assert imported <= allowed


# What KEDA is told


@pytest.mark.parametrize("mutual_tls", [False, True], ids=["plaintext", "mutual-tls"])
def test_kedas_poll_of_1000_scaled_jobs_is_answered_for_each(
    serve: Callable[..., RunningServer], certificates: Certificates, mutual_tls: bool
) -> None:
    server = serve(**(tls_settings(certificates) if mutual_tls else {}))
    server.observe(WITH_ROOM)
    if mutual_tls:
        channel = certificates.channel(server.address, certificates.issue("keda", "keda-operator"))
    else:
        channel = grpc.insecure_channel(server.address)
    with channel:
        stub = wire_grpc.ExternalScalerStub(channel)
        for number in range(1000):
            assert poll(stub, ref(f"posture-analyzer-scaledjob-pi{number}")) == (True, 90.0)
    assert len(server.calls.last_by_job) == 1000


def test_int_and_float_say_the_same_and_there_is_one_metric(
    server: RunningServer, stub: wire_grpc.ExternalScalerStub
) -> None:
    server.observe({"agx1": 30.0, "nano1": 45.5})
    (spec,) = stub.GetMetricSpec(ref()).metricSpecs
    assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("gpu_trigger", 1, 1.0)
    (value,) = stub.GetMetrics(wire.GetMetricsRequest(scaledObjectRef=ref(), metricName=METRIC)).metricValues
    assert (value.metricName, value.metricValue, value.metricValueFloat) == ("gpu_trigger", 124, 124.5)


def test_active_with_at_least_1_before_there_is_data_and_while_the_debounce_holds(
    server: RunningServer, stub: wire_grpc.ExternalScalerStub
) -> None:
    assert poll(stub, ref()) == (True, 1.0)
    server.observe({"agx1": 100.0, "nano1": 100.0})
    server.observe({"agx1": 100.0, "nano1": 100.0}, after=WINDOW_S)
    assert poll(stub, ref()) == (True, 1.0)
    server.observe(OVERLOADED, after=1.0)
    assert poll(stub, ref()) == (False, 15.0)
    server.observe({}, after=1.0)
    assert poll(stub, ref()) == (False, 15.0)
    server.observe(WITH_ROOM, after=1.0)
    assert poll(stub, ref()) == (True, 90.0)


# Streams


def test_a_stream_says_active_at_once_and_at_every_change(
    server: RunningServer, stub: wire_grpc.ExternalScalerStub
) -> None:
    server.observe(OVERLOADED)
    stream = stub.StreamIsActive(ref(), timeout=ANSWER_S)
    assert next(stream).result is True
    for reading, expected in [(OVERLOADED, False), (WITH_ROOM, True)]:
        server.observe(reading, after=WINDOW_S)
        server.observe(reading, after=1.0)
        assert next(stream).result is expected


def test_a_stream_of_metric_specs_says_it_at_once(stub: wire_grpc.ExternalScalerStub) -> None:
    stream = stub.StreamMetricSpec(ref(), timeout=ANSWER_S)
    assert next(stream) == stub.GetMetricSpec(ref())


@pytest.mark.parametrize("call", ["StreamIsActive", "StreamMetricSpec"])
def test_a_stream_ends_well_after_max_rpc_seconds(serve: Callable[..., RunningServer], call: str) -> None:
    server = serve(max_rpc_s=0.3)
    with grpc.insecure_channel(server.address) as channel:
        stream = getattr(wire_grpc.ExternalScalerStub(channel), call)(ref(), timeout=ANSWER_S)
        assert len(list(stream)) == 1
        assert stream.code() is grpc.StatusCode.OK


def test_open_streams_do_not_hold_up_the_end(server: RunningServer, stub: wire_grpc.ExternalScalerStub) -> None:
    streams = [stub.StreamIsActive(ref(f"job-{number}"), timeout=ANSWER_S) for number in range(50)]
    for stream in streams:
        next(stream)
    began = time.monotonic()
    server.run(server._close())
    assert time.monotonic() - began < 5.0
    assert all(stream.code() is grpc.StatusCode.OK for stream in streams)


# Calls that make no sense


@pytest.mark.parametrize(
    ("call", "request_", "code"),
    [
        pytest.param("IsActive", wire.ScaledObjectRef(), "INVALID_ARGUMENT", id="empty-ref"),
        pytest.param("GetMetricSpec", wire.ScaledObjectRef(namespace="x"), "INVALID_ARGUMENT", id="no-name"),
        pytest.param("GetMetrics", wire.GetMetricsRequest(metricName=METRIC), "INVALID_ARGUMENT", id="no-ref"),
        pytest.param(
            "GetMetrics", wire.GetMetricsRequest(scaledObjectRef=ref(), metricName="s0-x"), "NOT_FOUND", id="metric"
        ),
        pytest.param("GetMetrics", wire.GetMetricsRequest(scaledObjectRef=ref()), "NOT_FOUND", id="no-metric"),
        pytest.param("IsActive", ref("n" * 254), "INVALID_ARGUMENT", id="long-name"),
        pytest.param("IsActive", ref(junk="x" * 1_000_000), "RESOURCE_EXHAUSTED", id="1-MB-of-metadata"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_with_its_code_and_the_next_is_answered(
    stub: wire_grpc.ExternalScalerStub, call: str, request_: Any, code: str
) -> None:
    assert code_of(lambda: getattr(stub, call)(request_, timeout=ANSWER_S)).name == code
    assert poll(stub, ref()) == (True, 1.0)


@pytest.mark.parametrize("call", ["StreamIsActive", "StreamMetricSpec"])
def test_a_stream_without_a_name_is_refused(stub: wire_grpc.ExternalScalerStub, call: str) -> None:
    stream = getattr(stub, call)(wire.ScaledObjectRef(), timeout=ANSWER_S)
    assert code_of(lambda: next(stream)) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_megabyte_of_headers_is_refused_and_the_next_call_answered(
    server: RunningServer, stub: wire_grpc.ExternalScalerStub
) -> None:
    headers = [(f"x-{number}", "v" * 10_000) for number in range(100)]
    assert code_of(lambda: stub.IsActive(ref(), metadata=headers, timeout=ANSWER_S)) in (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,  # the server may end the connection that brings them
    )
    with grpc.insecure_channel(server.address) as channel:
        assert poll(wire_grpc.ExternalScalerStub(channel), ref()) == (True, 1.0)


def test_bytes_that_are_no_message_are_refused_and_the_next_call_answered(
    server: RunningServer, stub: wire_grpc.ExternalScalerStub
) -> None:
    with grpc.insecure_channel(server.address) as channel:
        raw = channel.unary_unary("/externalscaler.ExternalScaler/IsActive")
        assert code_of(lambda: raw(b"\xff" * 100, timeout=ANSWER_S)) is grpc.StatusCode.UNKNOWN
        unknown = channel.unary_unary("/externalscaler.ExternalScaler/Kill")
        assert code_of(lambda: unknown(b"", timeout=ANSWER_S)) is grpc.StatusCode.UNIMPLEMENTED
    assert poll(stub, ref()) == (True, 1.0)


def test_of_many_scaled_jobs_only_those_that_asked_last_are_remembered(serve: Callable[..., RunningServer]) -> None:
    server = serve(max_tracked=3)
    with grpc.insecure_channel(server.address) as channel:
        stub = wire_grpc.ExternalScalerStub(channel)
        for name in ("a", "b", "c", "a", "d"):
            stub.IsActive(ref(name))
    assert [name for _, name in server.calls.last_by_job] == ["c", "a", "d"]


# Who may ask


def test_without_the_right_client_certificate_nobody_is_answered(
    serve: Callable[..., RunningServer], certificates: Certificates, tmp_path: Path
) -> None:
    server = serve(**tls_settings(certificates))
    stranger = Certificates(tmp_path / "stranger").issue("keda", "keda-operator")
    for channel in (
        certificates.channel(server.address, stranger),
        certificates.channel(server.address),
        grpc.insecure_channel(server.address),
    ):
        with channel:
            stub = wire_grpc.ExternalScalerStub(channel)
            assert code_of(lambda stub=stub: stub.IsActive(ref(), timeout=ANSWER_S)) is grpc.StatusCode.UNAVAILABLE
    assert server.calls.last_at is None
    with certificates.channel(server.address, certificates.issue("keda", "keda-operator")) as channel:
        assert poll(wire_grpc.ExternalScalerStub(channel), ref()) == (True, 1.0)


def test_a_server_that_was_signed_by_another_is_not_believed(
    serve: Callable[..., RunningServer], certificates: Certificates, tmp_path: Path
) -> None:
    server = serve(**tls_settings(Certificates(tmp_path / "other"), mutual=False))
    with certificates.channel(server.address) as channel:
        stub = wire_grpc.ExternalScalerStub(channel)
        assert code_of(lambda: stub.IsActive(ref(), timeout=ANSWER_S)) is grpc.StatusCode.UNAVAILABLE


def test_renewed_certificates_are_in_force_without_a_restart_and_half_written_ones_never(
    serve: Callable[..., RunningServer], certificates: Certificates, tmp_path: Path
) -> None:
    settings = tls_settings(certificates, mutual=False)
    server = serve(**settings)
    files = [Path(settings["tls_cert"]), Path(settings["tls_key"])]
    renewed = Certificates(tmp_path / "renewed")
    new = [path.read_bytes() for path in renewed.issue("server")]

    def answered(by: Certificates) -> bool:
        with by.channel(server.address) as channel:
            try:
                return bool(wire_grpc.ExternalScalerStub(channel).IsActive(ref(), timeout=ANSWER_S).result)
            except grpc.RpcError:
                return False

    assert answered(certificates)
    files[0].write_bytes(new[0])  # its key is still the old one's
    assert answered(certificates)
    assert not answered(renewed)
    files[1].write_bytes(new[1])
    assert answered(renewed)
    assert not answered(certificates)
    files[0].unlink()
    assert answered(renewed)


def test_a_client_that_pings_often_is_not_sent_away(server: RunningServer) -> None:
    # HTTP/2 by hand, as no client library pings so often: the preface, empty settings, pings
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=ANSWER_S) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, b""))
        frames = frames_from(connection.makefile("rb"))
        for number in range(200):
            ping = number.to_bytes(8, "big")
            connection.sendall(frame(PING, 0, ping))
            kind, flags, body = next(frames)
            while (kind, flags, body) != (PING, ACK, ping):
                assert kind != GOAWAY, body
                kind, flags, body = next(frames)


SETTINGS, PING, GOAWAY, ACK = 4, 6, 7, 1


def frame(kind: int, flags: int, body: bytes) -> bytes:
    """An HTTP/2 frame that belongs to no stream."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + bytes(4) + body


def frames_from(reader: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    while head := reader.read(9):
        yield head[3], head[4], reader.read(int.from_bytes(head[:3], "big"))


# Address, health, reflection


@pytest.mark.parametrize(
    ("settings", "environ", "accepted"),
    [
        pytest.param({"listen": ":50051"}, {}, False, id="everywhere"),
        pytest.param({"listen": "192.0.2.1:50051"}, {}, False, id="an-address"),
        pytest.param({"listen": "scaler.example:50051"}, {}, False, id="a-name"),
        pytest.param({"listen": "127.0.0.1:50051"}, {}, True, id="loopback"),
        pytest.param({"listen": "[::1]:50051"}, {}, True, id="loopback-v6"),
        pytest.param({"listen": "localhost:50051"}, {}, True, id="localhost"),
        pytest.param({"listen": ":50051"}, {"KUBERNETES_SERVICE_HOST": "10.43.0.1"}, True, id="in-a-pod"),
        pytest.param({"listen": ":50051", "insecure": True}, {}, True, id="asked-for"),
        pytest.param({"listen": ":50051", "tls_cert": "x", "tls_key": "y"}, {}, True, id="tls"),
    ],
)
def test_plaintext_beyond_this_machine_must_be_asked_for(
    settings: dict[str, Any], environ: dict[str, str], accepted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if accepted:
        check_exposure(Scaler(**settings), environ)
    else:
        with pytest.raises(UserError, match="--insecure"):
            check_exposure(Scaler(**settings), environ)
    assert ("plaintext on" in caplog.text) == ("insecure" in settings)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        pytest.param({"tls_key": ""}, "one is missing", id="no-key"),
        pytest.param({"tls_cert": "", "tls_key": ""}, "one is missing", id="only-a-client-ca"),
        pytest.param({"tls_cert": "/nowhere.pem"}, "scaler.tls_cert /nowhere.pem: can't be read", id="no-file"),
        pytest.param({"tls_key": "ca.pem"}, "accepted: a certificate and its key", id="no-key-in-it"),
        pytest.param({"tls_key": "locked.key"}, "without a password", id="a-locked-key"),
        pytest.param({"client_ca": "server.key"}, "scaler.client_ca", id="no-authority"),
    ],
)
def test_files_that_are_no_certificates_are_refused_by_name(
    certificates: Certificates, change: dict[str, str], part: str
) -> None:
    settings = tls_settings(certificates) | change
    (certificates.folder / "locked.key").write_bytes(_locked(trustme.CA().private_key_pem.bytes()))
    settings = {
        name: value if value in ("", "/nowhere.pem") else str(certificates.folder / value)
        for name, value in settings.items()
    }
    with pytest.raises(UserError, match=part):
        credentials(Scaler(**settings))


def _locked(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - comes with trustme

    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def test_the_standard_health_service_says_serving_until_the_end(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "externalscaler.ExternalScaler"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=ANSWER_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watching = stub.Watch(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        server.run(server.server._health.enter_graceful_shutdown())
        assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_reflection_shows_the_services(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        shown = ProtoReflectionDescriptorDatabase(channel)
        assert set(shown.get_services()) >= {"externalscaler.ExternalScaler", "grpc.health.v1.Health"}
        found = shown.FindFileContainingSymbol("externalscaler.ExternalScaler")
        assert [method.name for method in found.service[0].method][:2] == ["IsActive", "StreamIsActive"]


def test_an_address_that_another_program_has_is_refused(server: RunningServer) -> None:
    async def start() -> None:
        second = ScalerServer(server.settings, ExternalScaler(server.answers, server.calls, 0.0))
        await second.start()

    with pytest.raises(UserError, match=f"scaler.listen: {server.address} can't be had"):
        server.run(start())
