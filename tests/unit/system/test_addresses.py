"""Hosts and ports as they are written."""

from __future__ import annotations

import pytest

from posture.system.addresses import is_loopback, origin, split_listen, without_port


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        pytest.param(":50051", "", 50051, id="all interfaces"),
        pytest.param("127.0.0.1:1", "127.0.0.1", 1, id="IPv4"),
        pytest.param("[::1]:65535", "[::1]", 65535, id="IPv6"),
        pytest.param("scaler.example:80", "scaler.example", 80, id="a name"),
    ],
)
def test_an_address_to_listen_on_is_host_and_port(listen: str, host: str, port: int) -> None:
    assert split_listen(listen) == (host, port)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        pytest.param("registry.example", "registry.example", id="a name alone"),
        pytest.param("registry.example:5000", "registry.example", id="a name and a port"),
        pytest.param("[::1]", "[::1]", id="IPv6 alone"),
        pytest.param("[::1]:5000", "[::1]", id="IPv6 and a port"),
    ],
)
def test_a_port_is_cut_off(address: str, host: str) -> None:
    assert without_port(address) == host


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        pytest.param("localhost", True, id="localhost"),
        pytest.param("127.0.0.1", True, id="IPv4"),
        pytest.param("127.8.9.1", True, id="another of 127.0.0.0/8"),
        pytest.param("::1", True, id="IPv6"),
        pytest.param("[::1]", True, id="IPv6 in brackets"),
        pytest.param("192.0.2.1", False, id="another machine"),
        pytest.param("127.example", False, id="a name that begins like an address"),
        pytest.param("", False, id="all interfaces"),
    ],
)
def test_loopback_is_told_from_other_hosts(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    "url",
    [
        "http://host.example:80/path",
        "http://user:hush@host.example:80",
        "http://user:hu@sh@host.example:80/path?password=hush#hush",
        "http://user:hu/sh@host.example:80/path",
        "http://user:12#hush@host.example:80",
        "http://user:?hush@host.example:80",
    ],
)
def test_an_origin_is_scheme_host_and_port_without_any_part_of_a_password(url: str) -> None:
    assert origin(url) == "http://host.example:80"
