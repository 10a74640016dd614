"""Real analyzers, cameras and watchers for the tests: processes, sockets and files, nothing pretended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from processes import resident_kib

from posture.pictures.folder import SPARES
from posture.wire import frame

ROOT = Path(__file__).resolve().parents[2]
START_S = 120.0
"""An analyzer loads its model, on a busy machine beside others."""


def clip_jpegs(count: int = 40, width: int = 320) -> list[bytes]:
    """Frames of the sample clip as JPEG, ``width`` pixels wide."""
    clip = cv2.VideoCapture(str(next((ROOT / "samples").glob("*.mp4"))))
    jpegs = []
    while len(jpegs) < count:
        read, picture = clip.read()
        if not read:
            break
        height = round(picture.shape[0] * width / picture.shape[1])
        encoded, data = cv2.imencode(".jpg", cv2.resize(picture, (width, height)))
        assert encoded
        jpegs.append(data.tobytes())
    clip.release()
    assert jpegs
    return jpegs


def noise_jpeg(seed: int, width: int, height: int, quality: int = 95) -> bytes:
    """A picture of noise: nobody in it, and as many bytes as a busy picture has."""
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


class Watcher:
    """A client that sees what the farm says, and can wait for it; ``skip``: topics that hold no JSON.

    Over a restart of the broker it loses nothing: what is said before it is back waits in its session. Not for one
    with a user, whose name may be the client id of several.
    """

    def __init__(self, port: int, username: str = "", password: str = "", skip: Sequence[str] = ()) -> None:
        self._skip = skip
        self.receipts: set[str] = set()
        self.retained: dict[str, Any] = {}
        self.alerts: list[Any] = []
        self.answers: list[Any] = []
        self.pictures: list[bytes] = []
        self.subscribed = False
        self._changed = threading.Condition()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, f"watcher-{os.getpid()}-{id(self)}", clean_session=bool(username)
        )
        if username:
            self._client.username_pw_set(username, password)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(0.1, 0.5)
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()

    def _on_subscribe(self, *_: object) -> None:
        with self._changed:
            self.subscribed = True
            self._changed.notify_all()

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if "images/" in message.topic or message.topic.startswith("command/") or message.topic in self._skip:
            return
        with self._changed:
            if message.topic.endswith("/picture"):
                self.pictures.append(message.payload)
                self._changed.notify_all()
                return
            said = json.loads(message.payload) if message.payload else None
            if message.topic.startswith("committed/"):
                self.receipts.update(said["ids"])
            self.retained[message.topic] = said
            if message.topic.endswith("/answer"):
                self.answers.append(said)
            if message.topic.endswith("/alert"):
                self.alerts.append(said)
            self._changed.notify_all()

    def wait_for(self, what: Callable[[Watcher], bool], timeout_s: float = START_S) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: what(self), timeout_s), (
                f"not seen within {timeout_s} s; {len(self.receipts)} receipts, last: {self.retained}"
            )

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Camera:
    """A foreign camera: paho, QoS 1, no spool. With ``stamped`` it numbers its frames as ours does."""

    def __init__(
        self, port: int, pi_id: str = "pi1", stamped: bool = True, boot_id: str = "boot1",
        username: str = "", password: str = "",
    ) -> None:  # fmt: skip
        self.pi_id, self.stamped, self.boot_id = pi_id, stamped, boot_id
        self.published: list[str] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"camera-{pi_id}-{boot_id}")
        self._client.max_inflight_messages_set(200)
        if username:
            self._client.username_pw_set(username, password)
        self._connected = threading.Event()
        self._acknowledged: set[int] = set()
        self._changed = threading.Condition()
        self._client.on_publish = self._on_publish
        self._client.on_connect = lambda *_: self._connected.set()
        self._client.on_disconnect = lambda *_: self._connected.clear()
        self._client.reconnect_delay_set(0.1, 0.5)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _on_publish(self, _client: paho.Client, _data: object, packet_id: int, *_: object) -> None:
        with self._changed:
            self._acknowledged.add(packet_id)
            self._changed.notify_all()

    def publish(self, jpeg: bytes) -> paho.MQTTMessageInfo:
        seq = len(self.published)
        identity = frame.Identity(
            f"{self.boot_id}-{seq}", datetime.now(timezone.utc), seq, self.boot_id, source="comment"
        )
        payload = frame.stamp(jpeg, identity) if self.stamped else jpeg
        self.published.append(identity.frame_id)
        return self._client.publish(f"images/{self.pi_id}", payload, qos=1)

    def publish_now(self, jpeg: bytes) -> None:
        """Publish over a live connection, and wait until the broker has acknowledged it."""
        assert self._connected.wait(60)
        packet_id = self.publish(jpeg).mid
        # paho's own wait ends without a word when its time is over, and fails if the connection has just been lost
        with self._changed:
            assert self._changed.wait_for(lambda: packet_id in self._acknowledged, 60)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Analyzer:
    """Images_From_Pi1.py (or 2) as a process of its own."""

    def __init__(self, folder: Path, port: int, pi: int = 1, database: str = "", **settings: str) -> None:
        self.folder = folder
        self.database = folder / "posture.db"
        self.pictures = folder / "pictures" / f"analyzed_images_from_pi{pi}"
        self.quarantine = folder / "quarantine" / f"quarantine_from_pi{pi}"
        self.log = folder / f"analyzer-{time.monotonic_ns()}.log"
        env = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")}
        env |= {
            "POSTURE_MQTT_URL": f"mqtt://127.0.0.1:{port}",
            "POSTURE_DATABASE_URL": database or f"sqlite:///{self.database}",
            "POSTURE_ANALYZER_PICTURES_DIR": str(folder / "pictures"),
            "POSTURE_ANALYZER_QUARANTINE_DIR": str(folder / "quarantine"),
            "POSTURE_ANALYZER_DELEGATE": "cpu",
            "POSTURE_ANALYZER_KEEP": "all",
            **settings,
        }
        self.command = [sys.executable, str(ROOT / f"Images_From_Pi{pi}.py")]
        self.env = env
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> Analyzer:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*self.command, *flags], env=self.env, stderr=log, stdout=log, cwd="/")
        return self

    def wait_online(self, watcher: Watcher, pi_id: str = "pi1") -> Analyzer:
        assert self.process is not None
        pid = str(self.process.pid)
        deadline = time.monotonic() + START_S
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):
                watcher.wait_for(
                    lambda w: (
                        (w.retained.get(f"status/{pi_id}") or {}).get("pid") == pid
                        and w.retained[f"status/{pi_id}"]["state"] == "online"
                    ),
                    0.5,
                )
                return self
        raise AssertionError(f"the analyzer is not online:\n{self.log.read_text()[-3000:]}")

    def wait_for_log(self, text: str, timeout_s: float = START_S) -> None:
        """Wait until the process has logged ``text``; a file has no event to wait for, so it is polled."""
        assert self.process is not None
        deadline = time.monotonic() + timeout_s
        while text not in self.log.read_text():
            assert time.monotonic() < deadline, f"{text!r} was not logged:\n{self.log.read_text()[-3000:]}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
                break
        assert text in self.log.read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 60.0) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def memory_bytes(self) -> int:
        """Resident memory now."""
        assert self.process is not None
        return resident_kib(self.process.pid) * 1024

    def rows(self) -> list[dict[str, Any]]:
        with contextlib.closing(sqlite3.connect(self.database)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute("SELECT * FROM posture_log ORDER BY received_time")]

    def picture_names(self) -> list[str]:
        found = self.pictures.glob("*") if self.pictures.exists() else ()
        return sorted(path.name for path in found if path.name != SPARES)


@contextlib.contextmanager
def ended(*analyzers: Analyzer) -> Iterator[None]:
    """Whatever happens, no analyzer outlives the test."""
    try:
        yield
    finally:
        for analyzer in analyzers:
            if analyzer.process is not None and analyzer.process.poll() is None:
                analyzer.kill()
