"""A frame that ends each process that opens it is known to the next one, on another node and without its files."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import remembering
from farm import ROOT, Analyzer, Camera, Watcher, clip_jpegs, ended
from identities import TAP, TAP_PASSWORD, Client, credentials, guarded_mosquitto, retained
from remembering import TOPICS, attempts
from servers import Mosquitto

from posture.analyzer.attempts import CRASHED, KILLED, MOST
from posture.analyzer.suspects import ALONE
from posture.wire.identities import provision
from posture.wire.suspects import Remembered

pytestmark = [pytest.mark.xdist_group("analyzer"), pytest.mark.usefixtures("patience")]

TOPIC = TOPICS.suspects
DEADLY = """
import ctypes
import os
import simplejpeg
decode_jpeg = simplejpeg.decode_jpeg
def deadly(data, *args, **flags):
    if b"crash here" in data:
        ctypes.string_at(0)
    if b"kill here" in data:
        os.kill(os.getpid(), 9)
    return decode_jpeg(data, *args, **flags)
simplejpeg.decode_jpeg = deadly
"""
"""Read by Python at its start: a native decoder with a fault, and one that takes more memory than there is."""
STARTS = 2 + MOST // ALONE
"""The first process has the frame among others, the last one does not open it any more."""


@pytest.mark.parametrize(
    ("protocol", "poison", "ends"),
    [("auto", b"crash here", -signal.SIGSEGV), ("3.1.1", b"kill here", -signal.SIGKILL)],
    ids=["crashes", "is killed"],
)
def test_a_frame_that_ends_every_pod_is_left_out_in_a_bounded_number_of_starts_and_all_others_get_their_rows(
    tmp_path: Path, protocol: str, poison: bytes, ends: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    provision(tmp_path / "identities", ["pi1"])
    broker = guarded_mosquitto(tmp_path, tmp_path / "identities")
    broker.start()
    user, password = credentials(tmp_path / "identities", "analyzer-pi1")
    watcher = Watcher(broker.port, TAP, TAP_PASSWORD)
    camera_user, camera_password = credentials(tmp_path / "identities", "camera-pi1")
    camera = Camera(broker.port, username=camera_user, password=camera_password)
    jpegs = clip_jpegs(9)
    jpegs[4] += poison

    def pod(number: int) -> Analyzer:
        """With an empty folder, as each has."""
        return Analyzer(
            tmp_path, broker.port, PYTHONPATH=str(tmp_path), POSTURE_MQTT_USERNAME=user,
            POSTURE_MQTT_PASSWORD=password, POSTURE_MQTT_PROTOCOL=protocol,
            POSTURE_ANALYZER_QUARANTINE_DIR=str(tmp_path / f"pod-{number}"),
        )  # fmt: skip

    *dying, last = [pod(number) for number in range(STARTS)]
    session = Client(broker.port, user, password, clean=False)
    session.subscribe(TOPICS.images)
    session.close()
    try:
        with ended(*dying, last):
            for jpeg in jpegs:
                camera.publish_now(jpeg)
            for one in dying:
                assert one.start().process is not None
                assert one.process.wait(60) == ends, one.log.read_text()
            last.start()
            watcher.wait_for(lambda w: w.receipts >= set(camera.published))
            assert last.stop() == 0
    finally:
        camera.close()
        watcher.close()
        broker.stop()
    rows = {row["frame_id"]: row for row in last.rows()}
    assert len(rows) == len(jpegs)
    refused = [name for name in camera.published if not rows[name]["filename"]]
    assert [(name, rows[name]["reason"]) for name in refused] == [(camera.published[4], "ended_the_process")]
    (kept,) = (tmp_path / f"pod-{STARTS - 1}" / "quarantine_from_pi1").iterdir()
    assert kept.read_bytes().endswith(poison)
    assert "a process elsewhere ended" in last.log.read_text()


GUILTY, INNOCENT = (hashlib.sha256(name).hexdigest() for name in (b"guilty", b"innocent"))


def die(port: int, folder: Path, digest: str) -> None:
    """A process that opens a frame which the broker has delivered again, and is killed."""
    arguments = [sys.executable, remembering.__file__, str(port), str(folder), digest]
    done = subprocess.run(
        arguments, check=False, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture
def tap(mosquitto: Mosquitto) -> Iterator[Client]:
    client = Client(mosquitto.port)
    client.subscribe(TOPIC)
    yield client
    client.close()


def test_what_is_opened_is_at_the_broker_before_and_nothing_is_once_it_was_survived(
    mosquitto: Mosquitto, tap: Client, tmp_path: Path
) -> None:
    one = attempts(mosquitto.port, tmp_path)
    assert one.begin(INNOCENT)
    one.end(INNOCENT)
    assert one.begin(GUILTY, redelivered=True)
    said = json.loads(tap.wait_for_one(TOPIC))
    assert (said["frame"], said["counts"]) == (GUILTY, {})
    assert len(tap.got) == 1, "of a frame that comes for the first time nothing is said"
    one.end(GUILTY)
    tap.wait_for(TOPIC, b"")
    one.close()


def test_a_frame_that_was_delivered_before_is_opened_alone(mosquitto: Mosquitto, tmp_path: Path) -> None:
    one, began = attempts(mosquitto.port, tmp_path), threading.Event()
    assert one.begin(GUILTY, redelivered=True)  # asks the broker, which may take its time
    one.end(GUILTY)
    assert one.begin(INNOCENT)

    def open_it() -> None:
        one.begin(GUILTY, redelivered=True)
        began.set()

    thread = threading.Thread(target=open_it)
    thread.start()
    assert not began.wait(1.0)
    one.end(INNOCENT)
    assert began.wait(60)
    thread.join()
    one.end(GUILTY)
    one.close()


def test_only_what_outlives_no_process_is_not_opened_any_more(mosquitto: Mosquitto, tmp_path: Path) -> None:
    for number in range(MOST // ALONE):
        last = attempts(mosquitto.port, tmp_path / f"pod-{number}")
        assert last.begin(INNOCENT, redelivered=True)
        last.end(INNOCENT)
        last.close()
        die(mosquitto.port, tmp_path / f"pod-{number}", GUILTY)
    last = attempts(mosquitto.port, tmp_path / "last")
    assert not last.begin(GUILTY, redelivered=True)
    assert not last.begin(GUILTY), "a copy of it, sent by the camera because nobody confirmed the first"
    assert last.begin(INNOCENT, redelivered=True)
    last.close()


def test_an_end_that_the_folder_knows_of_counts_once_and_as_the_folder_says(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    for _ in range(MOST // KILLED - 1):
        die(mosquitto.port, tmp_path, GUILTY)
    still = attempts(mosquitto.port, tmp_path)
    assert still.begin(GUILTY, redelivered=True)
    still.end(GUILTY)
    still.close()


def test_ends_here_and_elsewhere_count_together(mosquitto: Mosquitto, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / GUILTY).write_text(str(CRASHED))
    said = Remembered("0" * 16, GUILTY, {GUILTY: MOST - CRASHED - ALONE})
    retained(mosquitto.port, {TOPIC: said.as_bytes()})
    one = attempts(mosquitto.port, here)
    assert not one.begin(GUILTY)
    one.close()


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff", b"7", b"[]", b"{}", b"[" * 100_000, b'{"process": 1, "frame": 2, "counts": 3}',
        json.dumps({"process": "0" * 16, "frame": GUILTY, "counts": {GUILTY: 10**30}}).encode(),
        json.dumps({"process": "0" * 16, "frame": "../" * 20, "counts": {GUILTY: MOST}}).encode(),
    ],
    ids=lambda payload: payload[:12].decode(errors="replace"),
)  # fmt: skip
def test_what_is_no_message_of_ours_counts_against_no_frame_and_is_replaced(
    mosquitto: Mosquitto, tap: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture, payload: bytes
) -> None:
    retained(mosquitto.port, {TOPIC: payload})
    tap.wait_for(TOPIC, payload)
    one = attempts(mosquitto.port, tmp_path)
    assert one.begin(GUILTY, redelivered=True)
    assert "counts against no frame" in caplog.text
    one.end(GUILTY)
    tap.wait_for(TOPIC, b"")
    one.close()


@pytest.mark.parametrize("lacks", ["its user", "its right", "the broker"])
def test_without_the_broker_frames_are_opened_and_one_line_says_what_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lacks: str
) -> None:
    provision(tmp_path / "identities", ["pi1"])
    name = "passwords" if lacks == "its user" else "acl"
    path = tmp_path / "identities" / "mosquitto" / name
    kept = [line for line in path.read_text().splitlines() if "suspects" not in line]  # as version 0.2.0 made it
    path.write_text("\n".join(kept) + "\n")
    broker = guarded_mosquitto(tmp_path, tmp_path / "identities")
    broker.start()
    one = attempts(broker.port, tmp_path / "pod", *credentials(tmp_path / "identities", "analyzer-pi1"))
    if lacks == "the broker":
        broker.stop()
    try:
        for digest in (GUILTY, INNOCENT):
            assert one.begin(digest, redelivered=True)
            one.end(digest)
        assert caplog.text.count("suspects/pi1 can't be read and written") == 1
        assert "suspects.<pi_id>" in caplog.text
    finally:
        one.close()
        broker.stop()
