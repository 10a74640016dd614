"""cluster.yaml and the environment become validated settings.

One table of dataclasses says everything about a setting: its key (section and field name), default, what
is accepted, its environment variable (``POSTURE_<SECTION>_<FIELD>`` unless named otherwise) and why one
would change it. docs/operations.md is checked against the same table.

The environment wins over the file. Secrets come from the environment only: the variable itself, or the
variable with ``_FILE`` appended, which names a file that holds the value. All mistakes are reported at once.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from posture.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
"""The folder of the scripts: files are found from here, never from the working directory."""

PI_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
"""A stream's name: also part of topics, file names and Kubernetes names."""

NODE_NAME = re.compile(r"(?=.{1,63}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
"""A node's name that can also be the value of its label ``gpu-node``."""

METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
"""PromQL's identifier."""

REGISTRY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
"""What stands before an image's name."""

GPU_QUERIES_VARIABLE = "POSTURE_GPU_QUERIES"
"""In the environment: the whole map as YAML or JSON in one line, instead of the file's."""

Parser = Callable[[Any], Any]


class _NotAcceptedError(Exception):
    """Raised by a parser; the caller knows the file, key and line."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _NotAcceptedError
    return value


def _url(*schemes: str) -> Parser:
    def parse(value: Any) -> str:
        text = _text(value)
        if not any(text.startswith(scheme) for scheme in schemes):
            raise _NotAcceptedError
        return text

    return parse


def _broker(value: Any) -> str:
    """Return a broker's address as it stands; user and password have settings of their own."""
    try:
        parts = urlsplit(_text(value))
        port = parts.port
    except ValueError:  # brackets that don't close; a port that is none
        raise _NotAcceptedError from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
        raise _NotAcceptedError
    if port == 0 or parts.username or parts.password or parts.query:
        raise _NotAcceptedError
    return str(value)


def _path(value: Any) -> str:
    if not _text(value):
        raise _NotAcceptedError
    return str(value)


def _choice(*names: str) -> Parser:
    def parse(value: Any) -> str:
        if str(value) not in names:
            raise _NotAcceptedError
        return str(value)

    return parse


def _number(low: float, high: float = math.inf, *, whole: bool = False) -> Parser:
    def parse(value: Any) -> float | int:
        if isinstance(value, bool):
            raise _NotAcceptedError
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise _NotAcceptedError from None
        if not math.isfinite(number) or not low <= number <= high or (whole and number != int(number)):
            raise _NotAcceptedError
        return int(number) if whole else number

    return parse


def _flag(value: Any) -> bool:
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
        raise _NotAcceptedError
    return known[str(value).lower()]


def _matching(pattern: re.Pattern[str], *, or_empty: bool = False) -> Parser:
    def parse(value: Any) -> str:
        text = _text(value)
        if not pattern.fullmatch(text) and not (or_empty and not text):
            raise _NotAcceptedError
        return text

    return parse


def _host_port(value: Any) -> str:
    """Return host:port as it stands; an IPv6 address is in brackets."""
    host, _, port = _text(value).rpartition(":")
    if not port.isdecimal() or not port.isascii() or not 1 <= int(port) <= 65_535:
        raise _NotAcceptedError
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]", host):
        raise _NotAcceptedError
    return str(value)


def _listen(value: Any) -> str:
    """Return [host]:port as it stands."""
    text = _text(value)
    _host_port(f"all{text}" if text.startswith(":") else text)
    return text


def _web_address(value: Any) -> str:
    """Return a URL that ends without a slash; user and password have settings of their own."""
    text = _text(value).rstrip("/")
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise _NotAcceptedError
    return text


def _prefix(value: Any) -> str:
    text = _text(value).strip("/")
    if not re.fullmatch(r"[A-Za-z0-9_-]*(/[A-Za-z0-9_-]+)*", text):
        raise _NotAcceptedError
    return text


def _setting(
    default: Any,
    parse: Parser,
    accepted: str,
    why: str,
    *,
    unit: str = "",
    env: str = "",
    secret: bool = False,
    may_hold_secret: bool = False,
) -> Any:
    metadata = {
        "parse": parse,
        "accepted": accepted,
        "why": why,
        "unit": unit,
        "env": env,
        "secret": secret,
        "may_hold_secret": secret or may_hold_secret,
    }
    return field(default=default, metadata=metadata, repr=not secret and not may_hold_secret)


def _bytes(default: int, why: str, low: int = 1024) -> Any:
    return _setting(default, _number(low, whole=True), f"a whole number of at least {low}", why, unit="bytes")


def _seconds(default: float, why: str, low: float = 0.0) -> Any:
    return _setting(default, _number(low), f"a number of at least {low:g}", why, unit="s")


def _count(default: int, why: str, low: int = 0) -> Any:
    return _setting(default, _number(low, whole=True), f"a whole number of at least {low}", why)


def _file(default: str, why: str) -> Any:
    return _setting(default, _path, "a path", why)


@dataclass(frozen=True)
class Mqtt:
    """The broker between cameras and analyzers."""

    url: str = _setting(
        "mqtt://127.0.0.1:1883",
        _broker,
        "mqtt://host:port or mqtts://host:port (TLS)",
        "where the broker listens",
    )
    username: str = _setting("", _text, "text", "empty: the broker lets anyone in")
    password: str = _setting("", _text, "text", "the broker's password for that user", secret=True)
    ca_file: str = _setting("", _text, "a path", "the authority that signed the broker's certificate")
    cert_file: str = _setting("", _text, "a path", "our client certificate, where the broker asks for one")
    key_file: str = _setting("", _text, "a path", "its private key")
    prefix: str = _setting(
        "", _prefix, "letters, digits, - and _, parts joined by /", "lets two farms share a broker"
    )
    protocol: str = _setting(
        "auto", _choice("auto", "5", "3.1.1"), "auto, 5 or 3.1.1", "auto falls back from MQTT 5 to 3.1.1"
    )
    keepalive_s: int = _setting(
        30, _number(5, 3600, whole=True), "5 to 3600", "how soon a broker that is gone is noticed", unit="s"
    )
    session_expiry_s: int = _setting(
        604_800,
        _number(60, 4_294_967_295, whole=True),
        "60 to 4294967295",
        "how long the broker keeps frames for an analyzer that is away (MQTT 5)",
        unit="s",
    )


@dataclass(frozen=True)
class Database:
    """Where rows go."""

    url: str = _setting(
        "sqlite:///posture.db",
        _url("sqlite:///", "postgresql://", "postgres://", "https://", "http://"),
        "sqlite:///path, postgresql://user@host/database, or https://project (Supabase)",
        "a relative SQLite path starts at the scripts' folder; a password belongs into the environment",
        env="POSTURE_DATABASE_URL",
        may_hold_secret=True,
    )
    supabase_key: str = _setting(
        "",
        _text,
        "text",
        "Supabase's secret key; the public one can't write",
        env="POSTURE_SUPABASE_KEY",
        secret=True,
    )
    shared: bool = _setting(
        False,
        _flag,
        "true or false",
        "says that an SQLite path inside a cluster is on storage that all nodes share",
    )
    timeout_s: float = _seconds(10.0, "how long one write may take before it is tried again", 0.1)
    batch_rows: int = _count(16, "a commit holds at most this many rows", 1)
    batch_s: float = _seconds(0.1, "a row waits at most this long for its commit", 0.0)
    keep_days: float = _setting(0.0, _number(0), "a number of at least 0", "0 keeps rows for ever", unit="days")


RULE_SET_NAMES = ("upright", "tutorial", "first-deployment", "iso11226", "baseline")


@dataclass(frozen=True)
class Analyzer:
    """How a stream is analysed. Each key may also stand under ``streams: <pi_id>:`` for that stream alone."""

    rule_set: str = _setting(
        "upright", _choice(*RULE_SET_NAMES), "one of " + ", ".join(RULE_SET_NAMES), "see docs/operations.md"
    )
    camera_roll_deg: float = _setting(
        0.0,
        _number(-180, 180),
        "-180 to 180",
        "by how much upright things appear turned clockwise in the picture",
        unit="degrees",
    )
    baseline_neck_deg: float = _setting(
        0.0,
        _number(-180, 180),
        "-180 to 180",
        "printed by --calibrate; used by rule set baseline",
        unit="degrees",
    )
    baseline_body_deg: float = _setting(
        0.0,
        _number(-180, 180),
        "-180 to 180",
        "printed by --calibrate; used by rule set baseline",
        unit="degrees",
    )
    pictures: str = _setting(
        "photo",
        _choice("photo", "blurred_face", "skeleton", "none"),
        "photo, blurred_face, skeleton or none",
        "privacy: what of the camera's picture reaches the disk",
    )
    keep: str = _setting(
        "all",
        _choice("all", "changes", "none"),
        "all, changes or none",
        "privacy: which frames leave a picture",
    )
    pictures_dir: str = _file("analyzed_images", "annotated pictures, one folder a stream")
    pictures_max_bytes: int = _count(0, "oldest pictures go beyond this many bytes a stream; 0 keeps all")
    pictures_keep_days: float = _setting(0.0, _number(0), "a number of at least 0", "0 keeps for ever", unit="days")
    picture_max_width: int = _setting(
        960, _number(64, 8192, whole=True), "64 to 8192", "wider pictures are reduced", unit="pixels"
    )
    jpeg_quality: int = _setting(85, _number(30, 100, whole=True), "30 to 100", "of annotated pictures")
    quarantine: bool = _setting(True, _flag, "true or false", "keep the bytes of frames that can't be decoded")
    quarantine_dir: str = _file("quarantine", "where those bytes go, one folder a stream")
    quarantine_max_count: int = _count(100, "oldest go first", 1)
    quarantine_max_bytes: int = _bytes(50_000_000, "oldest go first")
    model: str = _file("models/pose_landmarker_full.task", "another .task file: lite is faster, heavy is finer")
    delegate: str = _setting(
        "auto",
        _choice("auto", "cpu", "gpu"),
        "auto, cpu or gpu",
        "auto tries the GPU and falls back to the CPU",
    )
    landmarks: bool = _setting(
        True, _flag, "true or false", "store the 33 landmarks, so that rules can be scored again"
    )
    buffer_frames: int = _count(32, "frames held in memory that are not yet committed", 2)
    buffer_bytes: int = _bytes(64_000_000, "the same, in bytes")
    max_payload_bytes: int = _bytes(20_000_000, "a larger payload is rejected")
    max_pixels: int = _count(50_000_000, "a larger picture is rejected by its header, before it is decoded", 1)
    expire_after_s: float = _seconds(
        0.0, "a frame that waited longer than this in the analyzer is not analysed; 0: never"
    )
    silent_after_s: float = _seconds(10.0, "a camera without a frame for this long is called silent", 0.1)
    frozen_after: int = _count(5, "this many equal pictures in a row are called a frozen camera", 2)
    bad_for_s: float = _seconds(60.0, "an alert comes after this long in Bad")
    alert_cooldown_s: float = _seconds(300.0, "at most one alert in this time")
    backlog_after_s: float = _seconds(5.0, "a frame that is later than this raises no alert")
    progress_file: str = _setting(
        "", _text, "a path", "touched while the analyzer gets on, for python3 -m posture.health; empty: none"
    )
    stuck_after_s: float = _seconds(60.0, "with frames in hand and none finished for this long, it is stuck", 1.0)


@dataclass(frozen=True)
class Prometheus:
    """Where GPU usage is read. What is read for which node stands in GPU_QUERIES."""

    url: str = _setting(
        "http://127.0.0.1:9090",
        _web_address,
        "http://host:port or https://host:port, with a path where there is one",
        "Prometheus, or what speaks its HTTP API (Thanos, VictoriaMetrics)",
    )
    username: str = _setting("", _text, "text", "empty: no basic authentication")
    password: str = _setting("", _text, "text", "the password for that user", secret=True)
    token: str = _setting("", _text, "text", "a bearer token, instead of user and password", secret=True)
    ca_file: str = _setting("", _text, "a path", "the authority that signed the server's certificate")
    timeout_s: float = _seconds(5.0, "how long one query may take", 0.1)
    scrape_interval_s: float = _seconds(
        5.0, "how often Prometheus reads the exporters: a window's due number of samples follows from it", 0.1
    )
    max_age_s: float = _seconds(0.0, "an older sample is stale; 0: two scrape intervals")
    freshness_metric: str = _setting(
        "",
        _matching(METRIC_NAME, or_empty=True),
        "a metric's name, or empty",
        "a metric of the exporters that changes with each measurement; while it stands still the usage is stale",
    )


@dataclass(frozen=True)
class Kubernetes:
    """The cluster that the analyzers run in."""

    namespace: str = _setting(
        "posture-farm",
        _matching(re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")),
        "a-z, 0-9 and -, up to 63",
        "everything of the farm is in this namespace",
    )
    farm: str = _setting(
        "default",
        _matching(re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")),
        "a-z, 0-9 and -, up to 63",
        "lets two farms share a namespace: only objects with this label are touched",
    )
    context: str = _setting(
        "", _text, "text", "of the kubeconfig; empty: its current one, or the pod's own account"
    )
    master: str = _setting(
        "",
        _matching(NODE_NAME, or_empty=True),
        "a node's name, or empty",
        "this node is tainted, so that no analyzer runs on it",
    )
    timeout_s: float = _seconds(10.0, "how long one request may take", 0.1)
    start_timeout_s: float = _seconds(900.0, "how long a stream may take to run, with the pull of its image", 1)
    stop_timeout_s: float = _seconds(180.0, "how long analyzers may take to finish their frames and end", 1)


@dataclass(frozen=True)
class Balancer:
    """When gpu_balancer.py moves a stream, and how patiently. Rules R1 to R15: docs/balancing.md."""

    policy: str = _setting(
        "guarded",
        _choice("guarded", "readme"),
        "guarded or readme",
        "readme: the four steps to the letter; guarded: with rules R1 to R15",
    )
    threshold: float = _setting(
        50.0, _number(0, 100), "0 to 100", "a node above it is overloaded", unit="percent", env="GPU_THRESHOLD"
    )
    window_s: float = _seconds(30.0, "a node's usage is averaged over this time", 0.1)
    sample_interval_s: float = _seconds(5.0, "how often the usage is sampled; a window takes two at least", 0.1)
    interval_s: float = _seconds(30.0, "the pause between two windows", 0.0)
    hysteresis: float = _setting(
        0.0, _number(0, 100), "0 to 100", "R12: against noise, so far over the threshold", unit="percent"
    )
    dwell: int = _count(1, "R12: against noise, for so many windows in a row", 1)
    cooldown_base_s: float = _seconds(300.0, "R4: a stream that was moved stays so long; doubled each time")
    cooldown_cap_s: float = _seconds(4800.0, "R4: but not longer")
    warm_up_s: float = _seconds(15.0, "R5: a pod that became Ready disturbs its node's usage for so long")
    start_timeout_s: float = _seconds(120.0, "R13: a stream that can't start for so long is moved on")
    pull_timeout_s: float = _seconds(900.0, "R13: the same while its image is being pulled")
    node_grace_s: float = _seconds(60.0, "R14: the streams of a node that is NotReady for so long are moved")
    lease_s: float = _seconds(30.0, "R10: so long after its last word another balancer takes over", 1.0)
    class_label: str = _setting(
        "posture-farm/class",
        _text,
        "a label's name",
        "R8: nodes that have the same value of this label are equally fast",
    )
    metrics_port: int = _setting(
        0, _number(0, 65_535, whole=True), "0 to 65535", "/metrics of the balancer, on this machine only; 0: none"
    )
    last_node_file: str = _file("last_node.txt", "remembers the last destination and when it was chosen")


@dataclass(frozen=True)
class Scaler:
    """What cpu_monitor_and_offload.py answers to KEDA, and how it keeps the balancer running."""

    listen: str = _setting(
        ":50051", _listen, ":port or host:port; an IPv6 address in brackets", "where KEDA asks; no host: everywhere"
    )
    address: str = _setting(
        "",
        lambda value: _host_port(value) if value else _text(value),
        "host:port, or empty",
        "where KEDA finds the scaler; empty: this machine's address as the cluster sees it",
    )
    tls_cert: str = _setting("", _text, "a path", "our certificate, with what signed it; re-read when it changes")
    tls_key: str = _setting("", _text, "a path", "its private key")
    client_ca: str = _setting("", _text, "a path", "only clients with a certificate of this authority are answered")
    insecure: bool = _setting(
        False, _flag, "true or false", "plaintext beyond this machine; in a cluster it needs no asking"
    )
    refresh_s: float = _seconds(5.0, "how often the usage is read; calls are answered from memory", 0.1)
    stabilize_s: float = _seconds(120.0, "Active holds for so long after the last time a node had room", 1)
    max_rpc_s: float = _seconds(3600.0, "a stream of answers ends after this, and KEDA opens a new one; 0: never")
    max_tracked: int = _count(2000, "of so many ScaledJobs the metrics show when KEDA last asked for them")
    metrics_port: int = _setting(
        9464, _number(0, 65_535, whole=True), "0 to 65535", "/metrics, /healthz and /readyz; 0: none"
    )
    balancer_script: str = _file("gpu_balancer.py", "the program that moves jobs; one of it is kept running")
    backoff_max_s: float = _seconds(60.0, "the longest pause before a balancer that ended is started again", 0.01)


@dataclass(frozen=True)
class Images:
    """The container images that build_and_push.py makes."""

    registry: str = _setting(
        "",
        _matching(REGISTRY, or_empty=True),
        "host[:port][/path], or a Docker Hub account; no scheme",
        "where images are pushed to and pulled from; must be given",
    )
    tag: str = _setting(
        "latest",
        _matching(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")),
        "letters, digits, _, . and -, up to 128",
        "names a build for people; the cluster gets the digest of what was pushed",
    )
    platforms: str = _setting(
        "linux/amd64,linux/arm64",
        _matching(re.compile(r"linux/[a-z0-9]+(/v[0-9]+)?(,linux/[a-z0-9]+(/v[0-9]+)?)*")),
        "linux/amd64, linux/arm64, ... joined by commas",
        "the kinds of nodes in the cluster",
    )
    builder: str = _setting("", _text, "text", "buildx's builder; empty: its current one")
    build_timeout_s: float = _seconds(7200.0, "how long one image may take: emulated platforms are slow", 1)
    timeout_s: float = _seconds(30.0, "how long docker or the registry may take to answer", 0.1)

    def platform_list(self) -> list[str]:
        """Return the platforms one by one."""
        return self.platforms.split(",")


@dataclass(frozen=True)
class GpuQuery:
    """Where one node's GPU usage is read: a sample of ``metric{instance="..."}`` in percent."""

    instance: str
    metric: str


@dataclass(frozen=True)
class Settings:
    """All settings of one run, and where they came from."""

    mqtt: Mqtt = Mqtt()
    database: Database = Database()
    analyzer: Analyzer = Analyzer()
    prometheus: Prometheus = Prometheus()
    kubernetes: Kubernetes = Kubernetes()
    images: Images = Images()
    balancer: Balancer = Balancer()
    scaler: Scaler = Scaler()
    streams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gpu_queries: Mapping[str, GpuQuery] = field(default_factory=dict)

    def for_stream(self, pi_id: str) -> Analyzer:
        """Return the analyzer's settings with what ``streams: <pi_id>:`` overrides."""
        return replace(self.analyzer, **self.streams.get(pi_id, {}))

    def pod_environment(self, pi_id: str) -> dict[str, str]:
        """Return the variables that give these settings to a stream's analyzer in a pod; defaults need none.

        Secrets, addresses and paths are not among them: in a pod they are others, and its ScaledJob has them.
        """
        found: dict[str, str] = {}
        for section, values in (
            ("mqtt", self.mqtt),
            ("database", self.database),
            ("analyzer", self.for_stream(pi_id)),
        ):
            for entry in fields(values):
                value, about = getattr(values, entry.name), entry.metadata
                elsewhere = about["may_hold_secret"] or about["accepted"] == "a path" or entry.name == "url"
                if value != entry.default and not elsewhere:
                    text = str(value).lower() if isinstance(value, bool) else str(value)
                    found[environment_name(section, entry.name)] = text
        return found


SECTIONS: dict[str, type[Any]] = {
    "mqtt": Mqtt,
    "database": Database,
    "analyzer": Analyzer,
    "prometheus": Prometheus,
    "kubernetes": Kubernetes,
    "images": Images,
    "balancer": Balancer,
    "scaler": Scaler,
}


def environment_name(section: str, name: str) -> str:
    """Return the environment variable of a setting."""
    for entry in fields(SECTIONS[section]):
        if entry.name == name and entry.metadata["env"]:
            return str(entry.metadata["env"])
    return f"POSTURE_{section}_{name}".upper()


def all_settings() -> Iterator[tuple[str, str, Any]]:
    """Yield (section, field name, dataclass field) of every setting, in the order of the table."""
    for section, cls in SECTIONS.items():
        for entry in fields(cls):
            yield section, entry.name, entry


def flag_type(section: str, name: str) -> Callable[[str], Any]:
    """Return argparse's ``type`` of a flag that overrides a setting: it is parsed as the setting is."""
    (entry,) = (entry for part, known, entry in all_settings() if (part, known) == (section, name))

    def parse(text: str) -> Any:
        try:
            return entry.metadata["parse"](text)
        except _NotAcceptedError:
            accepted = entry.metadata["accepted"]
            raise argparse.ArgumentTypeError(f"{text!r} is not accepted; accepted: {accepted}") from None

    return parse


def path_of(text: str) -> Path:
    """Return a path from a setting; a relative one is relative to the scripts' folder."""
    path = Path(text).expanduser()
    return path if path.is_absolute() else ROOT / path


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read cluster.yaml and the environment.

    Args:
        path: the file; None means cluster.yaml beside the scripts, which may be absent.
        environ: environment variables; None reads none.

    Raises:
        UserError: every mistake found, one a line, each with file, line, key, value and what is accepted.
    """
    mistakes: list[str] = []
    given = _read_file(path, mistakes)
    environ = environ or {}
    _check_environment_names(environ, mistakes)
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    streams: dict[str, dict[str, Any]] = {}
    queries = [leaf for leaf in given if leaf[1][:1] == ("GPU_QUERIES",)]
    for where, key, value in given:
        if key[:1] != ("GPU_QUERIES",):
            _take_from_file(where, key, value, values, streams, mistakes)
    for section, name, entry in all_settings():
        _take_from_environment(section, name, entry, environ, values, mistakes)
    if GPU_QUERIES_VARIABLE in environ:
        variable = f"environment: {GPU_QUERIES_VARIABLE}"
        queries = _read_yaml(environ[GPU_QUERIES_VARIABLE], variable, ("GPU_QUERIES",), mistakes)
    gpu_queries = _parse_gpu_queries(queries, mistakes)
    _check_together(values, mistakes)
    if mistakes:
        raise UserError("\n".join(mistakes))
    sections = {section: cls(**values[section]) for section, cls in SECTIONS.items()}
    return Settings(**sections, streams=streams, gpu_queries=gpu_queries)


class GpuQueries(Mapping[str, Mapping[str, str]]):
    """GPU_QUERIES as cluster.yaml beside the scripts and the environment have it: node -> instance and metric.

    It is read when it is first looked into, so that importing a script reads nothing and fails on nothing.
    """

    @cached_property
    def _entries(self) -> dict[str, dict[str, str]]:
        return {node: asdict(query) for node, query in load(None, os.environ).gpu_queries.items()}

    def __getitem__(self, node: str) -> Mapping[str, str]:
        return self._entries[node]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


GPU_QUERIES = GpuQueries()


Leaf = tuple[str, tuple[str, ...], Any]
"""Where it stands (file:line), its path of keys, its value."""


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
    return _read_yaml(text, str(path), (), mistakes)


def _read_yaml(text: str, source: str, key: tuple[str, ...], mistakes: list[str]) -> list[Leaf]:
    """Return the leaves of a text, their keys under ``key``; ``source`` is what messages call it."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mistakes.append(f"{source}: is not YAML: {' '.join(str(error).split())}")
        return []
    if root is None or not (key or root.value):
        return []
    leaves: list[Leaf] = []
    _collect(root, key, source, leaves, mistakes)
    return leaves


def _collect(node: yaml.Node, key: tuple[str, ...], source: str, leaves: list[Leaf], mistakes: list[str]) -> None:
    where = f"{source}:{node.start_mark.line + 1}"
    if not isinstance(node, yaml.MappingNode) or not node.value:
        try:
            leaves.append((where, key, yaml.SafeLoader("").construct_object(node, deep=True)))
        except (yaml.YAMLError, ValueError) as error:  # an unknown tag; a day that no month has
            mistakes.append(f"{where}: {'.'.join(key)}: is no value: {' '.join(str(error).split())}")
        return
    seen: set[str] = set()
    for name_node, value_node in node.value:
        name = str(name_node.value)
        if name in seen:
            line = name_node.start_mark.line + 1
            mistakes.append(f"{source}:{line}: {'.'.join((*key, name))} stands there twice")
        seen.add(name)
        _collect(value_node, (*key, name), source, leaves, mistakes)


def _take_from_file(
    where: str,
    key: tuple[str, ...],
    value: Any,
    values: dict[str, dict[str, Any]],
    streams: dict[str, dict[str, Any]],
    mistakes: list[str],
) -> None:
    dotted = ".".join(key)
    section = key[0] if key else ""
    if section == "streams" and len(key) in (2, 3):
        pi_id = key[1]
        if not PI_ID.fullmatch(pi_id):
            mistakes.append(f"{where}: streams: {pi_id!r} is no stream's name; accepted: a-z, 0-9 and -, up to 32")
            return
        target = streams.setdefault(pi_id, {})
        if len(key) == 2:
            if value:
                mistakes.append(f"{where}: {dotted}: {value!r} is not accepted; accepted: keys of analyzer")
            return
        owner, name = "analyzer", key[2]
    elif section in SECTIONS and len(key) == 2:
        target, owner, name = values[section], section, key[1]
    elif section in (*SECTIONS, "streams") and len(key) == 1:
        if value:
            mistakes.append(f"{where}: {dotted}: {value!r} is not accepted; accepted: keys of {dotted}")
        return
    else:
        names = [*SECTIONS, "streams", "GPU_QUERIES"]
        names += [f"{part}.{entry}" for part, entry, _ in all_settings()]
        mistakes.append(f"{where}: {dotted or 'the file'}: unknown key{_did_you_mean(dotted, names)}")
        return
    known = {entry.name: entry for entry in fields(SECTIONS[owner])}
    if name not in known:
        mistakes.append(f"{where}: {dotted}: unknown key{_did_you_mean(name, list(known))}")
        return
    entry = known[name]
    if entry.metadata["secret"] or (dotted == "database.url" and _has_password(str(value))):
        variable = environment_name(owner, name)
        mistakes.append(
            f"{where}: {dotted}: secrets don't belong into this file; set {variable} or {variable}_FILE"
        )
        return
    _parse_into(target, name, entry, value, f"{where}: {dotted}", mistakes)


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
    if by_file and entry.metadata["may_hold_secret"]:
        try:
            value = Path(by_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(f"environment: {variable}_FILE: {by_file} can't be read: {error}")
            return
        _parse_into(values[section], name, entry, value, f"environment: {variable}_FILE", mistakes)
    elif variable in environ:
        _parse_into(values[section], name, entry, environ[variable], f"environment: {variable}", mistakes)


GPU_QUERY_KEYS: Mapping[str, tuple[Parser, str]] = {
    "instance": (_host_port, "host:port, as Prometheus' label instance has it"),
    "metric": (_matching(METRIC_NAME), "a metric's name: letters, digits, _ and :, no digit first"),
}


def _parse_gpu_queries(leaves: list[Leaf], mistakes: list[str]) -> dict[str, GpuQuery]:
    """Return the map; instances are unique, each entry has its two keys and no other."""
    shape = "accepted: node: {instance: host:port, metric: name}"
    entries: dict[str, dict[str, str]] = {}
    places: dict[str, str] = {}
    for where, key, value in leaves:
        dotted = ".".join(key)
        if len(key) == 1 and not value:
            continue
        if len(key) == 1 or len(key) > 3:
            mistakes.append(f"{where}: {dotted}: {value!r} is not accepted; {shape}")
            continue
        node = key[1]
        if node not in entries and not NODE_NAME.fullmatch(node):
            mistakes.append(
                f"{where}: GPU_QUERIES: {node!r} is no node's name; accepted: a-z, 0-9, - and ., up to 63"
            )
        if len(key) == 2 and value:
            mistakes.append(f"{where}: {dotted}: {value!r} is not accepted; {shape}")
            continue
        entries.setdefault(node, {})
        places.setdefault(node, where)
        if len(key) == 2:
            continue
        if key[2] not in GPU_QUERY_KEYS:
            mistakes.append(f"{where}: {dotted}: unknown key{_did_you_mean(key[2], list(GPU_QUERY_KEYS))}")
        else:
            _parse_gpu_query(entries[node], key[2], value, f"{where}: {dotted}", mistakes)
    return _whole_gpu_queries(entries, places, mistakes)


def _parse_gpu_query(entry: dict[str, str], name: str, value: Any, where: str, mistakes: list[str]) -> None:
    parse, accepted = GPU_QUERY_KEYS[name]
    entry[name] = ""  # given, if not as it must be
    try:
        entry[name] = parse(value)
    except _NotAcceptedError:
        mistakes.append(f"{where}: {value!r} is not accepted; accepted: {accepted}")


def _whole_gpu_queries(
    entries: dict[str, dict[str, str]], places: dict[str, str], mistakes: list[str]
) -> dict[str, GpuQuery]:
    queries: dict[str, GpuQuery] = {}
    owners: dict[str, str] = {}
    for node, entry in entries.items():
        missing = [name for name in GPU_QUERY_KEYS if name not in entry]
        if missing:
            mistakes.append(f"{places[node]}: GPU_QUERIES.{node}: {' and '.join(missing)} must be given")
            continue
        instance = entry["instance"]
        if instance and instance in owners:
            mistakes.append(
                f"{places[node]}: GPU_QUERIES.{node}.instance: {instance!r} is {owners[instance]}'s already; "
                "accepted: one instance for each node"
            )
        owners.setdefault(instance, node)
        queries[node] = GpuQuery(**entry)
    return queries


def _check_together(values: dict[str, dict[str, Any]], mistakes: list[str]) -> None:
    """Report settings that exclude each other."""
    prometheus = values["prometheus"]
    if prometheus.get("username") and prometheus.get("token"):
        mistakes.append("prometheus.username and prometheus.token are both set; accepted: one of them")
    if prometheus.get("password") and not prometheus.get("username"):
        mistakes.append("prometheus.password is set without prometheus.username; accepted: both or neither")
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
    except ValueError:  # no address at all: it may hold one
        return "@" in url
    return parts.password is not None or "password" in parse_qs(parts.query)


def _parse_into(target: dict[str, Any], name: str, entry: Any, value: Any, where: str, mistakes: list[str]) -> None:
    try:
        target[name] = entry.metadata["parse"](value)
    except _NotAcceptedError:
        hidden = entry.metadata["may_hold_secret"] or name == "url"  # a URL may carry a password
        shown = "the value" if hidden else repr(value)
        mistakes.append(f"{where}: {shown} is not accepted; accepted: {entry.metadata['accepted']}")


def _check_environment_names(environ: Mapping[str, str], mistakes: list[str]) -> None:
    known = {environment_name(section, name) for section, name, _ in all_settings()}
    files = {
        environment_name(section, name) + "_FILE"
        for section, name, entry in all_settings()
        if entry.metadata["may_hold_secret"]
    }
    prefixes = tuple(f"POSTURE_{section}_".upper() for section in SECTIONS)
    mistakes.extend(
        f"environment: {variable}: unknown setting{_did_you_mean(variable, sorted(known))}"
        for variable in sorted(environ)
        if variable.startswith(prefixes) and variable not in known | files
    )


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known[:12])}"
