"""One run of ``run_local.py``: a broker, cameras and analyzers as child processes, and what became of the frames.

Each program is started by its script, as a user would start it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from posture.demo import summary
from posture.errors import UserError
from posture.runtime import EXIT_USER_ERROR, ROOT, Stop
from posture.settings import loading, paths
from posture.settings.flags import config_arguments
from posture.settings.table import Dashboard
from posture.system.addresses import split_listen
from posture.system.children import Child
from posture.system.terminal import Screen
from posture.wire.malformed import Client
from posture.wire.topics import Topics

ANALYZERS = {"pi1": "Images_From_Pi1.py", "pi2": "Images_From_Pi2.py"}
EACH = Topics("+")
"""Matches the topics of every stream."""
TILT_DEG = {"pi1": 0.0, "pi2": 15.0}
START_S = 60.0
DRAIN_S = 60.0
"""How long the cameras wait for the rows of their last frames."""


@dataclass(frozen=True)
class Options:
    """What a run is to do.

    Attributes:
        source: as ``publish_images.py`` takes it.
        fps: frames a second of each stream.
        duration_s: the run ends after this time; may be infinite.
        limit: each stream ends after so many frames; None: no limit.
        config: the file of settings; None: cluster.yaml beside the scripts.
        embedded_broker: use the embedded broker even if Mosquitto is installed.
    """

    source: str
    fps: float
    duration_s: float
    limit: int | None
    config: Path | None
    embedded_broker: bool


@dataclass
class StatusView:
    """The retained status and account messages of the streams, received by an MQTT client without a thread."""

    port: int
    said: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="run-local", reconnect_on_failure=False)
        self._client.on_connect = lambda client, *_: client.subscribe([(EACH.status, 1), (EACH.account, 1)])
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", self.port)

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        with contextlib.suppress(ValueError, RecursionError):  # anybody on this machine may publish
            said = json.loads(message.payload)
            if isinstance(said, dict):
                self.said[message.topic] = said

    def turn(self) -> None:
        """Serve the network for a moment.

        Raises:
            UserError: the broker is gone.
        """
        if self._client.loop(timeout=0.1) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise UserError("the broker of this run has ended")

    def is_online(self, pi_id: str) -> bool:
        """Return whether this stream's analyzer takes frames."""
        return self.said.get(Topics(pi_id).status, {}).get("state") == "online"

    def line(self, pi_id: str) -> str:
        """Return a stream's status line."""
        account = self.said.get(Topics(pi_id).account)
        if account is None:
            return f"{pi_id}  waiting for the first frame"
        angles = ", ".join(f"{name} {account[name]:.0f}" for name in ("neck", "body") if account[name] is not None)
        return (
            f"{pi_id}  in {account['received']}  analyzed {account['analyzed']}"
            f"  rejected {sum(account['rejected'].values())}"
            f"  Good {account['good']}  Bad {account['bad']}  Unknown {account['unknown']}"
            f"  last {account['status'] or '-'}{f' ({angles} deg)' if angles else ''}  {account['fps']:.1f} fps"
        )


KEPT = {
    "all": "of every frame",
    "changes": "at changes of the state, at alerts, and one a minute; POSTURE_ANALYZER_KEEP=all keeps every one",
    "none": "none are kept",
}
"""Which pictures there are, by ``analyzer.keep``."""


@dataclass
class Run:
    """One run: starts the child processes, watches them, and stops them.

    Attributes:
        options: what to do.
        folder: new and empty; all files of the run go there.
        stop: requested by the operator.
        screen: shows the status lines.
        pi_ids: the streams.
        port: the broker's, on the loopback interface.
        broker: its process, once started.
        analyzers: stream -> its analyzer's process.
        cameras: stream -> its camera's process.
        page: the dashboard's process; nothing depends on it.
    """

    options: Options
    folder: Path
    stop: Stop
    screen: Screen
    pi_ids: Sequence[str]
    port: int
    broker: Child | None = None
    analyzers: dict[str, Child] = field(default_factory=dict)
    cameras: dict[str, Child] = field(default_factory=dict)
    page_port: int | None = None
    """Of the dashboard, on the loopback interface; None: there is none."""
    page: Child | None = None

    def serve(self) -> None:
        """Start everything and watch it to the end; cameras stop first, so that every frame gets its row."""
        port = self.port
        mosquitto = None if self.options.embedded_broker else find_mosquitto()
        self.broker = start_broker(port, self.folder, mosquitto)
        wait_for_port(port, self.broker)
        environ = child_environment(self.folder, port)
        # the embedded broker does not answer MQTT 5 at all, so "auto" would wait for the time-out first
        environ["POSTURE_MQTT_PROTOCOL"] = "3.1.1" if mosquitto is None else "auto"
        for pi_id in self.pi_ids:
            command = [sys.executable, str(ROOT / ANALYZERS[pi_id]), *config_arguments(self.options.config)]
            self.analyzers[pi_id] = Child(f"analyzer-{pi_id}", command, self.folder, environ)
        if self.page_port is not None:
            listen = ["--listen", f"127.0.0.1:{self.page_port}", *config_arguments(self.options.config)]
            command = [sys.executable, str(ROOT / "dashboard.py"), *listen]
            self.page = Child("dashboard", command, self.folder, environ)
        view = StatusView(port)
        self._wait_until_online(view)
        for pi_id in self.pi_ids:
            self.cameras[pi_id] = Child(f"camera-{pi_id}", self._camera(pi_id, port), self.folder, environ)
        self._watch(view, time.monotonic() + self.options.duration_s)
        for camera in self.cameras.values():
            camera.ask_to_stop()
        self._watch(view, time.monotonic() + DRAIN_S + 5)

    def end(self) -> None:
        """Stop what still runs: first cameras, then analyzers, then the broker."""
        # a camera that still runs now waits for receipts that will not come
        for group, seconds in ((self.cameras, 3.0), (self.analyzers, 30.0)):
            for child in group.values():
                child.ask_to_stop()
            for child in group.values():
                child.stop(seconds)
        for server in (self.page, self.broker):
            if server is not None:
                server.stop(10)

    def _camera(self, pi_id: str, port: int) -> list[str]:
        options = self.options
        command = [
            sys.executable, str(ROOT / "publish_images.py"),
            "--pi-id", pi_id, "--source", options.source, "--broker", f"mqtt://127.0.0.1:{port}",
            "--fps", str(options.fps), "--tilt", str(TILT_DEG[pi_id]), "--loop",
            "--spool", str(self.folder / "spool" / pi_id), "--drain", str(DRAIN_S), "--json",
            *config_arguments(self.options.config),
        ]  # fmt: skip
        return command if options.limit is None else [*command, "--limit", str(options.limit)]

    def _wait_until_online(self, view: StatusView) -> None:
        deadline = time.monotonic() + START_S
        while not all(view.is_online(pi_id) for pi_id in self.pi_ids) and not self.stop.requested:
            view.turn()
            self._check_analyzers()
            if time.monotonic() > deadline:
                raise UserError(f"the analyzers are not ready after {START_S:.0f} s; see {self.folder}")

    def _watch(self, view: StatusView, until: float) -> None:
        """Show the status lines until the cameras end, the time is ``until``, or a (further) stop is requested."""
        filming = not self.stop.requested
        while time.monotonic() < until and any(camera.status is None for camera in self.cameras.values()):
            if filming and self.stop.requested:
                return
            view.turn()
            self._check_analyzers()
            self.screen.show([view.line(pi_id) for pi_id in self.pi_ids])

    def _check_analyzers(self) -> None:
        for child in self.analyzers.values():
            if child.status is not None:
                raise UserError(f"{child.name} has ended with status {child.status}:\n{child.last_words()}")


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def page_port() -> int:
    """Return the dashboard's usual port if it is free on the loopback interface, else another one."""
    usual = split_listen(Dashboard().listen)[1]
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", usual))
        return usual
    return free_port()


def find_mosquitto() -> str | None:
    """Return Mosquitto's path if it is installed; Debian puts it where only root's PATH leads."""
    return shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


def start_broker(port: int, folder: Path, program: str | None) -> Child:
    """Start Mosquitto, or the embedded broker if there is no Mosquitto.

    Args:
        port: to listen on, on the loopback interface.
        folder: for its log and its data.
        program: Mosquitto's path; None: the embedded broker.
    """
    if program is None:
        print("broker: the embedded one, which does for a demo")
        return Child("broker", [sys.executable, "-m", "posture.demo.broker", "--port", str(port)], folder, cwd=ROOT)
    data = folder / "broker"
    data.mkdir()
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "persistence true",
        f"persistence_location {data}/",
        "max_queued_messages 1000000",
        "max_queued_bytes 2000000000",
        "max_packet_size 30000000",
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # otherwise it drops root, and with it write access to this folder
    (data / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Child("broker", [program, "-c", str(data / "mosquitto.conf")], folder)


def wait_for_port(port: int, broker: Child) -> None:
    """Wait until the broker listens, by trying to connect.

    Raises:
        UserError: it has ended, or does not listen in time.
    """
    deadline = time.monotonic() + START_S
    while broker.status is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    broker.stop(1)
    raise UserError(f"the broker doesn't come up:\n{broker.last_words()}")


def child_environment(folder: Path, port: int) -> dict[str, str]:
    """Return our environment with this run's broker, database and folders."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_MQTT_")}
    environ.pop("POSTURE_DATABASE_URL_FILE", None)
    return environ | {
        "POSTURE_MQTT_URL": f"mqtt://127.0.0.1:{port}",
        "POSTURE_MQTT_PREFIX": "",
        "POSTURE_MQTT_USERNAME": "",
        "POSTURE_DATABASE_URL": f"sqlite:///{folder / 'posture.db'}",
        "POSTURE_PICTURES_URL": "",
        "POSTURE_ANALYZER_PICTURES_DIR": str(folder / "analyzed_images"),
        "POSTURE_ANALYZER_QUARANTINE_DIR": str(folder / "quarantine"),
    }


def report(run: Run) -> int:
    """Print what became of the frames and write summary.png.

    Returns:
        How many frames or pictures were lost, and how many cameras have failed.
    """
    settings = loading.load(run.options.config, child_environment(run.folder, run.port))
    results = [
        read_result(run.folder, pi_id, paths.path_of(settings.for_stream(pi_id).pictures_dir))
        for pi_id in run.pi_ids
    ]
    lost = 0
    print("\nSummary")
    for result in results:
        camera = run.cameras.get(result.pi_id)
        said = camera_result(camera)
        kept = {row["filename"] for row in result.rows if row["filename"]}
        on_disk = {path.name for path in result.pictures.glob("*.jpg")}
        gone = len(kept - on_disk)
        if camera is not None and (said is None or camera.status == EXIT_USER_ERROR):
            print(f"  {result.pi_id}: the camera has failed:")
            print(camera.last_words())
            lost += 1
        if said is not None:
            gone += said["captured"] - sum(row["boot_id"] == said["boot_id"] for row in result.rows)
        print(
            f"  {result.pi_id}: published {'?' if said is None else said['captured']}, rows {len(result.rows)}"
            f" (Good {result.count('Good')}, Bad {result.count('Bad')}, Unknown {result.count('Unknown')}),"
            f" pictures {len(kept & on_disk)}, lost {'?' if said is None else gone}"
        )
        lost += gone
    sheet = run.folder / "summary.png"
    summary.draw(results, sheet)
    print(f"  rows      {run.folder / 'posture.db'}")
    print(f"  pictures  {run.folder / 'analyzed_images'}: {KEPT[settings.analyzer.keep]}")
    print(f"  summary   {sheet}")
    return lost


def read_result(folder: Path, pi_id: str, pictures: Path) -> summary.StreamResult:
    """Return a stream's rows, in order of capture."""
    database = folder / "posture.db"
    rows: list[dict[str, Any]] = []
    if database.exists():
        with contextlib.closing(sqlite3.connect(database)) as db:
            db.row_factory = sqlite3.Row
            query = "SELECT * FROM posture_log WHERE pi_id = ? ORDER BY coalesce(captured_time, received_time)"
            rows = [dict(row) for row in db.execute(query, (pi_id,))]
    return summary.StreamResult(pi_id, rows, pictures / f"analyzed_images_from_{pi_id}")


def camera_result(camera: Child | None) -> dict[str, Any] | None:
    """Return the counts that a camera prints at its end; None if it ended without them."""
    if camera is None:
        return {"captured": 0, "boot_id": ""}
    lines = camera.output.read_text(encoding="utf-8").splitlines()
    return dict(json.loads(lines[-1])) if lines else None
