"""The registry that images are pushed to: whether it answers, and whether it takes our pushes."""

from __future__ import annotations

from dataclasses import dataclass

import requests

from posture.system import commands
from posture.system.addresses import is_loopback, without_port


def registry_host(registry: str) -> str:
    """Return the host of a registry's name, such as ``host:5000`` of ``host:5000/farm``; Docker Hub's is empty."""
    first = registry.partition("/")[0]
    return first if "." in first or ":" in first or first == "localhost" else ""


CA_FILE = "sudo install -D ca.crt /etc/docker/certs.d/{host}/ca.crt"

INSECURE = '"insecure-registries": ["{host}"] in /etc/docker/daemon.json'
"""Where docker is told of a registry's authority, and of one without TLS."""


@dataclass(frozen=True)
class RegistryAnswer:
    """What a registry says to somebody without credentials.

    Attributes:
        reachable: whether there is a registry at all.
        login: whether it asks for credentials.
        trouble: why it could not be reached.
        told: what docker must have been told of the registry, and where; None: nothing.
    """

    reachable: bool
    login: bool = False
    trouble: str = ""
    told: tuple[str, str] | None = None


def ask_registry(host: str, timeout_s: float) -> RegistryAnswer:
    """Ask a registry whether it is there, and whether one must log in; Docker Hub, everybody must."""
    if not host:
        return RegistryAnswer(True, login=True)
    trouble = ""
    for scheme in ("https", "http"):
        try:
            response = requests.get(f"{scheme}://{host}/v2/", timeout=timeout_s)
        except requests.RequestException as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                # docker has authorities of its own for each registry
                return RegistryAnswer(True, told=("certificate is of an authority that is not known here", CA_FILE))
            trouble = trouble or str(error)
            continue
        if response.status_code in {200, 401}:
            plain = scheme == "http" and not is_loopback(without_port(host))
            told = ("connections are plain HTTP", INSECURE) if plain else None
            return RegistryAnswer(True, login=response.status_code == 401, told=told)
        trouble = f"{scheme}://{host}/v2/ answers {response.status_code}"
    return RegistryAnswer(False, trouble=trouble)


def has_login(host: str, timeout_s: float) -> bool:
    """Return whether docker has credentials that the registry accepts."""
    # with no terminal to ask on, docker tries what it has stored
    command = ["docker", "login", *([host] if host else [])]
    try:
        commands.run(command, timeout_s)
    except commands.CommandError:
        return False
    return True
