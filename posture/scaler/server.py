"""The gRPC server around KEDA's questions: address, TLS, health, reflection."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

import externalscaler_pb2 as wire
import externalscaler_pb2_grpc as wire_grpc
from posture.errors import UserError
from posture.settings.paths import path_of
from posture.settings.table import Scaler

SERVICE = wire.DESCRIPTOR.services_by_name["ExternalScaler"].full_name

OPTIONS = [
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
    """A gRPC server with KEDA's service, the standard health service and reflection.

    Args:
        settings: address and TLS.
        servicer: answers the five calls.

    Raises:
        UserError: a file or the combination of settings is not accepted.
    """

    def __init__(self, settings: Scaler, servicer: Any) -> None:
        self._listen = settings.listen
        self._server = grpc.aio.server(options=OPTIONS)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the type stubs are older
        self._credentials = credentials(settings)
        wire_grpc.add_ExternalScalerServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
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


def split_listen(listen: str) -> tuple[str, int]:
    """Return host (empty: everywhere) and port of scaler.listen."""
    host, _, port = listen.rpartition(":")
    return host, int(port)


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


def is_loopback(host: str) -> bool:
    """Return whether a name or an address is of the machine itself."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


def credentials(settings: Scaler) -> grpc.ServerCredentials | None:
    """Return TLS with our certificate, mutual if there is a client CA; None without a certificate.

    Raises:
        UserError: a file is missing or no certificate, or the settings don't fit together.
    """
    if not settings.tls_cert and not settings.tls_key and not settings.client_ca:
        return None
    if not settings.tls_cert or not settings.tls_key:
        raise UserError("scaler.tls_cert and scaler.tls_key: one is missing; accepted: both (scaler.client_ca too)")
    files = CertificateFiles(settings)
    return grpc.dynamic_ssl_server_credentials(
        files.first,
        files.newer,  # type: ignore[arg-type]  # None: nothing has changed
        require_client_authentication=bool(settings.client_ca),
    )


class CertificateFiles:
    """Certificate, key and client CA as they stand on disk, read again when they change.

    gRPC asks at each handshake. While the files don't fit together, as between the two writes of somebody who
    renews them, what was read before stays in force.

    Raises:
        UserError: they can't be read, or don't fit together.
    """

    def __init__(self, settings: Scaler) -> None:
        self._cert = _File("scaler.tls_cert", path_of(settings.tls_cert))
        self._key = _File("scaler.tls_key", path_of(settings.tls_key))
        self._client_ca = _File("scaler.client_ca", path_of(settings.client_ca)) if settings.client_ca else None
        self._read_at: list[tuple[int, ...]] = []
        self._complained = ""
        self.first = self._read()

    def newer(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what the files hold now; None if they are as before, or not to be used."""
        try:
            if self._stamps() == self._read_at:
                return None
            read = self._read()
        except UserError as error:
            if str(error) != self._complained:
                self._complained = str(error)
                _log.error("%s; the certificates that were read before stay in force", error)
            return None
        self._complained = ""
        _log.info("new certificates are in force")
        return read

    def _read(self) -> grpc.ServerCertificateConfiguration:
        before = self._stamps()
        cert, key = self._cert.contents(), self._key.contents()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self._cert.path, self._key.path, password=lambda: "")
        except (ssl.SSLError, ValueError):
            names = f"{self._cert} and {self._key}"
            raise UserError(f"{names}: accepted: a certificate and its key (PEM, without a password)") from None
        client_ca = None
        if self._client_ca is not None:
            client_ca = self._client_ca.contents()
            try:
                context.load_verify_locations(cadata=client_ca.decode("ascii"))
            except (ssl.SSLError, ValueError):
                raise UserError(f"{self._client_ca}: accepted: certificates (PEM)") from None
        # files that changed while we read them will be read again
        self._read_at = before
        return grpc.ssl_server_certificate_configuration([(key, cert)], client_ca)

    def _stamps(self) -> list[tuple[int, ...]]:
        return [file.stamp() for file in (self._cert, self._key, self._client_ca) if file is not None]


@dataclass(frozen=True)
class _File:
    setting: str
    path: Path

    def __str__(self) -> str:
        return f"{self.setting} {self.path}"

    def contents(self) -> bytes:
        with self._readable():
            return self.path.read_bytes()

    def stamp(self) -> tuple[int, ...]:
        """Return what is different once the file has changed."""
        with self._readable():
            seen = self.path.stat()
        return seen.st_ino, seen.st_mtime_ns, seen.st_size

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self}: can't be read: {error.strerror}") from None
