"""The scaler's gRPC server over a real socket: address, keepalive, health, reflection."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from scaler_process import ANSWER_S, poll, ref, wire_grpc
from scaler_server import RunningServer, code_of

from posture.errors import UserError
from posture.scaler import servicer
from posture.scaler.server import MOST_CONNECTIONS, ScalerServer, check_exposure
from posture.scaler.servicer import ExternalScaler
from posture.settings.table import Scaler

SETTINGS, PING, GOAWAY, ACK = 4, 6, 7, 1


def frame(kind: int, flags: int, body: bytes) -> bytes:
    """An HTTP/2 frame that belongs to no stream."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + bytes(4) + body


def frames_from(reader: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    while head := reader.read(9):
        yield head[3], head[4], reader.read(int.from_bytes(head[:3], "big"))


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


def test_reflection_shows_the_services_where_it_is_asked_for(
    server: RunningServer, serve: Callable[..., RunningServer]
) -> None:
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as refused:
        ProtoReflectionDescriptorDatabase(channel).get_services()
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with grpc.insecure_channel(serve(reflection=True).address) as channel:
        shown = ProtoReflectionDescriptorDatabase(channel)
        assert set(shown.get_services()) >= {"externalscaler.ExternalScaler", "grpc.health.v1.Health"}
        found = shown.FindFileContainingSymbol("externalscaler.ExternalScaler")
        assert [method.name for method in found.service[0].method][:2] == ["IsActive", "StreamIsActive"]


def test_a_flood_of_connections_is_bounded_and_ends(server: RunningServer) -> None:
    host, port = server.address.split(":")
    address = (host, int(port))
    opened = [socket.create_connection(address, timeout=ANSWER_S) for _ in range(3 * MOST_CONNECTIONS)]
    # those beyond the limit are closed at once, without a byte
    deadline, closed = time.monotonic() + ANSWER_S, 0
    while closed < 2 * MOST_CONNECTIONS - 1 and time.monotonic() < deadline:
        readable, _, _ = select.select(opened, [], [], 0.5)
        closed = sum(connection.recv(1, socket.MSG_PEEK) == b"" for connection in readable)
    assert closed >= 2 * MOST_CONNECTIONS - 1
    for connection in opened:
        connection.close()
    with grpc.insecure_channel(server.address) as channel:
        stub = wire_grpc.ExternalScalerStub(channel)
        assert stub.IsActive(ref(), timeout=ANSWER_S, wait_for_ready=True).result


def test_streams_that_are_held_open_are_bounded_and_keep_no_other_call_waiting(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicer, "MOST_STREAMS", 5)
    with grpc.insecure_channel(server.address) as channel:
        stub = wire_grpc.ExternalScalerStub(channel)
        held = [stub.StreamIsActive(ref(), timeout=ANSWER_S) for _ in range(5)]
        assert all(next(stream).result for stream in held)
        for more in (stub.StreamIsActive, stub.StreamMetricSpec):
            assert (
                code_of(lambda more=more: next(more(ref(), timeout=ANSWER_S))) is grpc.StatusCode.RESOURCE_EXHAUSTED
            )
        assert poll(stub, ref()) == (True, 1.0)
        held.pop().cancel()

        def one_more() -> bool:
            more = stub.StreamIsActive(ref(), timeout=ANSWER_S)
            held.append(more)
            with contextlib.suppress(grpc.RpcError):
                return bool(next(more).result)
            return False

        deadline = time.monotonic() + ANSWER_S
        while not one_more():
            assert time.monotonic() < deadline, "one that has ended makes room"
        for stream in held:
            stream.cancel()


def test_an_address_that_another_program_has_is_refused(server: RunningServer) -> None:
    async def start() -> None:
        second = ScalerServer(server.settings, ExternalScaler(server.answers, server.calls, 0.0))
        await second.start()

    with pytest.raises(UserError, match=f"scaler.listen: {server.address} can't be had"):
        server.run(start())
