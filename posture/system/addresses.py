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


def origin(url: str) -> str:
    """Return scheme, host and port of a URL for a message, without the secrets that the rest of it may hold.

    A password may hold ``@``, ``/``, ``?`` or ``#`` that should have been percent-encoded: whatever stands before
    the last ``@`` is taken for one.
    """
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split('[/?#]', rest.rpartition('@')[2])[0]}"
