"""The certificates of the gRPC server: checked at the start, and read again whenever they are renewed."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from posture.errors import UserError
from posture.settings.paths import path_of
from posture.settings.table import Scaler

_log = logging.getLogger(__name__)


def credentials(settings: Scaler) -> grpc.ServerCredentials | None:
    """Return the credentials for TLS, mutual TLS if there is a client CA; None without a certificate.

    Raises:
        UserError: a file is missing or is not a certificate, or only one of certificate and key is set.
    """
    if not settings.tls_cert and not settings.tls_key and not settings.client_ca:
        return None
    if not settings.tls_cert or not settings.tls_key:
        raise UserError("scaler.tls_cert and scaler.tls_key: one is missing; accepted: both (scaler.client_ca too)")
    files = CertificateFiles(settings)
    return grpc.dynamic_ssl_server_credentials(
        files.first,
        files.newer,  # type: ignore[arg-type]  # None means that nothing has changed
        require_client_authentication=bool(settings.client_ca),
    )


class CertificateFiles:
    """Certificate, key and client CA, read from disk again whenever the files change.

    gRPC asks for them at each handshake. While certificate and key don't match, as between the two writes of a
    renewal, the certificates that were read before stay in force.

    Args:
        settings: the paths.

    Raises:
        UserError: the files can't be read, or certificate and key don't match.
    """

    def __init__(self, settings: Scaler) -> None:
        self._cert = _File("scaler.tls_cert", path_of(settings.tls_cert))
        self._key = _File("scaler.tls_key", path_of(settings.tls_key))
        self._client_ca = _File("scaler.client_ca", path_of(settings.client_ca)) if settings.client_ca else None
        self._read_at: list[tuple[int, ...]] = []
        self._complained = ""
        self.first = self._read()

    def newer(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the files' current contents; None if they have not changed or are not valid."""
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
        # Taken before reading: files that changed meanwhile are read again at the next handshake.
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
        """Return inode, modification time (ns) and size; at least one of them differs once the file has changed."""
        with self._readable():
            seen = self.path.stat()
        return seen.st_ino, seen.st_mtime_ns, seen.st_size

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self}: can't be read: {error.strerror}") from None
