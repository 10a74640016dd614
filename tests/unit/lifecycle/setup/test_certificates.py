"""The authority's certificates, judged by OpenSSL in a real TLS connection."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from posture.errors import UserError
from posture.lifecycle.setup import certificates
from posture.lifecycle.setup.certificates import Pair

AUTHORITY = certificates.new_authority("Posture Farm test")
NAMES = ["posture-mqtt.posture-farm.svc", "192.0.2.10", "2001:db8::7"]
SERVER = certificates.issue(AUTHORITY, NAMES)


def files(folder: Path, pair: Pair) -> tuple[str, str]:
    for name, text in (("tls.crt", pair.certificate), ("tls.key", pair.key)):
        (folder / name).write_text(text)
    return str(folder / "tls.crt"), str(folder / "tls.key")


def connect(folder: Path, server: Pair, name: str, client: Pair | None = None, authority: Pair = AUTHORITY) -> None:
    """Shake hands; raise what the client has against it."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=AUTHORITY.certificate)
    (folder / "server").mkdir()
    serving.load_cert_chain(*files(folder / "server", server))
    asking = ssl.create_default_context(cadata=authority.certificate)
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    if client is not None:
        serving.verify_mode = ssl.CERT_REQUIRED
        (folder / "client").mkdir()
        asking.load_cert_chain(*files(folder / "client", client))
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with serving.wrap_socket(theirs, server_side=True) as wrapped:
                wrapped.sendall(b"hello")
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with asking.wrap_socket(ours, server_hostname=name) as wrapped:
            assert wrapped.recv(5) == b"hello"
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("name", NAMES)
def test_a_client_accepts_a_server_under_each_of_its_names(tmp_path: Path, name: str) -> None:
    connect(tmp_path, SERVER, name)


@pytest.mark.parametrize("name", ["posture-mqtt.elsewhere.svc", "192.0.2.11"])
def test_under_another_name_it_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(tmp_path, SERVER, name)


def test_of_another_authority_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(tmp_path, SERVER, NAMES[0], authority=certificates.new_authority("Posture Farm test"))


def test_a_client_shows_its_own(tmp_path: Path) -> None:
    connect(tmp_path, SERVER, NAMES[0], certificates.issue(AUTHORITY, ["keda-operator"], client=True))


def test_a_servers_certificate_is_no_clients(tmp_path: Path) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        connect(tmp_path, SERVER, NAMES[0], SERVER)


def test_it_is_good_for_its_names_and_not_for_more() -> None:
    assert certificates.is_good(SERVER, AUTHORITY, NAMES[:2])
    assert not certificates.is_good(SERVER, AUTHORITY, [*NAMES, "192.0.2.11"])
    assert not certificates.is_good(SERVER, certificates.new_authority("other"), NAMES)
    assert not certificates.is_good(Pair("", ""), AUTHORITY, NAMES)


def test_with_less_than_a_year_left_it_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "CERTIFICATE_DAYS", certificates.RENEWED_BEFORE_DAYS)
    assert not certificates.is_good(certificates.issue(AUTHORITY, NAMES), AUTHORITY, NAMES)


@pytest.mark.parametrize(
    "broken",
    [
        Pair("", ""),
        Pair(AUTHORITY.certificate, ""),
        Pair("x", AUTHORITY.key),
        Pair(AUTHORITY.certificate, certificates.new_authority("other").key),
    ],
    ids=["nothing", "no key", "no certificate", "another's key"],
)
def test_an_authority_that_cannot_sign_is_refused(broken: Pair) -> None:
    with pytest.raises(UserError, match=r"^broker/ca: .*; accepted: "):
        certificates.check(broken)
