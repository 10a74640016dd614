"""Network addresses as settings and registries write them."""

from __future__ import annotations

import contextlib
import ipaddress
import re


def split_listen(listen: str) -> tuple[str, int]:
    """Split an address to listen on.

    Args:
        listen: ``:port`` or ``host:port``, an IPv6 address in brackets, as setting ``scaler.listen`` accepts it.

    Returns:
        Host as written, empty for all interfaces; and port.
    """
    host, _, port = listen.rpartition(":")
    return host, int(port)


def without_port(address: str) -> str:
    """Return the host of ``host`` or ``host:port`` as written; an IPv6 address keeps its brackets."""
    return re.sub(r":[0-9]+\Z", "", address)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its loopback interface.

    Args:
        host: a name or an address without a port; an IPv6 address with or without brackets.
    """
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False
