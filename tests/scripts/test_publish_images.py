"""The camera's side as a user meets it: publish_images.py as a process, a real broker, real analyzers."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_script import published, publishing, result_of
from certificates import make_certificates
from farm import ROOT, Analyzer, Watcher, clip_jpegs, ended, noise_jpeg
from hostile import encoded
from http_camera_server import HttpCamera, part, snapshot, stream
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from PIL import Image
from rtsp_server import RtspCamera
from servers import Mosquitto, find_program, free_port

from posture.wire import decoding, frame
from posture.wire.mqtt import ANSWER_S, Broker, parse_broker

pytestmark = pytest.mark.xdist_group("camera")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty pictures on disk."""
    pictures = tmp_path / "pictures-to-send"
    pictures.mkdir()
    for number, jpeg in enumerate(clip_jpegs(40)):
        (pictures / f"{number:03d}.jpg").write_bytes(jpeg)
    return pictures


class Receiver:
    """A client that takes frames, and gives receipts for them while ``answers`` is set."""

    def __init__(self, port: int, *, answers: bool = True, prefix: str = "") -> None:
        self.payloads: list[bytes] = []
        self.answers = answers
        self._prefix = prefix
        self._changed = threading.Condition()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"receiver-{id(self)}")
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.reconnect_delay_set(0.1, 0.2)
        subscribed = threading.Event()
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(60)

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, *_: object) -> None:
        client.subscribe(f"{self._prefix}images/pi1", qos=1)

    def _on_message(self, client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.payloads.append(bytes(message.payload))
            self._changed.notify_all()
        if self.answers:
            receipt = json.dumps({"ids": [frame.identify(message.payload, {}).frame_id]})
            client.publish(f"{self._prefix}committed/pi1", receipt, qos=1)

    def say_online(self) -> None:
        """Say what an analyzer says that has just started."""
        status = json.dumps({"state": "online", "instance": "one", "started": "2026-11-24T00:00:00+00:00"})
        self._client.publish(f"{self._prefix}status/pi1", status, qos=1, retain=True).wait_for_publish(60)

    def wait_for(self, what: Callable[[Receiver], bool], timeout_s: float = 120.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: what(self), timeout_s), f"not seen; {len(self.payloads)} frames"

    @property
    def identities(self) -> list[frame.Identity]:
        return [frame.identify(payload, {}) for payload in self.payloads]

    @property
    def ids(self) -> set[str]:
        return {identity.frame_id for identity in self.identities}


def ids_of(result: dict[str, int], count: int) -> set[str]:
    return {f"pi1-{result['boot_id']}-{number}" for number in range(count)}


# Nothing is lost.


def test_a_broker_killed_twice_costs_no_frame_of_a_camera_with_a_spool(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    watcher, analyzer = Watcher(mosquitto.port), Analyzer(tmp_path, mosquitto.port)
    flags = ["--source", str(folder), "--loop", "--limit", "300", "--fps", "40", "--receipt-timeout", "3"]
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        with publishing(tmp_path, mosquitto.port, *flags, "--drain", "240") as camera:
            for enough in (60, 150):
                watcher.wait_for(lambda w, enough=enough: len(w.receipts) >= enough, 180)
                mosquitto.kill()
                mosquitto.start()
            status, result, log = result_of(camera)
        assert analyzer.stop() == 0
    assert status == 0, log
    assert (result["captured"], result["receipted"], result["in_spool"], result["dropped"]) == (300, 300, 0, 0)
    rows = [row["frame_id"] for row in analyzer.rows()]
    assert sorted(rows) == sorted(ids_of(result, 300))
    assert len(analyzer.picture_names()) == 300
    watcher.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_every_frame_arrives_though_the_broker_is_away_at_first_and_then_killed(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path, protocol: str
) -> None:
    mosquitto.stop()
    flags = ["--source", str(folder), "--loop", "--limit", "400", "--fps", "80", "--receipt-timeout", "1"]
    with publishing(tmp_path, mosquitto.port, *flags, "--drain", "240", POSTURE_MQTT_PROTOCOL=protocol) as camera:
        assert camera.stderr is not None
        while "next try" not in camera.stderr.readline():
            pass
        mosquitto.start()
        with Receiver(mosquitto.port) as receiver:
            for enough in (50, 150):
                receiver.wait_for(lambda r, enough=enough: len(r.ids) >= enough)
                mosquitto.kill()
                mosquitto.start()
            status, result, log = result_of(camera)
    assert status == 0, log
    assert (result["captured"], result["receipted"], result["in_spool"]) == (400, 400, 0)
    assert receiver.ids == ids_of(result, 400)


def test_a_camera_killed_in_mid_stream_sends_what_is_left_with_its_next_run(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    flags = ["--source", str(folder), "--loop", "--fps", "100"]
    with Receiver(mosquitto.port, answers=False) as receiver:
        with publishing(tmp_path, mosquitto.port, *flags) as camera:
            receiver.wait_for(lambda r: len(r.payloads) >= 30)
            camera.kill()
        (boot,) = {identity.boot_id for identity in receiver.identities}
        left = [frame.identify(path.read_bytes(), {}) for path in sorted((tmp_path / "spool").glob("*.jpg"))]
        assert [identity.seq for identity in left] == list(range(len(left))), "all of them, in order"
        receiver.answers = True
        status, result, _ = published(tmp_path, mosquitto.port, *flags, "--limit", "5", "--drain", "240")
    assert status == 0
    assert result["receipted"] == len(left) + 5
    assert result["boot_id"] != boot
    assert receiver.ids == {identity.frame_id for identity in left} | ids_of(result, 5)
    captured = {identity.frame_id: identity.captured_at for identity in receiver.identities}
    assert all(captured[identity.frame_id] == identity.captured_at for identity in left), "the old times, too"


def test_frames_without_receipt_stay_in_the_spool_and_go_with_the_next_run(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    flags = ["--source", str(folder), "--fps", "200", "--drain", "0.5"]
    status, first, log = published(tmp_path, mosquitto.port, *flags)
    assert (status, first["in_spool"], first["receipted"]) == (1, 40, 0)
    assert "40 frames have no receipt yet; they stay in the spool" in log
    with Receiver(mosquitto.port) as receiver:
        status, second, _ = published(tmp_path, mosquitto.port, "--source", str(folder), "--limit", "1")
    assert (status, second["receipted"], second["in_spool"]) == (0, 41, 0)
    assert receiver.ids == ids_of(first, 40) | ids_of(second, 1)
    assert not list((tmp_path / "spool").iterdir())


def test_a_frame_without_receipt_is_sent_again_after_the_time_out(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    flags = ["--source", str(folder), "--limit", "3", "--receipt-timeout", "0.3"]
    with (
        Receiver(mosquitto.port, answers=False) as receiver,
        publishing(tmp_path, mosquitto.port, *flags) as camera,
    ):
        receiver.wait_for(lambda r: len(r.payloads) >= 6)
        receiver.answers = True
        status, result, _ = result_of(camera)
    assert status == 0
    assert (result["captured"], result["receipted"]) == (3, 3)
    assert result["resent"] >= 3
    assert result["sent"] == 3 + result["resent"]


def test_no_more_than_a_window_of_frames_is_on_the_wire_without_receipts(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    flags = ["--source", str(folder), "--loop", "--limit", "200", "--fps", "400", "--receipt-timeout", "600"]
    with Receiver(mosquitto.port, answers=False) as receiver:
        status, result, _ = published(tmp_path, mosquitto.port, *flags, "--drain", "15")
        receiver.wait_for(lambda r: len(r.payloads) >= result["sent"])
    assert (status, result["in_spool"]) == (1, 200)
    assert len(receiver.payloads) == result["sent"] == 50


def test_frames_that_nobody_heard_go_to_an_analyzer_as_soon_as_it_is_there(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    flags = ["--source", str(folder), "--limit", "5", "--fps", "100", "--receipt-timeout", "600", "--drain", "120"]
    # with 3.1.1, which it would try with a broker that is slow to answer, nobody tells it
    with publishing(tmp_path, mosquitto.port, *flags, POSTURE_MQTT_PROTOCOL="5") as camera:
        assert camera.stderr is not None
        while "nobody subscribes to images/pi1" not in camera.stderr.readline():
            pass
        with Receiver(mosquitto.port) as receiver:
            receiver.say_online()
            status, result, _ = result_of(camera)
    assert (status, result["receipted"]) == (0, 5)
    assert receiver.ids == ids_of(result, 5)


def test_a_broker_that_never_answers_costs_no_picture(tmp_path: Path, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        flags = ["--source", str(folder), "--loop", "--fps", "20", "--limit", "60", "--drain", "0"]
        status, result, _ = published(tmp_path, silent.getsockname()[1], *flags)
        at_the_end = datetime.now(timezone.utc)
    assert (status, result["captured"], result["in_spool"]) == (1, 60, 60)
    times = [
        frame.identify(path.read_bytes(), {}).captured_at for path in sorted((tmp_path / "spool").glob("*.jpg"))
    ]
    gaps = [(after - before).total_seconds() for before, after in itertools.pairwise(times)]
    assert max(gaps) < ANSWER_S, "a picture every 0.05 s, also while the broker is waited for"
    # two protocols are tried, each for so long, and the pictures take 3 s
    assert (at_the_end - times[-1]).total_seconds() < ANSWER_S, "and the end is not waited for, either"


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_ends_the_capture_and_what_is_on_its_way_still_gets_its_receipt(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path, number: signal.Signals
) -> None:
    flags = ["--source", str(folder), "--loop", "--fps", "50", "--drain", "240"]
    with Receiver(mosquitto.port) as receiver, publishing(tmp_path, mosquitto.port, *flags) as camera:
        receiver.wait_for(lambda r: len(r.payloads) >= 20)
        camera.send_signal(number)
        status, result, log = result_of(camera)
    assert status == 0
    assert result["captured"] == result["receipted"] == len(receiver.ids) >= 20
    assert f"captured {result['captured']}, sent {result['sent']}" in log, "a progress line"


def test_a_second_signal_ends_the_wait_for_receipts(mosquitto: Mosquitto, tmp_path: Path, folder: Path) -> None:
    flags = ["--source", str(folder), "--loop", "--fps", "50", "--drain", "600"]
    with (
        Receiver(mosquitto.port, answers=False) as receiver,
        publishing(tmp_path, mosquitto.port, *flags) as camera,
    ):
        receiver.wait_for(lambda r: len(r.payloads) >= 10)
        camera.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            camera.wait(5)
        camera.send_signal(signal.SIGTERM)
        status, result, _ = result_of(camera)
    assert status == 1
    assert result["in_spool"] == result["captured"] > 0


# What is on the wire.


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_identity_is_in_the_picture_over_both_protocols_and_nothing_is_re_encoded(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path, protocol: str
) -> None:
    flags = ["--source", str(folder), "--fps", "200"]
    with Receiver(mosquitto.port) as receiver:
        _, result, log = published(tmp_path, mosquitto.port, *flags, POSTURE_MQTT_PROTOCOL=protocol)
    assert f"with MQTT {protocol}" in log
    identities = receiver.identities
    assert [identity.frame_id for identity in identities] == [f"pi1-{result['boot_id']}-{n}" for n in range(40)]
    assert [identity.seq for identity in identities] == list(range(40))
    assert {identity.boot_id for identity in identities} == {result["boot_id"]}
    assert all(identity.captured_at is not None and identity.source == "comment" for identity in identities)
    originals = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert all(
        payload.endswith(original[2:]) for payload, original in zip(receiver.payloads, originals, strict=True)
    )


def plain(colour: str) -> Image.Image:
    return Image.new("RGB", (60, 40), colour)


def test_pictures_that_are_no_jpeg_go_as_jpeg_and_what_is_no_picture_is_passed_over(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    source = tmp_path / "mixed"
    source.mkdir()
    (source / "1.png").write_bytes(encoded(plain("red"), "PNG"))
    (source / "2.jpg").write_bytes(b"")
    (source / "3.JPEG").write_bytes(encoded(plain("lime"), "JPEG"))
    (source / "4.webp").write_bytes(encoded(plain("blue"), "WEBP"))
    (source / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (source / "6.txt").write_text("not looked at")
    with Receiver(mosquitto.port) as receiver:
        status, result, log = published(tmp_path, mosquitto.port, "--source", str(source), "--fps", "50")
    assert (status, result["captured"]) == (0, 3)
    assert [identity.seq for identity in receiver.identities] == [0, 1, 2]
    assert all(payload.startswith(frame.JPEG) for payload in receiver.payloads)
    colours = [decoding.decode(payload, frame.Limits(), 1280)[10, 10] for payload in receiver.payloads]
    assert np.abs(np.array(colours, int) - [(0, 0, 255), (0, 255, 0), (255, 0, 0)]).max() < 6
    assert "2.jpg" in log
    assert "5.png" in log
    assert "6.txt" not in log


def test_a_video_in_a_loop_gives_each_frame_an_id_of_its_own(mosquitto: Mosquitto, tmp_path: Path) -> None:
    clip = str(next((ROOT / "samples").glob("*.mp4")))
    frames = int(cv2.VideoCapture(clip).get(cv2.CAP_PROP_FRAME_COUNT))
    flags = ["--source", clip, "--loop", "--limit", str(frames + 10), "--fps", "500"]
    with Receiver(mosquitto.port) as receiver:
        status, result, _ = published(tmp_path, mosquitto.port, *flags)
    assert (status, result["captured"]) == (0, frames + 10)
    assert receiver.ids == ids_of(result, frames + 10)


def test_a_tilted_replay_turns_the_picture_to_and_fro(mosquitto: Mosquitto, tmp_path: Path) -> None:
    source = tmp_path / "line"
    source.mkdir()
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[:, 95:105] = 255
    cv2.imwrite(str(source / "line.png"), picture)
    flags = ["--source", str(source), "--loop", "--limit", "150", "--fps", "500", "--tilt", "20"]
    with Receiver(mosquitto.port) as receiver:
        status, _, _ = published(tmp_path, mosquitto.port, *flags)
    assert status == 0
    angles = []
    for payload in sorted(receiver.payloads, key=lambda payload: frame.identify(payload, {}).seq or 0):
        rows, columns = np.nonzero(decoding.decode(payload, frame.Limits(), 1280)[60:140, :, 0] > 128)
        angles.append(np.degrees(np.arctan(np.polyfit(rows, columns, 1)[0])))
    assert max(angles) == pytest.approx(20, abs=1.5)
    assert min(angles) == pytest.approx(-20, abs=1.5)
    assert max(abs(np.diff(angles))) < 1.5, "slowly"


def test_a_farms_prefix_stands_before_every_topic(mosquitto: Mosquitto, tmp_path: Path, folder: Path) -> None:
    with Receiver(mosquitto.port, prefix="hall/2/") as receiver:
        flags = ["--source", str(folder), "--limit", "3", "--prefix", "hall/2"]
        status, result, _ = published(tmp_path, mosquitto.port, *flags)
    assert (status, result["receipted"]) == (0, 3)
    assert receiver.ids == ids_of(result, 3)


def test_without_a_spool_frames_wait_for_the_broker_alone(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    with Receiver(mosquitto.port, answers=False) as receiver:
        flags = ["--source", str(folder), "--fps", "100", "--no-spool"]
        status, result, _ = published(tmp_path, mosquitto.port, *flags)
        receiver.wait_for(lambda r: len(r.payloads) == 40)
    assert (status, result["captured"], result["acknowledged"], result["receipted"]) == (0, 40, 40, 0)
    assert receiver.ids == ids_of(result, 40)
    assert not (tmp_path / "spool").exists()
    mosquitto.stop()
    status, result, log = published(tmp_path, mosquitto.port, *flags, "--drain", "0")
    assert (status, result["in_spool"]) == (1, 40)
    assert "40 frames were not acknowledged by the broker, and are lost" in log


# Brokers.


class OldBroker:
    """A broker that knows no MQTT 5: before it, a port that answers such a client in one of the ways they do."""

    def __init__(self, port: int, answer: bytes | None) -> None:
        self._behind, self._answer = port, answer
        self.levels: list[int] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()
        for held in self._held:
            held.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._held.append(client)
            hello = client.recv(4096)
            level = hello[hello.index(b"MQTT") + 4]
            self.levels.append(level)
            if level == 4:
                behind = socket.create_connection(("127.0.0.1", self._behind))
                behind.sendall(hello)
                self._held.append(behind)
                for source, target in ((client, behind), (behind, client)):
                    threading.Thread(target=self._copy, args=(source, target), daemon=True).start()
            elif self._answer is not None:
                client.sendall(self._answer)
                client.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"\x20\x02\x00\x01", id="refuses-as-3.1.1-does"),
        pytest.param(b"\x20\x03\x00\x84\x00", id="refuses-as-5-does"),
        pytest.param(b"", id="hangs-up"),
        pytest.param(None, id="says-nothing"),
    ],
)
def test_a_broker_without_mqtt_5_gets_3_1_1(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path, answer: bytes | None
) -> None:
    old = OldBroker(mosquitto.port, answer)
    with Receiver(mosquitto.port) as receiver:
        status, result, log = published(tmp_path, old.port, "--source", str(folder), "--limit", "10", "--fps", "50")
    old.close()
    assert status == 0, log
    assert old.levels[:2] == [5, 4]
    assert log.count("with MQTT 3.1.1") == 1
    assert receiver.ids == ids_of(result, 10)


def test_wrong_credentials_end_it_and_name_the_setting(tmp_path: Path, folder: Path) -> None:
    broker = Mosquitto(tmp_path / "closed", allow_anonymous="false")
    broker.start()
    settings = {"POSTURE_MQTT_USERNAME": "pi1", "POSTURE_MQTT_PASSWORD": "secret-1"}
    status, _, log = published(tmp_path, broker.port, "--source", str(folder), **settings)
    broker.stop()
    assert status == 2
    assert "POSTURE_MQTT_USERNAME and POSTURE_MQTT_PASSWORD" in log
    assert "secret-1" not in log
    assert "Traceback" not in log


def test_a_user_whose_password_is_in_a_file_gets_in(tmp_path: Path, folder: Path) -> None:
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    passwords.touch(mode=0o600)
    secret.write_text("grass green\n")
    program = find_program("mosquitto_passwd", "mosquitto")
    subprocess.run([program, "-b", str(passwords), "pi1", "grass green"], check=True, capture_output=True)
    broker = Mosquitto(tmp_path / "closed", allow_anonymous="false", password_file=str(passwords))
    broker.start()
    settings = {"POSTURE_MQTT_USERNAME": "pi1", "POSTURE_MQTT_PASSWORD_FILE": str(secret)}
    flags = ["--source", str(folder), "--limit", "3", "--no-spool"]
    status, result, log = published(tmp_path, broker.port, *flags, **settings)
    broker.stop()
    assert (status, result.get("acknowledged")) == (0, 3), log


def test_tls_with_client_certificates(tmp_path: Path, folder: Path) -> None:
    files = tmp_path / "certificates"
    files.mkdir()
    make_certificates(files)
    broker = Mosquitto(
        tmp_path / "tls",
        cafile=str(files / "ca.pem"),
        certfile=str(files / "server.pem"),
        keyfile=str(files / "server.key"),
        require_certificate="true",
    )
    broker.start()
    address = f"mqtts://127.0.0.1:{broker.port}"
    flags = ["--source", str(folder), "--fps", "100", "--no-spool"]
    ours = ["--cert", str(files / "client.pem"), "--key", str(files / "client.key")]
    status, result, log = published(tmp_path, address, *flags, "--ca-file", str(files / "ca.pem"), *ours)
    assert (status, result.get("acknowledged")) == (0, 40), log
    status, _, log = published(tmp_path, address, *flags, *ours, "--fail-fast")
    assert status == 2, "an authority that we don't know"
    assert "certificate" in log
    missing = str(files / "nothing.pem")
    status, _, log = published(tmp_path, address, *flags, "--ca-file", missing)
    broker.stop()
    assert status == 2
    assert missing in log
    assert "Traceback" not in log


def test_a_frame_that_the_broker_would_not_take_is_dropped_and_the_others_go(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "small", max_packet_size="20000")
    broker.start()
    source = tmp_path / "sizes"
    source.mkdir()
    for number, side in enumerate((60, 400, 60)):
        (source / f"{number}.jpg").write_bytes(noise_jpeg(number, side, side))
    with Receiver(broker.port) as receiver:
        # 3.1.1, which it would try with a broker that is slow to answer, knows no largest packet
        settings = {"POSTURE_MQTT_PROTOCOL": "5"}
        status, result, log = published(tmp_path, broker.port, "--source", str(source), **settings)
    broker.stop()
    assert (status, result["receipted"], result["dropped"]) == (1, 2, 1)
    assert "larger than the broker takes" in log
    assert [identity.seq for identity in receiver.identities] == [0, 2]


def test_a_broker_that_is_away_ends_it_with_fail_fast_only(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    mosquitto.stop()
    status, _, log = published(tmp_path, mosquitto.port, "--source", str(folder), "--fail-fast")
    assert status == 2
    assert "Connection refused" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("192.0.2.1", Broker("192.0.2.1", 1883, False)),
        ("broker.example:1884", Broker("broker.example", 1884, False)),
        ("mqtt://broker.example", Broker("broker.example", 1883, False)),
        ("mqtts://broker.example", Broker("broker.example", 8883, True)),
        ("mqtts://[2001:db8::1]:1", Broker("2001:db8::1", 1, True)),
    ],
    ids=["host", "host-port", "mqtt", "mqtts", "ipv6"],
)
def test_a_brokers_address_is_understood(url: str, broker: Broker) -> None:
    assert parse_broker(url) == broker


# The spool.


def test_a_full_spool_drops_the_oldest_and_says_so(mosquitto: Mosquitto, tmp_path: Path, folder: Path) -> None:
    flags = ["--source", str(folder), "--fps", "200", "--drain", "0", "--spool-bytes", "100000"]
    status, result, log = published(tmp_path, mosquitto.port, *flags)
    kept = sorted((tmp_path / "spool").iterdir())
    assert status == 1
    assert result["dropped"] == 40 - len(kept) > 0
    assert f"{result['dropped']} frames were dropped" in log
    assert sum(path.stat().st_size for path in kept) <= 100_000
    assert frame.identify(kept[-1].read_bytes(), {}).seq == 39


def test_frames_that_the_spool_has_dropped_do_not_hold_up_those_that_follow(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    flags = ["--source", str(folder), "--loop", "--limit", "200", "--fps", "200", "--spool-bytes", "300000"]
    with Receiver(mosquitto.port, answers=False) as receiver:
        patient = ["--drain", "15", "--receipt-timeout", "600"]
        _, result, _ = published(tmp_path, mosquitto.port, *flags, *patient)
        receiver.wait_for(lambda r: len(r.payloads) >= result["sent"])
    assert result["dropped"] > 100
    assert receiver.identities[-1].seq == 199


def test_two_cameras_never_share_a_spool(mosquitto: Mosquitto, tmp_path: Path, folder: Path) -> None:
    flags = ["--source", str(folder), "--loop"]
    with Receiver(mosquitto.port) as receiver, publishing(tmp_path, mosquitto.port, *flags):
        receiver.wait_for(lambda r: bool(r.payloads))
        status, _, log = published(tmp_path, mosquitto.port, *flags)
    assert status == 2
    assert f"{tmp_path / 'spool'}: another publisher has it" in log


# Cameras in the network.

OURS = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z [A-Z]+ [\w.]+: |captured |error: |\d+ frames ")
"""How each line of the program's own begins."""


@pytest.fixture
def shown(folder: Path, tmp_path: Path) -> Path:
    """The same pictures, of a size that RTP's JPEG takes."""
    pictures = tmp_path / "shown"
    pictures.mkdir()
    for path in folder.iterdir():
        small = cv2.resize(cv2.imread(str(path)), (320, 240))
        cv2.imwrite(str(pictures / path.name), small)
    return pictures


def test_an_rtsp_camera_that_goes_and_comes_back_is_published_and_no_native_noise_is_seen(
    mosquitto: Mosquitto, tmp_path: Path, shown: Path
) -> None:
    rtsp = RtspCamera(tmp_path, shown, user="viewer", password="p@ss/w?rd")  # noqa: S106
    rtsp.start()
    secrets = {"POSTURE_CAMERA_USERNAME": "viewer", "POSTURE_CAMERA_PASSWORD": "p@ss/w?rd"}
    flags = ["--source", rtsp.url, "--fps", "20", "--limit", "40"]
    with (
        Receiver(mosquitto.port) as receiver,
        publishing(tmp_path, mosquitto.port, *flags, **secrets) as camera,
    ):
        receiver.wait_for(lambda r: len(r.ids) >= 5)
        rtsp.kill()
        assert camera.stderr is not None
        lines = list(iter_until(camera.stderr, "next try in"))
        rtsp.start()
        status, result, log = result_of(camera)
        rtsp.stop()
    log = "".join(lines) + log
    assert status == 0, log
    assert (result["captured"], result["receipted"]) == (40, 40)
    assert all(OURS.match(line) for line in log.splitlines()), log
    assert not re.search("p@ss|p%40", log)


def iter_until(lines: Iterable[str], text: str) -> Iterator[str]:
    for line in lines:
        yield line
        if text in line:
            return


def test_an_mjpeg_camera_is_published_byte_by_byte(mosquitto: Mosquitto, tmp_path: Path) -> None:
    pictures = clip_jpegs(20)

    def parts() -> Iterator[bytes]:
        for picture in itertools.cycle(pictures):
            yield part(picture)
            time.sleep(0.02)

    flags = ["--limit", "10", "--fps", "100"]
    secrets = {"POSTURE_CAMERA_USERNAME": "viewer", "POSTURE_CAMERA_PASSWORD": "p@ss/w?rd"}
    with (
        HttpCamera(stream(parts), user="viewer", password="p@ss/w?rd", digest=True) as camera,  # noqa: S106
        Receiver(mosquitto.port) as receiver,
    ):
        status, result, log = published(tmp_path, mosquitto.port, "--source", camera.url, *flags, **secrets)
    assert (status, result["receipted"]) == (0, 10), log
    # the comment with the frame's identity is all that is new
    originals = {picture[-1000:] for picture in pictures}
    assert all(payload[-1000:] in originals for payload in receiver.payloads)


@pytest.mark.parametrize("kind", ["rtsp", "http"])
def test_a_camera_that_refuses_our_password_ends_with_one_error_and_status_2(
    mosquitto: Mosquitto, tmp_path: Path, shown: Path, kind: str
) -> None:
    secrets = {"POSTURE_CAMERA_USERNAME": "viewer", "POSTURE_CAMERA_PASSWORD": "hush/hush"}
    with contextlib.ExitStack() as stack:
        if kind == "rtsp":
            rtsp = RtspCamera(tmp_path, shown, user="viewer", password="right")  # noqa: S106
            rtsp.start()
            stack.callback(rtsp.stop)
            url = rtsp.url
        else:
            answer = snapshot(noise_jpeg(1, 32, 24))
            url = stack.enter_context(HttpCamera(answer, user="viewer", password="right")).url  # noqa: S106
        status, result, log = published(tmp_path, mosquitto.port, "--source", url, **secrets)
    assert (status, result["captured"]) == (2, 0)
    (said,) = [line for line in log.splitlines() if line.startswith("error: ")]
    assert url in said
    assert "401" in said
    assert all(OURS.match(line) for line in log.splitlines()), log
    assert "hush" not in log


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_camera_that_is_away_is_waited_for_until_the_program_is_stopped(
    mosquitto: Mosquitto, tmp_path: Path, scheme: str
) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}/stream"
    with publishing(tmp_path, mosquitto.port, "--source", url) as camera:
        assert camera.stderr is not None
        lines = [*iter_until(camera.stderr, "next try in"), *iter_until(camera.stderr, "next try in")]
        camera.send_signal(signal.SIGTERM)
        status, result, log = result_of(camera)
    assert (status, result["captured"]) == (0, 0)
    assert sum("refused" in line.lower() for line in lines) >= 2
    assert all(OURS.match(line) for line in [*lines, *log.splitlines()]), lines


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_with_fail_fast_a_camera_that_is_away_is_an_error(
    mosquitto: Mosquitto, tmp_path: Path, scheme: str
) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}/stream"
    status, _, log = published(tmp_path, mosquitto.port, "--source", url, "--fail-fast")
    assert status == 2
    assert f"error: --source {url}: " in log


# A user's mistakes.


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        *(
            (["--source", url], "--source")
            for url in (
                "rtsp://me:mine@127.0.0.1/s", "rtsp://me:1/mine@127.0.0.1", "http://me:p@mine@127.0.0.1/",
                "https://me:#mine@127.0.0.1", "ftp://me:mine@127.0.0.1", "rtsp://", "http://127.0.0.1:port/",
                "rtsp://[::1/", "http://127.0.0.1:0/", "rtsps://127.0.0.1/", "99999999999999999999", "x" * 5000,
            )
        ),
        (["--source", "/no/such/folder"], "/no/such/folder"),
        (["--source", str(ROOT / "scenarios")], "has no picture"),
        (["--source", str(ROOT / "LICENSE")], "LICENSE"),
        (["--source", "77"], "webcam"),
        (["--source", "picamera"], "picamera2"),
        (["--broker", "mqtt://:70000"], "port"),
        (["--broker", "http://127.0.0.1"], "mqtts://host:port"),
        (["--broker", "mqtt://me:mine@127.0.0.1"], "POSTURE_MQTT_PASSWORD"),
        (["--broker", "mqtt://127.0.0.1:0"], "mqtts://host:port"),
        (["--prefix", "a/#"], "a/#"),
        (["--prefix", "a//b"], "a//b"),
        (["--pi-id", "Pi/1"], "Pi/1"),
        (["--fps", "0"], "--fps"),
        (["--limit", "1.5"], "--limit"),
        (["--spool-bytes", "-1"], "--spool-bytes"),
        (["--drain", "nan"], "--drain"),
    ],
    ids=[
        "password-rtsp", "password-with-a-slash", "password-with-an-at", "password-with-a-hash", "password-ftp",
        "no-host", "no-port", "no-bracket", "port-0-of-a-camera", "no-verified-tls", "no-webcams-number",
        "no-files-name",
        "no-folder", "no-pictures", "no-video", "no-webcam", "no-picamera2", "bad-port", "bad-scheme", "password",
        "port-0", "bad-prefix", "empty-part-of-a-prefix", "bad-name",
        "bad-fps", "bad-limit", "bad-bytes", "bad-drain",
    ],
)  # fmt: skip
def test_a_users_mistake_is_one_clear_error_and_status_2(tmp_path: Path, flags: list[str], said: str) -> None:
    status, _, log = published(tmp_path, free_port(), *flags)
    assert status == 2
    assert said in log
    assert "accepted" in log or "belong" in log or "apt-get" in log
    assert "mine" not in log
    assert "Traceback" not in log


def test_a_folder_of_which_nothing_can_be_read_is_an_error(mosquitto: Mosquitto, tmp_path: Path) -> None:
    source = tmp_path / "broken"
    source.mkdir()
    (source / "1.png").write_bytes(b"nothing")
    status, result, log = published(tmp_path, mosquitto.port, "--source", str(source), "--loop")
    assert (status, result["captured"]) == (2, 0)
    assert str(source) in log
    assert "accepted" in log
