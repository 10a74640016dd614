"""The farm's authority, and certificates of it for the broker, the scaler and KEDA. Keys are of the curve P-256."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from posture.errors import UserError

AUTHORITY_DAYS, CERTIFICATE_DAYS = 20 * 365, 5 * 365
"""Nobody renews anything while a farm runs; after a run of setup_farm.py a certificate has a year at least."""
RENEWED_BEFORE_DAYS = 365
CLOCKS_DIFFER = datetime.timedelta(days=1)
"""A Raspberry Pi has no clock that runs while it is off."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM."""

    certificate: str
    key: str


def new_authority(name: str) -> Pair:
    """Return an authority that signs for itself.

    Args:
        name: its common name.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signed = (
        _builder(subject, subject, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(signed, key)


def issue(authority: Pair, names: Collection[str], *, client: bool = False) -> Pair:
    """Return a new certificate.

    Args:
        authority: who signs.
        names: host names and addresses that it is for; a client's own name.
        client: it is a client's and not a server's.

    Raises:
        UserError: the authority can't be read.
    """
    signer, signer_key = _read(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, min(names, key=len)[:64])])
    use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
    signed = (
        _builder(subject, signer.subject, key.public_key(), CERTIFICATE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in sorted(names)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key()), critical=False)
        .sign(signer_key, hashes.SHA256())
    )
    return _pair(signed, key)


def is_good(pair: Pair, authority: Pair, names: Collection[str]) -> bool:
    """Return whether a certificate is of this authority, for these names at least, and for a year to come."""
    signer, _ = _read(authority)
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
        serialization.load_pem_private_key(pair.key.encode(), None)
        certificate.verify_directly_issued_by(signer)
        known = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
    return left.days > RENEWED_BEFORE_DAYS and all(_general_name(name) in known for name in names)


def check(authority: Pair) -> None:
    """Refuse an authority that can't sign.

    Raises:
        UserError: certificate and key can't be read, or are not of each other.
    """
    _read(authority)


def _read(authority: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(authority.certificate.encode())
        key = serialization.load_pem_private_key(authority.key.encode(), None)
    except (ValueError, TypeError) as error:
        raise UserError(f"broker/ca: ca.crt or ca.key is not accepted: {error}; accepted: PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise UserError("broker/ca: ca.crt and ca.key are not of each other; accepted: as setup_farm.py makes them")
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )
