"""The grammars of single values: each parser takes what YAML or the environment holds, and returns the value."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

PI_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
"""A stream's name: also part of topics, file names and Kubernetes names."""

NODE_NAME = re.compile(r"(?=.{1,63}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
"""A node's name that can also be the value of its label ``gpu-node``."""

METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
"""PromQL's identifier."""

REGISTRY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
"""What stands before an image's name."""

Parser = Callable[[Any], Any]


class NotAcceptedError(Exception):
    """A parser does not accept a value. Its text, if any, says why; the caller knows file, key and line."""


def text(value: Any) -> str:
    """Return any text, the empty one included."""
    if not isinstance(value, str):
        raise NotAcceptedError
    return value


def url(*schemes: str) -> Parser:
    """Return a parser of URLs that begin with one of the schemes, each given with its ``://``."""

    def parse(value: Any) -> str:
        given = text(value)
        if not any(given.startswith(scheme) for scheme in schemes):
            raise NotAcceptedError
        return given

    return parse


def broker(value: Any) -> str:
    """Return a broker's address as it stands; user and password have settings of their own."""
    try:
        parts = urlsplit(text(value))
        port = parts.port
    except ValueError:  # brackets that don't close; a port that is none
        raise NotAcceptedError from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
        raise NotAcceptedError
    if parts.username or parts.password:
        raise NotAcceptedError("user and password belong into POSTURE_MQTT_USERNAME and POSTURE_MQTT_PASSWORD")
    if port == 0 or parts.query:
        raise NotAcceptedError
    return str(value)


def path(value: Any) -> str:
    """Return a path, which is not empty."""
    if not text(value):
        raise NotAcceptedError
    return str(value)


def choice(*names: str) -> Parser:
    """Return a parser that takes one of the names."""

    def parse(value: Any) -> str:
        if str(value) not in names:
            raise NotAcceptedError
        return str(value)

    return parse


def number(low: float, high: float = math.inf, *, whole: bool = False) -> Parser:
    """Return a parser of finite numbers from ``low`` to ``high``, both included."""

    def parse(value: Any) -> float | int:
        if isinstance(value, bool):
            raise NotAcceptedError
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise NotAcceptedError from None
        if not math.isfinite(number) or not low <= number <= high or (whole and number != int(number)):
            raise NotAcceptedError
        return int(number) if whole else number

    return parse


def boolean(value: Any) -> bool:
    """Return true, yes, on and 1 as True; false, no, off and 0 as False."""
    known = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    if str(value).lower() not in known:
        raise NotAcceptedError
    return known[str(value).lower()]


def matching(pattern: re.Pattern[str], *, or_empty: bool = False) -> Parser:
    """Return a parser of texts that match the whole pattern."""

    def parse(value: Any) -> str:
        given = text(value)
        if not pattern.fullmatch(given) and not (or_empty and not given):
            raise NotAcceptedError
        return given

    return parse


def host_port(value: Any) -> str:
    """Return host:port as it stands; an IPv6 address is in brackets."""
    host, _, port = text(value).rpartition(":")
    if not port.isdecimal() or not port.isascii() or not 1 <= int(port) <= 65_535:
        raise NotAcceptedError
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]", host):
        raise NotAcceptedError
    return str(value)


def listen(value: Any) -> str:
    """Return [host]:port as it stands."""
    given = text(value)
    host_port(f"all{given}" if given.startswith(":") else given)
    return given


def web_address(value: Any) -> str:
    """Return a URL that ends without a slash; user and password have settings of their own."""
    given = text(value).rstrip("/")
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", given):
        raise NotAcceptedError
    return given


def prefix(value: Any) -> str:
    """Return the topics' prefix without slashes at its ends."""
    given = text(value).strip("/")
    if not re.fullmatch(r"[A-Za-z0-9_-]*(/[A-Za-z0-9_-]+)*", given):
        raise NotAcceptedError
    return given


def did_you_mean(name: str, known: list[str]) -> str:
    """Return the end of a complaint about an unknown name: the one that is most like it, or some that are known."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known[:12])}"
