"""Parsers of single settings: each takes what YAML, the environment or a flag holds, and returns the value."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

PI_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
"""A stream's name; it becomes part of topics, file names and names of Kubernetes objects."""

TAKEN_NAMES = frozenset({"analyzer", "balancer", "dashboard", "exporter", "scheduler", "tls"})
"""No stream's: the farm has an image ``posture-<name>`` or a Secret ``posture-mqtt-<name>`` of its own."""

NODE_NAME = re.compile(r"(?=.{1,63}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
"""A node's name; it also has to be valid as the value of label ``gpu-node``, so at most 63 characters."""

METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
"""A metric's name in PromQL."""

REGISTRY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
"""A registry with its path: what precedes the name in an image reference."""

COUNT_OR_PERCENT = re.compile(r"[1-9][0-9]{0,5}|([1-9][0-9]?|100)%")
"""How many of them: a number from 1, or from 1% to 100%."""

_DNS_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
SERVICE_ADDRESS = re.compile(rf"kubernetes://({_DNS_LABEL})/({_DNS_LABEL}):([1-9][0-9]{{0,4}})")
"""A Service of the cluster: namespace, name and port."""

_CORES = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?|[0-9]{1,7}m")
_MEMORY = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?[MG]i?")

Parser = Callable[[Any], Any]


class NotAcceptedError(Exception):
    """A parser does not accept a value. Its text, if any, says why; the caller knows file, key and line."""


def shown(value: Any) -> str:
    """Return a value for a message; not one that may be an address with a password, wherever it was put."""
    return "the value" if "@" in str(value) else repr(value)


def text(value: Any) -> str:
    """Accept any text, also the empty one."""
    if not isinstance(value, str):
        raise NotAcceptedError
    return value


def stream_name(value: Any) -> str:
    """Accept the name of a stream; the refusal says what is accepted."""
    if not PI_ID.fullmatch(text(value)):
        raise NotAcceptedError("accepted: a-z, 0-9 and -, up to 32")
    if value in TAKEN_NAMES:
        raise NotAcceptedError("accepted: one that no image or Secret of the farm itself has")
    return str(value)


def cores(value: Any) -> str:
    """Accept a number of cores above 0, or of thousandths with ``m``, as Kubernetes writes it."""
    return _quantity(value, _CORES)


def memory(value: Any) -> str:
    """Accept an amount of memory above 0 in M, Mi, G or Gi, as Kubernetes writes it."""
    return _quantity(value, _MEMORY)


def _quantity(value: Any, pattern: re.Pattern[str]) -> str:
    given = str(value)
    if isinstance(value, bool) or not pattern.fullmatch(given) or not re.search("[1-9]", given):
        raise NotAcceptedError
    return given


def url(*schemes: str) -> Parser:
    """Return a parser of URLs that begin with one of the schemes, each given with its ``://``."""

    def parse(value: Any) -> str:
        given = text(value)
        if not any(given.startswith(scheme) for scheme in schemes):
            raise NotAcceptedError
        return given

    return parse


def broker(value: Any) -> str:
    """Accept ``mqtt://host[:port]`` or ``mqtts://host[:port]``; user and password are other settings."""
    if "@" in text(value):
        raise NotAcceptedError("user and password belong into POSTURE_MQTT_USERNAME and POSTURE_MQTT_PASSWORD")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:  # unbalanced brackets, or a port that is no number up to 65535
        raise NotAcceptedError from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
        raise NotAcceptedError
    if port == 0 or parts.query or parts.fragment:
        raise NotAcceptedError
    return str(value)


def path(value: Any) -> str:
    """Accept a path that is not empty."""
    if not text(value):
        raise NotAcceptedError
    return str(value)


def host_folder(value: Any) -> str:
    """Accept the absolute path of a folder other than the root, without a way out of it, or nothing."""
    given = text(value).rstrip("/")
    if value and not re.fullmatch(r"(/(?!\.\.?(/|$))[A-Za-z0-9._-]+)+", given):
        raise NotAcceptedError
    return given


def choice(*names: str) -> Parser:
    """Return a parser that accepts one of the names."""

    def parse(value: Any) -> str:
        if str(value) not in names:
            raise NotAcceptedError
        return str(value)

    return parse


def count_or_percent(value: Any) -> str:
    """Accept a whole number from 1, or a share from 1% to 100%."""
    given = str(value).replace(" ", "")
    if isinstance(value, bool) or not COUNT_OR_PERCENT.fullmatch(given):
        raise NotAcceptedError
    return given


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


def number_or(word: str, low: float) -> Parser:
    """Return a parser that accepts one word, or a whole number of at least ``low``."""
    whole = number(low, whole=True)
    return lambda value: word if value == word else whole(value)


def boolean(value: Any) -> bool:
    """Accept true, yes, on, 1, and false, no, off, 0, in upper or lower case."""
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


def label_value(value: Any) -> str:
    """Accept the value of a label of Prometheus: any text on one line."""
    given = text(value)
    if not given or not given.isprintable():
        raise NotAcceptedError
    return given


def host_port(value: Any) -> str:
    """Accept host:port, with an IPv6 address in brackets."""
    host, _, port = text(value).rpartition(":")
    if not port.isdecimal() or not port.isascii() or not 1 <= int(port) <= 65_535:
        raise NotAcceptedError
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]", host):
        raise NotAcceptedError
    return str(value)


def listen(value: Any) -> str:
    """Accept ``:port`` or ``host:port``."""
    given = text(value)
    host_port(f"all{given}" if given.startswith(":") else given)
    return given


def networks(value: Any) -> str:
    """Accept addresses and networks joined by commas, or nothing."""
    given = text(value)
    try:
        for part in filter(None, given.split(",")):
            ipaddress.ip_network(part.strip())
    except ValueError as error:
        raise NotAcceptedError(str(error)) from None
    return given


def web_address(value: Any) -> str:
    """Accept an http or https URL without user, password, query or fragment; return it without trailing slashes."""
    given = text(value).rstrip("/")
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", given):
        raise NotAcceptedError
    return given


def prometheus_address(value: Any) -> str:
    """Accept an http or https URL, or ``kubernetes://namespace/service:port`` for a Service of the cluster."""
    given = text(value)
    return given if SERVICE_ADDRESS.fullmatch(given) else web_address(given)


def prefix(value: Any) -> str:
    """Accept a topic prefix, parts joined by slashes; return it without slashes at its ends."""
    given = text(value).strip("/")
    if not re.fullmatch(r"[A-Za-z0-9_-]*(/[A-Za-z0-9_-]+)*", given):
        raise NotAcceptedError
    return given


def did_you_mean(name: str, known: list[str]) -> str:
    """Return the end of an error message about an unknown name: the most similar known one, or some known ones."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known[:12])}"
