"""Strangers send anything at all to a farm's topics: analyzer and camera go on, and no frame of the camera is lost.

make fuzz                              # 100,000 messages
FUZZ_MESSAGES=... FUZZ_SEED=... make fuzz
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from farm import ROOT, Analyzer, ended
from fuzzed import Fuzzed, messages
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from raw_mqtt import RawClient
from servers import Mosquitto

SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(1_000_000))
MESSAGES = int(os.environ.get("FUZZ_MESSAGES") or 1_000)
BATCH, AHEAD = 16, 3_000
"""Messages sent at once, and frames that may wait for the analyzer: it says about once a second how far it is."""
WAIT_S = 120.0


class Accounts:
    """The analyzer's account, as it is published."""

    def __init__(self, port: int) -> None:
        self.last: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("account/pi1", qos=1)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.last = json.loads(message.payload)
            self._changed.notify_all()

    def until_settled(self, count: int) -> None:
        """Wait until so many frames are accounted for."""

        def settled() -> bool:
            return bool(self.last) and self.last["rows"] + self.last["duplicate"] >= count

        with self._changed:
            assert self._changed.wait_for(settled, WAIT_S), (count, self.last)

    def when_nothing_is_left(self) -> dict[str, Any]:
        """Wait until all that the analyzer has received is accounted for."""

        def settled() -> bool:
            return bool(self.last) and self.last["rows"] + self.last["duplicate"] == self.last["received"]

        with self._changed:
            assert self._changed.wait_for(settled, WAIT_S), self.last
            return self.last

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Stranger:
    """Sends packets; one over which the broker ends the connection is left out."""

    def __init__(self, port: int) -> None:
        self.frames = self.taken = self.refused = 0
        self._port = port
        self._client = RawClient(port)

    def send(self, batch: list[Fuzzed]) -> None:
        answered = self._client.send_all([one.data for one in batch], sum(one.qos for one in batch))
        acknowledged = [one for one in batch if one.qos]
        for one, reason in zip(acknowledged, answered, strict=False):
            self.taken += reason < 0x80
            self.frames += one.is_frame and reason < 0x80
        if len(answered) == len(acknowledged):
            return
        self._client.close()
        self._client = RawClient(self._port)
        if len(batch) == 1:
            self.refused += 1
            return
        # the broker's answers to those before the one that it refuses may be lost: which one it is shows one by one
        for one in batch[batch.index(acknowledged[len(answered)]) :]:
            self.send([one])

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def accounts(mosquitto: Mosquitto) -> Iterator[Accounts]:
    listening = Accounts(mosquitto.port)
    yield listening
    listening.close()


def film(port: int, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable, str(ROOT / "publish_images.py"), "--pi-id", "pi1", "--loop", "--fps", "2", "--json",
            "--source", str(ROOT / "samples" / "side_walk.mp4"), "--broker", f"mqtt://127.0.0.1:{port}",
            "--spool", str(folder / "spool"), "--drain", str(WAIT_S),
        ],
        stdout=subprocess.PIPE, stderr=(folder / "camera.log").open("w"), text=True,
    )  # fmt: skip


def test_whatever_strangers_send_the_programs_go_on_and_every_frame_of_the_camera_has_its_row(
    mosquitto: Mosquitto, accounts: Accounts, tmp_path: Path
) -> None:
    print(f"FUZZ_SEED={SEED} FUZZ_MESSAGES={MESSAGES}")
    analyzer = Analyzer(tmp_path, mosquitto.port).start()
    began = time.monotonic()
    with ended(analyzer):
        analyzer.wait_for_log("connected to", WAIT_S)
        camera = film(mosquitto.port, tmp_path)
        try:
            accounts.until_settled(1)
            stranger, fuzzed = Stranger(mosquitto.port), messages(SEED, MESSAGES)
            while batch := list(islice(fuzzed, BATCH)):
                stranger.send(batch)
                accounts.until_settled(stranger.frames - AHEAD)
            memory = analyzer.memory_bytes()
            accounts.until_settled(stranger.frames)
            camera.send_signal(signal.SIGINT)
            said, _ = camera.communicate(timeout=2 * WAIT_S)
        finally:
            camera.kill()
            camera.wait()
        with closing(Accounts(mosquitto.port)) as newest:  # accounts may be behind
            account = newest.when_nothing_is_left()
        assert analyzer.stop(60) == 0
    stranger.close()
    log, seen = analyzer.log.read_text(), (tmp_path / "camera.log").read_text()
    result = json.loads(said)
    print(
        f"{MESSAGES} messages in {time.monotonic() - began:.0f} s: {stranger.taken} taken by the broker, "
        f"{stranger.refused} ended the sender's connection; the analyzer (now {memory / 1e6:.0f} MB): {account}; "
        f"the camera: {result}"
    )
    assert camera.returncode == 0, seen[-3000:]
    with closing(sqlite3.connect(analyzer.database)) as db:
        rows = db.execute("SELECT seq FROM posture_log WHERE boot_id = ?", (result["boot_id"],)).fetchall()
    assert sorted(seq for (seq,) in rows) == list(range(result["captured"]))
    assert result["receipted"] == result["captured"] > 0
    assert account["malformed"] > 0
    assert log.count("connected to") == 1, "one connection from the first message to the last"
    for lines in (log, seen):
        assert "Traceback" not in lines, lines[-5000:]
        assert len(lines.splitlines()) < 1000, "the log is bounded, whatever comes"
