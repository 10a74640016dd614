"""KEDA's calls over a real socket, with readings that the test decides."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from scaler_process import ANSWER_S, ENDS, ROOT, Certificates, poll, ref, wire, wire_grpc
from scaler_server import WINDOW_S, RunningServer, code_of, tls_settings

from posture.scaler.servicer import METRIC

OVERLOADED = {"agx1": 90.0, "nano1": 95.0}
WITH_ROOM = {"agx1": 90.0, "nano1": 20.0}


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
    allowed = {"__future__", "asyncio", "contextlib", "collections.abc", "dataclasses", "time", "typing"}
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
    server.run(server._close(ANSWER_S))  # with less time for the last calls a busy machine would have them aborted
    assert time.monotonic() - began < ANSWER_S / 2
    assert {stream.code() for stream in streams} <= ENDS


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
