"""The table of all settings: key, default, unit, what is accepted, and why one would change it.

The key is section and field name; the environment variable is ``POSTURE_<SECTION>_<FIELD>`` unless named otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from posture.settings import parsers
from posture.settings.limits import Limits, limits
from posture.settings.picture_store import pictures_url
from posture.settings.signals import Signal


def _setting(
    default: Any,
    parse: parsers.Parser,
    accepted: str,
    why: str,
    *,
    unit: str = "",
    env: str = "",
    secret: bool = False,
    may_hold_secret: bool = False,
    by_file: bool = False,
    shown: bool = True,
    travels: bool = True,
) -> Any:
    """Describe one setting.

    Args:
        default: its value where nothing is given.
        parse: turns what YAML, the environment or a flag holds into the value.
        accepted: what ``parse`` accepts, in words.
        why: what the setting is for.
        unit: of the value, for the documentation.
        env: the environment variable, if it is not named after section and field.
        secret: the value is a secret: it is taken from the environment only and never printed.
        may_hold_secret: the value can contain a secret; it may be read from a file, like a secret.
        by_file: the value may be read from a file though it is no secret; what may hold one always may.
        shown: whether error messages may repeat a value that is not accepted.
        travels: whether a pod gets the same value as this machine. Secrets never travel.
    """
    holds_secret = secret or may_hold_secret
    metadata = {
        "parse": parse,
        "accepted": accepted,
        "why": why,
        "unit": unit,
        "env": env,
        "secret": secret,
        "may_hold_secret": holds_secret,
        "by_file": by_file or holds_secret,
        "shown": shown and not holds_secret,
        "travels": travels and not holds_secret,
    }
    return field(default=default, metadata=metadata, repr=not holds_secret)


def _bytes(default: int, why: str, low: int = 1024) -> Any:
    return _setting(
        default, parsers.number(low, whole=True), f"a whole number of at least {low}", why, unit="bytes"
    )


def _seconds(default: float, why: str, low: float = 0.0) -> Any:
    return _setting(default, parsers.number(low), f"a number of at least {low:g}", why, unit="s")


def _count(default: int, why: str, low: int = 0) -> Any:
    return _setting(default, parsers.number(low, whole=True), f"a whole number of at least {low}", why)


def _file(default: str, why: str) -> Any:
    """Describe the path of a file or folder. A pod has its own paths, so it does not travel."""
    return _setting(default, parsers.path, "a path", why, travels=False)


def _optional_file(why: str) -> Any:
    """Describe a path that may be empty."""
    return _setting("", parsers.text, "a path", why, travels=False)


def _address(
    default: str, parse: parsers.Parser, accepted: str, why: str, *, env: str = "", may_hold_secret: bool = False
) -> Any:
    """Describe the address of a server. A pod reaches it by another one; a URL can contain a password."""
    return _setting(
        default, parse, accepted, why, env=env, may_hold_secret=may_hold_secret, shown=False, travels=False
    )


@dataclass(frozen=True)
class Mqtt:
    """The broker between cameras and analyzers."""

    url: str = _address(
        "mqtt://127.0.0.1:1883",
        parsers.broker,
        "mqtt://host:port or mqtts://host:port (TLS)",
        "where the broker listens",
    )
    username: str = _setting("", parsers.text, "text", "empty: the broker accepts anonymous clients", by_file=True)
    password: str = _setting("", parsers.text, "text", "the broker's password for that user", secret=True)
    ca_file: str = _optional_file("the authority that signed the broker's certificate")
    cert_file: str = _optional_file("our client certificate, where the broker asks for one")
    key_file: str = _optional_file("its private key")
    prefix: str = _setting(
        "", parsers.prefix, "letters, digits, - and _, parts joined by /", "lets two farms share a broker"
    )
    protocol: str = _setting(
        "auto", parsers.choice("auto", "5", "3.1.1"), "auto, 5 or 3.1.1", "auto falls back from MQTT 5 to 3.1.1"
    )
    keepalive_s: int = _setting(
        30,
        parsers.number(5, 3600, whole=True),
        "5 to 3600",
        "MQTT keepalive: how soon a lost connection is noticed",
        unit="s",
    )
    session_expiry_s: int = _setting(
        604_800,
        parsers.number(60, 4_294_967_295, whole=True),
        "60 to 4294967295",
        "how long the broker keeps frames for an analyzer that is away (MQTT 5)",
        unit="s",
    )


@dataclass(frozen=True)
class Camera:
    """How publish_images.py gets at an IP camera, whose address is its flag --source."""

    username: str = _setting("", parsers.text, "text", "empty: the camera asks for none", travels=False)
    password: str = _setting("", parsers.text, "text", "the camera's password for that user", secret=True)
    ca_file: str = _optional_file("the authority that signed the camera's certificate, for https")


@dataclass(frozen=True)
class Database:
    """Where rows go."""

    url: str = _address(
        "sqlite:///posture.db",
        parsers.url("sqlite:///", "postgresql://", "postgres://", "https://", "http://"),
        "sqlite:///path, postgresql://user@host/database, or https://project (Supabase)",
        "a relative SQLite path starts at the scripts' folder; a password belongs into the environment",
        env="POSTURE_DATABASE_URL",
        may_hold_secret=True,
    )
    supabase_key: str = _setting(
        "",
        parsers.text,
        "text",
        "Supabase's secret key; the public one can't write",
        env="POSTURE_SUPABASE_KEY",
        secret=True,
    )
    shared: bool = _setting(
        False,
        parsers.boolean,
        "true or false",
        "says that an SQLite path inside a cluster is on storage that all nodes share",
    )
    timeout_s: float = _seconds(10.0, "how long one write may take before it is tried again", 0.1)
    batch_rows: int = _count(16, "a commit holds at most this many rows", 1)
    batch_s: float = _seconds(
        0.1, "a row waits at most this long for others that are being analyzed, to be committed with them", 0.0
    )
    keep_days: float = _setting(
        0.0, parsers.number(0), "a number of at least 0", "0 keeps rows for ever", unit="days"
    )


AUTO_MAX_BYTES = 2_000_000_000
"""A minute's picture of 100 kB takes two weeks to get there."""
RULE_SET_NAMES = ("auto", "upright", "tutorial", "first-deployment", "iso11226", "baseline", "head-height")


@dataclass(frozen=True)
class Analyzer:
    """How a stream is analysed. Each key may also stand under ``streams: <pi_id>:`` for that stream alone."""

    rule_set: str = _setting(
        "auto", parsers.choice(*RULE_SET_NAMES), "one of " + ", ".join(RULE_SET_NAMES), "see docs/rule-sets.md"
    )
    limits: Limits = _setting(  # noqa: RUF009 - a field, as all others
        Limits(),
        limits,
        "a map: neck, body, baseline from 1 to 90 (degrees), head_height, sitting_height from 0.01 to 0.5",
        "limits in place of the rule set's own; see docs/rule-sets.md",
    )
    bad_after_s: float = _setting(
        3.0, parsers.number(0, 3600), "0 to 3600", "so long over a limit, and the state is Bad", unit="s"
    )
    good_after_s: float = _setting(
        2.0, parsers.number(0, 3600), "0 to 3600", "so long under all limits, and the state is Good", unit="s"
    )
    camera_roll_deg: float = _setting(
        0.0,
        parsers.number(-180, 180),
        "-180 to 180",
        "by how much upright things appear turned clockwise in the picture",
        unit="degrees",
    )
    baseline_neck_deg: float = _setting(
        0.0,
        parsers.number(-180, 180),
        "-180 to 180",
        "printed by --calibrate; used by rule set baseline",
        unit="degrees",
    )
    baseline_body_deg: float = _setting(
        0.0,
        parsers.number(-180, 180),
        "-180 to 180",
        "printed by --calibrate; used by rule set baseline",
        unit="degrees",
    )
    baseline_head_height: float = _setting(
        0.0,
        parsers.number(0, 5),
        "0 to 5",
        "printed by --calibrate; used by head-height and auto; 0: none",
        unit="shoulder widths",
    )
    baseline_shoulder_x: float = _setting(
        0.0,
        parsers.number(0, 1),
        "0 to 1",
        "printed by --calibrate; by it a moved camera is noticed",
        unit="picture widths",
    )
    baseline_shoulder_y: float = _setting(
        0.0, parsers.number(0, 1), "0 to 1", "printed by --calibrate; likewise", unit="picture heights"
    )
    baseline_shoulder_width: float = _setting(
        0.0,
        parsers.number(0, 2),
        "0 to 2",
        "printed by --calibrate; likewise; 0: a moved camera isn't noticed",
        unit="picture widths",
    )
    baseline_sitting_height: float = _setting(
        0.0, parsers.number(0, 20), "0 to 20", "printed by --calibrate; 0: none", unit="thighs"
    )
    sitting_height: bool = _setting(
        False,
        parsers.boolean,
        "true or false",
        "experimental: baseline also judges how high a person sits, to see slumping; measured on two people",
    )
    pictures: str = _setting(
        "photo",
        parsers.choice("photo", "blurred_face", "skeleton", "none"),
        "photo, blurred_face, skeleton or none",
        "privacy: what of the camera's picture reaches the disk; photo stores faces as they are",
    )
    keep: str = _setting(
        "changes",
        parsers.choice("all", "changes", "none"),
        "all, changes or none",
        "which frames leave a picture; changes: of the state, alerts, and one a minute",
    )
    preview: bool = _setting(
        True,
        parsers.boolean,
        "true or false",
        "small pictures for the page over MQTT, one a second, by pictures; nothing of them is stored",
    )
    pictures_dir: str = _file("analyzed_images", "annotated pictures, one folder a stream")
    pictures_url: str = _setting(
        "",
        pictures_url,
        "s3+http://host:port/bucket or s3+https://..., with /prefix and ?region=... where needed; or empty",
        "pictures go to this bucket of an S3 server, from whichever node, instead of to pictures_dir",
        env="POSTURE_PICTURES_URL",
    )
    pictures_key_id: str = _setting(
        "", parsers.text, "text", "of the bucket's key", env="POSTURE_PICTURES_KEY_ID", secret=True
    )
    pictures_secret_key: str = _setting(
        "", parsers.text, "text", "of the bucket's key", env="POSTURE_PICTURES_SECRET_KEY", secret=True
    )
    pictures_ca_file: str = _optional_file("the authority that signed that server's certificate")
    pictures_max_bytes: int | str = _setting(
        "auto",
        parsers.number_or("auto", 0),
        "auto, or a whole number of at least 0",
        "of each stream's pictures; beyond it the oldest are deleted; 0 keeps all; auto: 2 GB with keep: changes, "
        "else all, and what was there before stays",
        unit="bytes",
    )
    pictures_keep_days: float = _setting(
        0.0, parsers.number(0), "a number of at least 0", "0 keeps for ever", unit="days"
    )
    picture_max_width: int = _setting(
        960, parsers.number(64, 8192, whole=True), "64 to 8192", "wider pictures are reduced", unit="pixels"
    )
    jpeg_quality: int = _setting(85, parsers.number(30, 100, whole=True), "30 to 100", "of annotated pictures")
    quarantine: bool = _setting(
        True,
        parsers.boolean,
        "true or false",
        "keep the bytes of frames that can't be decoded, if pictures is photo",
    )
    quarantine_dir: str = _file("quarantine", "where those bytes go, one folder a stream")
    quarantine_max_count: int = _count(100, "oldest go first", 1)
    quarantine_max_bytes: int = _bytes(50_000_000, "oldest go first")
    model: str = _file("models/pose_landmarker_full.task", "another .task file: lite is faster, heavy is finer")
    delegate: str = _setting(
        "auto",
        parsers.choice("auto", "cpu", "gpu"),
        "auto, cpu or gpu",
        "auto tries the GPU and falls back to the CPU; with gpu that is said as a fault, too",
    )
    reuse_still: bool = _setting(
        False,
        parsers.boolean,
        "true or false",
        "while nothing moves, the landmarks of the frame measured last count again, for up to 2 s: docs/still.md",
    )
    landmarks: bool = _setting(
        True, parsers.boolean, "true or false", "store the 33 landmarks, so that rules can be scored again"
    )
    buffer_frames: int = _count(32, "frames held in memory that are not yet committed", 2)
    buffer_bytes: int = _bytes(64_000_000, "bytes held in memory that are not yet committed")
    max_payload_bytes: int = _bytes(20_000_000, "a larger payload is rejected")
    max_pixels: int = _count(50_000_000, "a larger picture is rejected by its header, before it is decoded", 1)
    image_key: str = _setting(
        "", parsers.text, "text", "key of the picture in frames that are JSON, where it is neither image nor data"
    )
    expire_after_s: float = _seconds(
        0.0, "a frame that waited longer than this in the analyzer is not analysed; 0: never"
    )
    silent_after_s: float = _seconds(10.0, "a camera without a frame for this long is called silent", 0.1)
    frozen_after: int = _count(5, "this many equal pictures in a row are called a frozen camera", 2)
    bad_for_s: float = _seconds(60.0, "an alert comes after this long in Bad")
    alert_cooldown_s: float = _seconds(300.0, "at most one alert in this time")
    backlog_after_s: float = _seconds(5.0, "a frame that is later than this raises no alert")
    progress_file: str = _optional_file(
        "touched while the analyzer makes progress, for python3 -m posture.health; empty: none"
    )
    stuck_after_s: float = _seconds(
        60.0, "an analyzer that has frames and finishes none for this long is stuck", 1.0
    )

    @property
    def pictures_bound(self) -> int | None:
        """The bytes that a stream's pictures may take; None: any number."""
        if self.pictures_max_bytes == "auto":
            return AUTO_MAX_BYTES if self.keep == "changes" else None
        return int(self.pictures_max_bytes) or None


@dataclass(frozen=True)
class Prometheus:
    """Where GPU usage is read. What is read for which node stands in GPU_QUERIES."""

    url: str = _address(
        "http://127.0.0.1:9090",
        parsers.prometheus_address,
        "http://host:port or https://host:port, with a path where there is one, or "
        "kubernetes://namespace/service:port",
        "Prometheus, or what speaks its HTTP API (Thanos, VictoriaMetrics); kubernetes: a Service of the cluster, "
        "which pods ask directly, and other machines through the API server",
    )
    username: str = _setting("", parsers.text, "text", "empty: no basic authentication")
    password: str = _setting("", parsers.text, "text", "the password for that user", secret=True)
    token: str = _setting("", parsers.text, "text", "a bearer token, instead of user and password", secret=True)
    ca_file: str = _optional_file("the authority that signed the server's certificate")
    timeout_s: float = _seconds(5.0, "how long one query may take", 0.1)
    scrape_interval_s: float = _seconds(
        5.0, "how often Prometheus reads the exporters: a window's due number of samples follows from it", 0.1
    )
    max_age_s: float = _seconds(0.0, "an older sample is stale; 0: two scrape intervals")
    freshness_metric: str = _setting(
        "",
        parsers.matching(parsers.METRIC_NAME, or_empty=True),
        "a metric's name, or empty",
        "a metric of the exporters that changes with each measurement; while it stands still the usage is stale",
    )


@dataclass(frozen=True)
class Kubernetes:
    """The cluster that the analyzers run in."""

    namespace: str = _setting(
        "posture-farm",
        parsers.matching(re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")),
        "a-z, 0-9 and -, up to 63",
        "everything of the farm is in this namespace",
    )
    farm: str = _setting(
        "default",
        parsers.matching(re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")),
        "a-z, 0-9 and -, up to 63",
        "lets two farms share a namespace: only objects with this label are touched",
    )
    context: str = _setting(
        "", parsers.text, "text", "of the kubeconfig; empty: its current one, or the pod's own account"
    )
    master: str = _setting(
        "",
        parsers.matching(parsers.NODE_NAME, or_empty=True),
        "a node's name, or empty",
        "this node is tainted, so that no analyzer runs on it",
    )
    gpu: str = _setting(
        "none",
        parsers.choice("none", "nvidia"),
        "none or nvidia",
        "nvidia gives analyzers' pods the GPU; each node then needs NVIDIA's container runtime (docs/boards.md)",
    )
    pictures_host_path: str = _setting(
        "",
        parsers.host_folder,
        "an absolute path below /, or empty",
        "each node keeps the pictures that it made in this folder; needs a privileged namespace (docs/pictures.md)",
    )
    requests_cpu: str = _setting(
        "200m",
        parsers.cores,
        "cores, such as 0.2, or thousandths, such as 200m",
        "what an analyzer's pod reserves of its node; another value in a posture-job file wins (docs/sizing.md)",
    )
    requests_memory: str = _setting(
        "320Mi",
        parsers.memory,
        "such as 320Mi or 1Gi",
        "likewise; requests that are too high leave nodes idle, and what an analyzer may use at most is its limit",
    )
    timeout_s: float = _seconds(10.0, "how long one request may take", 0.1)
    start_timeout_s: float = _seconds(900.0, "how long a stream may take to run, with the pull of its image", 1)
    stop_timeout_s: float = _seconds(180.0, "how long analyzers may take to finish their frames and end", 1)
    max_unavailable: str = _setting(
        "10%",
        parsers.count_or_percent,
        "a whole number of at least 1, or 1% to 100%",
        "so many streams may be away at once in an upgrade; a share is rounded down, but to 1 at least",
    )

    def most_away(self, streams: int) -> int:
        """Return how many of so many streams may be away at once."""
        number, percent = self.max_unavailable.rstrip("%"), self.max_unavailable.endswith("%")
        return max(1, int(number) * streams // 100) if percent else int(number)


@dataclass(frozen=True)
class Balancer:
    """When gpu_balancer.py moves a stream, and how patiently. Rules R1 to R15: docs/balancing.md."""

    policy: str = _setting(
        "guarded",
        parsers.choice("guarded", "readme"),
        "guarded or readme",
        "readme: the four steps to the letter; guarded: with rules R1 to R15",
    )
    threshold: float = _setting(
        50.0,
        parsers.number(0, 100),
        "0 to 100",
        "a node above it is overloaded",
        unit="percent",
        env="GPU_THRESHOLD",
    )
    window_s: float = _seconds(30.0, "a node's usage is averaged over this time", 0.1)
    sample_interval_s: float = _seconds(5.0, "how often the usage is sampled; a window takes two at least", 0.1)
    interval_s: float = _seconds(30.0, "the pause between two windows", 0.0)
    hysteresis: float = _setting(
        0.0, parsers.number(0, 100), "0 to 100", "R12: against noise, so far over the threshold", unit="percent"
    )
    dwell: int = _count(1, "R12: against noise, for so many windows in a row", 1)
    cooldown_base_s: float = _seconds(300.0, "R4: a stream that was moved stays so long; doubled each time")
    cooldown_cap_s: float = _seconds(4800.0, "R4: but not longer")
    warm_up_s: float = _seconds(
        15.0, "R5: a new pod disturbs its node for so long, and twice as long as its stream was away"
    )
    start_timeout_s: float = _seconds(120.0, "R13: a stream that can't start for so long is moved on")
    pull_timeout_s: float = _seconds(900.0, "R13: the same while its image is being pulled")
    node_grace_s: float = _seconds(60.0, "R14: the streams of a node that is NotReady for so long are moved")
    lease_s: float = _seconds(
        30.0, "R10: another balancer takes over this long after the last renewal of the Lease", 1.0
    )
    class_label: str = _setting(
        "posture-farm/class",
        parsers.text,
        "a label's name",
        "R8: nodes that have the same value of this label are equally fast",
    )
    metrics_port: int = _setting(
        0,
        parsers.number(0, 65_535, whole=True),
        "0 to 65535",
        "/metrics of the balancer; 0: none",
    )
    metrics_host: str = _setting(
        "127.0.0.1", parsers.text, "an address of this machine; empty: all of them", "where metrics_port listens"
    )
    last_node_file: str = _file("last_node.txt", "remembers the last destination and when it was chosen")


@dataclass(frozen=True)
class Scaler:
    """What cpu_monitor_and_offload.py answers to KEDA, and how it keeps the balancer running.

    Readings are judged by ``balancer.threshold``.
    """

    listen: str = _setting(
        ":50051",
        parsers.listen,
        ":port or host:port; an IPv6 address in brackets",
        "where KEDA asks; no host: everywhere",
    )
    address: str = _setting(
        "",
        lambda value: parsers.host_port(value) if value else parsers.text(value),
        "host:port, or empty",
        "where KEDA finds the scaler; empty: this machine's address as the cluster sees it",
    )
    tls_cert: str = _optional_file("our certificate, with what signed it; re-read when it changes")
    tls_key: str = _optional_file("its private key")
    client_ca: str = _optional_file("only clients with a certificate of this authority are answered")
    client_name: str = _setting(
        "keda-operator",
        parsers.text,
        "a name in the client's certificate, or empty",
        "with client_ca: who else has a certificate of that authority is refused; empty: everybody who has one",
    )
    insecure: bool = _setting(
        False, parsers.boolean, "true or false", "plaintext beyond this machine; in a cluster it needs no asking"
    )
    reflection: bool = _setting(
        False, parsers.boolean, "true or false", "let clients such as grpcurl ask which calls there are"
    )
    refresh_s: float = _seconds(5.0, "how often the usage is read; calls are answered from memory", 0.1)
    stabilize_s: float = _seconds(120.0, "Active holds for so long after the last time a node had room", 1)
    max_rpc_s: float = _seconds(3600.0, "a stream of answers ends after this, and KEDA opens a new one; 0: never")
    max_tracked: int = _count(2000, "for at most so many ScaledJobs the metrics show when KEDA last asked for them")
    metrics_port: int = _setting(
        9464, parsers.number(0, 65_535, whole=True), "0 to 65535", "/metrics, /healthz and /readyz; 0: none"
    )
    balancer_script: str = _file("gpu_balancer.py", "the program that moves jobs; one of it is kept running")
    backoff_max_s: float = _seconds(60.0, "the longest pause before a balancer that ended is started again", 0.01)


@dataclass(frozen=True)
class Dashboard:
    """The page on which the farm is looked at."""

    listen: str = _setting(
        "127.0.0.1:8470",
        parsers.listen,
        ":port or host:port; an IPv6 address in brackets",
        "where dashboard.py serves the page; beyond this machine it needs users_file or proxy_header",
    )
    users_file: str = _optional_file("who may log in, with which role; made by dashboard.py --add-user")
    session_h: float = _setting(
        12.0, parsers.number(0.01, 8760), "0.01 to 8760", "who has logged in does so again after it", unit="h"
    )
    https: bool = _setting(
        False,
        parsers.boolean,
        "true or false",
        "the page is reached over https alone, by a proxy that ends it: cookies go no other way",
    )
    proxy_header: str = _setting(
        "",
        parsers.matching(re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}"), or_empty=True),
        "a header's name, or empty",
        "a proxy has let users in, and names them in this header, such as X-Forwarded-User",
    )
    proxy_addresses: str = _setting(
        "",
        parsers.networks,
        "addresses or networks, joined by commas, such as 10.42.0.0/16",
        "where that proxy is: from elsewhere the header does not count",
    )
    proxy_operators: str = _setting(
        "", parsers.text, "names, joined by commas", "those of its users who may command and delete; others look"
    )
    metrics_port: int = _setting(
        0,
        parsers.number(0, 65_535, whole=True),
        "0 to 65535",
        "/metrics of all streams, for Prometheus, which does not log in; 0: none",
    )
    metrics_host: str = _setting(
        "127.0.0.1", parsers.text, "an address of this machine; empty: all of them", "where /metrics listens"
    )
    home_assistant: bool = _setting(
        False,
        parsers.boolean,
        "true or false",
        "announce each stream to Home Assistant by MQTT discovery; false takes back what was announced",
    )


@dataclass(frozen=True)
class Images:
    """The container images that build_and_push.py makes.

    Those of analyzers are named ``<registry>/posture-<stream>:<tag>``; that of scaler and balancer is
    ``<registry>/posture-scheduler:<tag>``.
    """

    registry: str = _setting(
        "",
        parsers.matching(parsers.REGISTRY, or_empty=True),
        "host[:port][/path], or a Docker Hub account; no scheme",
        "where images are pushed to and pulled from; must be given",
    )
    tag: str = _setting(
        "latest",
        parsers.matching(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")),
        "letters, digits, _, . and -, up to 128",
        "names a build for people; the cluster gets the digest of what was pushed",
    )
    platforms: str = _setting(
        "linux/amd64,linux/arm64",
        parsers.matching(re.compile(r"linux/[a-z0-9]+(/v[0-9]+)?(,linux/[a-z0-9]+(/v[0-9]+)?)*")),
        "linux/amd64, linux/arm64, ... joined by commas",
        "the kinds of nodes in the cluster",
    )
    builder: str = _setting("", parsers.text, "text", "buildx's builder; empty: its current one")
    build_timeout_s: float = _seconds(7200.0, "how long one image may take: emulated platforms are slow", 1)
    timeout_s: float = _seconds(30.0, "how long docker or the registry may take to answer", 0.1)

    def platform_list(self) -> list[str]:
        """Return the platforms one by one."""
        return self.platforms.split(",")


@dataclass(frozen=True)
class GpuQuery:
    """Where one node's GPU usage is read: a sample of ``metric{instance="..."}`` times ``scale`` is percent."""

    instance: str
    metric: str
    scale: float = 0.0
    """0: by the metric's name, 100 for a ratio and 1 for all others."""

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The one signal, which has the metric's name."""
        return (Signal(self.metric, metric=self.metric, scale=self.scale),)


@dataclass(frozen=True)
class SignalQuery:
    """Where one node's usage is read: the scarcest of some signals, the one with the largest value, counts."""

    instance: str
    signals: tuple[Signal, ...]


NodeQuery = GpuQuery | SignalQuery
"""An entry of GPU_QUERIES."""


@dataclass(frozen=True)
class Settings:
    """All settings of one run, and where they came from."""

    mqtt: Mqtt = Mqtt()
    camera: Camera = Camera()
    database: Database = Database()
    analyzer: Analyzer = Analyzer()
    prometheus: Prometheus = Prometheus()
    kubernetes: Kubernetes = Kubernetes()
    images: Images = Images()
    balancer: Balancer = Balancer()
    scaler: Scaler = Scaler()
    dashboard: Dashboard = Dashboard()
    streams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gpu_queries: Mapping[str, NodeQuery] = field(default_factory=dict)

    def for_stream(self, pi_id: str) -> Analyzer:
        """Return the analyzer's settings with what ``streams: <pi_id>:`` overrides."""
        of_stream = replace(self.analyzer, **self.streams.get(pi_id, {}))
        return replace(of_stream, limits=of_stream.limits.over(self.analyzer.limits))

    def pod_environment(self, pi_id: str) -> dict[str, str]:
        """Return the environment variables that give these settings to a stream's analyzer in a pod.

        Defaults are left out. So are secrets, addresses and paths: a pod has its own, which its ScaledJob sets.
        """
        found: dict[str, str] = {}
        for section, values in (
            ("mqtt", self.mqtt),
            ("database", self.database),
            ("analyzer", self.for_stream(pi_id)),
        ):
            for entry in fields(values):
                value = getattr(values, entry.name)
                if value != entry.default and entry.metadata["travels"]:
                    text = str(value).lower() if isinstance(value, bool) else str(value)
                    found[environment_name(section, entry.name)] = text
        return found


SECTIONS: dict[str, type[Any]] = {
    "mqtt": Mqtt,
    "camera": Camera,
    "database": Database,
    "analyzer": Analyzer,
    "prometheus": Prometheus,
    "kubernetes": Kubernetes,
    "images": Images,
    "balancer": Balancer,
    "scaler": Scaler,
    "dashboard": Dashboard,
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
