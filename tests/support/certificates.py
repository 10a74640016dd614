"""Certificates for servers on loopback and their clients."""

from __future__ import annotations

from pathlib import Path

import trustme


def make_certificates(folder: Path) -> None:
    """Write an authority (ca.pem), and what it signed for a server and a client (server.pem, server.key, ...)."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, of in (("server", "127.0.0.1"), ("client", "camera@farm.example")):
        signed = authority.issue_cert(of)
        signed.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        signed.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
