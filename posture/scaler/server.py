"""The gRPC server around KEDA's questions: address, TLS, bounds, health, reflection."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

import externalscaler_pb2 as wire
import externalscaler_pb2_grpc as wire_grpc
from posture.errors import UserError
from posture.scaler.clients import OnlyOneClient
from posture.scaler.tls import credentials
from posture.settings.table import Scaler
from posture.system.addresses import is_loopback, split_listen

SERVICE = wire.DESCRIPTOR.services_by_name["ExternalScaler"].full_name

MOST_CALLS = 4000
"""At a time; more are refused. One that waits costs 14 kB, and the pod's memory has a limit."""
MOST_CONNECTIONS = 100
"""At a time; KEDA has one."""
HANDSHAKE_S = 10
"""TLS and HTTP/2 may take so long to be spoken."""

OPTIONS = [
    ("grpc.max_allowed_incoming_connections", MOST_CONNECTIONS),
    ("grpc.max_concurrent_streams", MOST_CALLS),
    ("grpc.server_handshake_timeout_ms", 1000 * HANDSHAKE_S),
    ("grpc.so_reuseport", 0),  # a second scaler on one port shall fail, not share it
    ("grpc.max_receive_message_length", 256 * 1024),  # a ScaledJob's whole metadata is a few hundred bytes
    # whatever keepalive a client of KEDA's kind is set to, it is never sent away for it
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    # the streams of a client that is gone without a word end after this
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]

_log = logging.getLogger(__name__)


class ScalerServer:
    """A gRPC server with KEDA's service, the standard health service and, where it is asked for, reflection.

    Args:
        settings: address and TLS.
        servicer: answers the five calls.

    Raises:
        UserError: a file or the combination of settings is not accepted.
    """

    def __init__(self, settings: Scaler, servicer: Any) -> None:
        self._listen = settings.listen
        only_one = settings.client_ca and settings.client_name
        self._server = grpc.aio.server(
            interceptors=[OnlyOneClient(SERVICE, settings.client_name)] if only_one else [],
            options=OPTIONS,
            maximum_concurrent_rpcs=MOST_CALLS,
        )
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the type stubs are older
        self._credentials = credentials(settings)
        wire_grpc.add_ExternalScalerServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    async def start(self) -> None:
        """Listen.

        Raises:
            UserError: the address can't be had.
        """
        host, port = split_listen(self._listen)
        address = f"{host or '[::]'}:{port}"
        try:
            if self._credentials is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, self._credentials)
        except RuntimeError:
            raise UserError(
                f"scaler.listen: {self._listen} can't be had: another program has it, or the address isn't ours"
            ) from None
        await self._server.start()
        for name in (SERVICE, ""):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, seconds: float) -> None:
        """Say that we go, take no more calls, and end those that run after so many seconds."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(seconds)


def check_exposure(settings: Scaler, environ: Mapping[str, str]) -> None:
    """Let plaintext beyond this machine happen only where it is asked for.

    In a pod only the cluster's network reaches us, and deploy/ has a NetworkPolicy for it.

    Raises:
        UserError: it was not asked for.
    """
    if settings.tls_cert or is_loopback(split_listen(settings.listen)[0]) or "KUBERNETES_SERVICE_HOST" in environ:
        return
    if not settings.insecure:
        raise UserError(
            f"scaler.listen: {settings.listen} is not on loopback, and this is no pod; accepted there: --tls-cert "
            "and --tls-key, or --insecure for plaintext"
        )
    _log.warning("plaintext on %s: anyone who reaches it can ask, and can pose as this scaler", settings.listen)
