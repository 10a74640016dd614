"""Read cluster.yaml, the environment and flags into validated settings.

A flag wins over the environment, which wins over the file. Secrets come from the environment only: the variable
itself, or the variable with ``_FILE`` appended, which names a file that holds the value. All mistakes are reported
at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from posture.errors import UserError
from posture.runtime import ROOT
from posture.settings.gpu_queries import GPU_QUERIES_VARIABLE, parse_gpu_queries
from posture.settings.limits import Limits
from posture.settings.parsers import NotAcceptedError, did_you_mean, shown, stream_name
from posture.settings.signals import SIGNALS_VARIABLE, parse_signals
from posture.settings.table import (
    SECTIONS,
    Balancer,
    GpuQuery,
    NodeQuery,
    Settings,
    all_settings,
    environment_name,
)
from posture.settings.yaml_leaves import Leaf, read_yaml

MAPS = {"signals": SIGNALS_VARIABLE, "GPU_QUERIES": GPU_QUERIES_VARIABLE}
"""Maps of their own beside the sections -> the variable that holds the whole of it."""


@dataclass(frozen=True)
class Override:
    """What a flag gives to a setting."""

    flag: str
    """Such as ``--listen``: error messages name it."""
    text: str


def load(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Override] | None = None,
) -> Settings:
    """Read cluster.yaml and the environment, and apply flags.

    Args:
        path: the file; None means cluster.yaml beside the scripts, which may be absent.
        environ: environment variables; None reads none.
        overrides: section and name of a setting, such as ``scaler.listen`` -> what a flag gives to it. What the
            environment has for the same setting is not looked at.

    Raises:
        UserError: every mistake found, one a line, each with file, line, key, value and what is accepted.
    """
    mistakes: list[str] = []
    given = _read_file(path, mistakes)
    environ, overrides = environ or {}, overrides or {}
    _check_environment_names(environ, mistakes)
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    streams: dict[str, dict[str, Any]] = {}
    for where, key, value in given:
        if key[:1] not in {(name,) for name in MAPS}:
            _take_from_file(where, key, value, values, streams, mistakes)
    for section, name, entry in all_settings():
        override = overrides.get(f"{section}.{name}")
        if override is not None:
            _parse_into(values[section], name, entry, override.text, override.flag, mistakes)
        else:
            _take_from_environment(section, name, entry, environ, values, mistakes)
    signals = parse_signals(_map("signals", given, environ, mistakes), mistakes)
    gpu_queries = parse_gpu_queries(_map("GPU_QUERIES", given, environ, mistakes), signals, mistakes)
    _check_together(values, mistakes)
    if mistakes:
        raise UserError("\n".join(mistakes))
    sections = {section: cls(**values[section]) for section, cls in SECTIONS.items()}
    return Settings(**sections, streams=streams, gpu_queries=gpu_queries)


def _map(name: str, given: list[Leaf], environ: Mapping[str, str], mistakes: list[str]) -> list[Leaf]:
    """Return the leaves of a map that has a variable for the whole of it; the variable replaces the file's."""
    variable = MAPS[name]
    if variable in environ:
        return read_yaml(environ[variable], f"environment: {variable}", (name,), mistakes)
    return [leaf for leaf in given if leaf[1][:1] == (name,)]


class GpuQueries(Mapping[str, Mapping[str, Any]]):
    """GPU_QUERIES of cluster.yaml beside the scripts and of the environment: node -> instance, metric or signal.

    Read at the first access, so that importing a script does no input and cannot fail on a wrong file.
    """

    @cached_property
    def _entries(self) -> dict[str, dict[str, Any]]:
        return {node: _entry(query) for node, query in load(None, os.environ).gpu_queries.items()}

    def __getitem__(self, node: str) -> Mapping[str, Any]:
        return self._entries[node]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


GPU_QUERIES = GpuQueries()


def _entry(query: NodeQuery) -> dict[str, Any]:
    """Return an entry of GPU_QUERIES as it is written."""
    if isinstance(query, GpuQuery):
        return {name: value for name, value in asdict(query).items() if value}
    names = [signal.name for signal in query.signals]
    return {"instance": query.instance, "signal": names if len(names) > 1 else names[0]}


def _read_file(path: Path | None, mistakes: list[str]) -> list[Leaf]:
    if path is None:
        path = ROOT / "cluster.yaml"
        if not path.exists():
            return []
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        mistakes.append(f"{path}: can't be read: {error.strerror}")
        return []
    except UnicodeDecodeError as error:
        mistakes.append(f"{path}: is not YAML: {error}")
        return []
    return read_yaml(text, str(path), (), mistakes)


def _take_from_file(
    where: str,
    key: tuple[str, ...],
    value: Any,
    values: dict[str, dict[str, Any]],
    streams: dict[str, dict[str, Any]],
    mistakes: list[str],
) -> None:
    """Put one value of the file into its section or its stream.

    Args:
        where: file and line, for messages.
        key: its path of keys.
        value: as YAML has it. A key without a value below it is accepted if it may have keys below it.
        values: section -> setting -> value; filled.
        streams: stream -> setting of section analyzer -> value; filled.
        mistakes: what is wrong is appended.
    """
    section = key[0] if key else ""
    if (key[:1], len(key), *key[-2:-1]) in ((("analyzer",), 3, "limits"), (("streams",), 4, "limits")):
        key, value = key[:-1], {key[-1]: value}  # the one setting that is a map
    if section == "streams" and len(key) in (2, 3):
        pi_id = key[1]
        try:
            stream_name(pi_id)
        except NotAcceptedError as refusal:
            mistakes.append(f"{where}: streams: {pi_id!r} is no stream's name; {refusal}")
            return
        target = streams.setdefault(pi_id, {})
        if len(key) == 2:
            _require_keys_below(where, key, value, "analyzer", mistakes)
        else:
            _take_setting(where, key, value, "analyzer", target, mistakes)
    elif section in SECTIONS and len(key) == 2:
        _take_setting(where, key, value, section, values[section], mistakes)
    elif section == "streams" and len(key) == 1:
        if value:
            mistakes.append(f"{where}: streams: {shown(value)} is not accepted; accepted: a list of names")
    elif section in SECTIONS and len(key) == 1:
        _require_keys_below(where, key, value, section, mistakes)
    else:
        dotted = ".".join(key)
        names = [*SECTIONS, "streams", *MAPS]
        names += [f"{part}.{entry}" for part, entry, _ in all_settings()]
        mistakes.append(f"{where}: {dotted or 'the file'}: unknown key{did_you_mean(dotted, names)}")


def _require_keys_below(where: str, key: tuple[str, ...], value: Any, section: str, mistakes: list[str]) -> None:
    """Report a value where the keys of a section are accepted; nothing at all is accepted, too."""
    if value:
        mistakes.append(f"{where}: {'.'.join(key)}: {shown(value)} is not accepted; accepted: keys of {section}")


def _take_setting(
    where: str, key: tuple[str, ...], value: Any, section: str, target: dict[str, Any], mistakes: list[str]
) -> None:
    """Put a value of the file into ``target`` under the last part of its key, a setting of that section."""
    dotted, name = ".".join(key), key[-1]
    known = {entry.name: entry for entry in fields(SECTIONS[section])}
    if name not in known:
        mistakes.append(f"{where}: {dotted}: unknown key{did_you_mean(name, list(known))}")
        return
    entry = known[name]
    if entry.metadata["secret"] or (entry.metadata["may_hold_secret"] and _has_password(str(value))):
        variable = environment_name(section, name)
        mistakes.append(
            f"{where}: {dotted}: secrets don't belong into this file; set {variable} or {variable}_FILE"
        )
        return
    earlier = target.get(name)
    _parse_into(target, name, entry, value, f"{where}: {dotted}", mistakes)
    if isinstance(earlier, Limits):  # a leaf of the same map
        target[name] = target[name].over(earlier)


def _take_from_environment(
    section: str,
    name: str,
    entry: Any,
    environ: Mapping[str, str],
    values: dict[str, dict[str, Any]],
    mistakes: list[str],
) -> None:
    variable = environment_name(section, name)
    by_file = environ.get(variable + "_FILE")
    if by_file and entry.metadata["by_file"]:
        try:
            value = Path(by_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(f"environment: {variable}_FILE: {by_file} can't be read: {error}")
            return
        _parse_into(values[section], name, entry, value, f"environment: {variable}_FILE", mistakes)
    elif variable in environ:
        _parse_into(values[section], name, entry, environ[variable], f"environment: {variable}", mistakes)


def _check_together(values: dict[str, dict[str, Any]], mistakes: list[str]) -> None:
    """Report settings that contradict each other."""
    prometheus = values["prometheus"]
    if prometheus.get("username") and prometheus.get("token"):
        mistakes.append("prometheus.username and prometheus.token are both set; accepted: one of them")
    if prometheus.get("password") and not prometheus.get("username"):
        mistakes.append("prometheus.password is set without prometheus.username; accepted: both or neither")
    if prometheus.get("url", "").startswith("kubernetes://") and (
        prometheus.get("username") or prometheus.get("token")
    ):
        mistakes.append(
            "prometheus.url is a Service of the cluster, and the API server passes no user and no token on to it; "
            "accepted beside prometheus.username or prometheus.token: http:// or https://"
        )
    camera = values["camera"]
    if camera.get("password") and not camera.get("username"):
        mistakes.append("camera.password is set without camera.username; accepted: both or neither")
    mistakes.extend(balancer_mistakes(Balancer(**values["balancer"])))


def balancer_mistakes(balancer: Balancer) -> list[str]:
    """Return what is wrong with these settings together, one text a mistake."""
    mistakes = []
    if balancer.window_s < 2 * balancer.sample_interval_s:
        mistakes.append(
            f"balancer.window_s: {balancer.window_s:g} is not accepted; accepted: at least two samples, "
            f"which is twice balancer.sample_interval_s ({balancer.sample_interval_s:g})"
        )
    if balancer.lease_s < 2 * balancer.sample_interval_s:
        mistakes.append(
            f"balancer.lease_s: {balancer.lease_s:g} is not accepted; accepted: at least twice "
            f"balancer.sample_interval_s ({balancer.sample_interval_s:g}), at which it is renewed"
        )
    if balancer.cooldown_cap_s < balancer.cooldown_base_s:
        mistakes.append(
            f"balancer.cooldown_cap_s: {balancer.cooldown_cap_s:g} is not accepted; accepted: at least "
            f"balancer.cooldown_base_s ({balancer.cooldown_base_s:g})"
        )
    return mistakes


def _has_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL, but what was meant as a password may be in it
        return "@" in url
    # a password that holds a / or # which is not percent-encoded ends the address's first part
    rest = f"{parts.path}{parts.query}{parts.fragment}"
    return parts.password is not None or "@" in rest or "password" in parse_qs(parts.query)


def _parse_into(target: dict[str, Any], name: str, entry: Any, value: Any, where: str, mistakes: list[str]) -> None:
    try:
        target[name] = entry.metadata["parse"](value)
    except NotAcceptedError as refusal:
        said = shown(value) if entry.metadata["shown"] else "the value"
        reason = f"; {refusal}" if str(refusal) else ""
        mistakes.append(f"{where}: {said} is not accepted; accepted: {entry.metadata['accepted']}{reason}")


def _check_environment_names(environ: Mapping[str, str], mistakes: list[str]) -> None:
    known = {environment_name(section, name) for section, name, _ in all_settings()}
    files = {
        environment_name(section, name) + "_FILE"
        for section, name, entry in all_settings()
        if entry.metadata["by_file"]
    }
    prefixes = tuple(f"POSTURE_{section}_".upper() for section in SECTIONS)
    mistakes.extend(
        f"environment: {variable}: unknown setting{did_you_mean(variable, sorted(known))}"
        for variable in sorted(environ)
        if variable.startswith(prefixes) and variable not in known | files
    )
