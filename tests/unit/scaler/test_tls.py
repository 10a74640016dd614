"""TLS of the scaler over a real socket, and the files that it is set up with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trustme
from scaler_process import ANSWER_S, Certificates, poll, ref, wire_grpc
from scaler_server import RunningServer, code_of, tls_settings

from posture.errors import UserError
from posture.scaler.tls import credentials
from posture.settings.table import Scaler


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
