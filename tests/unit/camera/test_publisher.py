"""A frame leaves the camera's queue with its receipt, and only then; a real Mosquitto takes the frames."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from farm import noise_jpeg
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from raw_mqtt import EndingProxy, RawClient, publish, user_property
from servers import Mosquitto, free_port
from watching import wait_for

from posture.camera.publisher import WINDOW, Publisher
from posture.camera.spool import Memory, Spool
from posture.errors import UserError
from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.wire import frame
from posture.wire.receipts import ANNOUNCED, receipt

JPEGS = [noise_jpeg(seed, 32, 24) for seed in range(5)]
LONG_S = 20.0


def hashed(payload: bytes) -> dict[str, list[str]]:
    return receipt([(frame.identify(payload, {}).frame_id, hashlib.sha256(payload).hexdigest())])


def of_another_picture(payload: bytes) -> dict[str, list[str]]:
    return receipt([(frame.identify(payload, {}).frame_id, hashlib.sha256(payload + b"other").hexdigest())])


def without_hash(payload: bytes) -> dict[str, list[str]]:
    return {"ids": hashed(payload)["ids"]}


class Confirming:
    """An analyzer's place: takes frames of pi1, and sends a receipt for each."""

    def __init__(self, port: int) -> None:
        self.identities: list[frame.Identity] = []
        self.confirm: Callable[[bytes], dict[str, list[str]]] = without_hash
        """Makes the receipt for a frame."""
        subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="confirming")
        self._client.on_connect = lambda client, *_: client.subscribe("images/pi1", qos=1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(LONG_S)

    def _on_message(self, client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        identity = frame.identify(message.payload, {})
        self.identities.append(identity)
        client.publish("committed/pi1", json.dumps(self.confirm(message.payload)), qos=1)

    def leave(self, topic: str, payload: bytes) -> None:
        """Publish a retained message, and wait until the broker has it."""
        self._client.publish(topic, payload, qos=1, retain=True).wait_for_publish(LONG_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def analyzer(mosquitto: Mosquitto) -> Iterator[Confirming]:
    confirming = Confirming(mosquitto.port)
    yield confirming
    confirming.close()


def publisher(port: int, waiting: Memory, *, receipts: bool = True, fail_fast: bool = False) -> Publisher:
    settings = Mqtt(url=f"mqtt://127.0.0.1:{port}")
    return Publisher(
        settings, "pi1", waiting, Stop(), receipts=receipts, receipt_timeout_s=LONG_S, fail_fast=fail_fast
    )


def film(camera: Publisher, frames: Iterator[bytes], *, limit: int | None = None, drain_s: float = LONG_S) -> bool:
    return camera.run(frames, fps=200.0, limit=limit, drain_s=drain_s, show=lambda: None)


def test_frames_are_numbered_from_0_within_one_boot_and_leave_the_queue_with_their_receipts(
    mosquitto: Mosquitto, analyzer: Confirming
) -> None:
    waiting = Memory(10**6, 1000.0)
    camera = publisher(mosquitto.port, waiting)
    assert film(camera, iter(JPEGS))
    assert len(waiting) == 0
    assert (camera.captured, camera.sent, camera.receipted, camera.resent) == (5, 5, 5, 0)
    assert [(identity.seq, identity.boot_id) for identity in analyzer.identities] == [
        (seq, camera.boot_id) for seq in range(5)
    ]


def test_without_an_analyzer_frames_stay_in_the_queue_and_go_with_the_next_publisher(mosquitto: Mosquitto) -> None:
    waiting = Memory(10**6, 1000.0)
    first = publisher(mosquitto.port, waiting)

    def frames() -> Iterator[bytes]:
        yield from JPEGS
        wait_for(lambda: first.acknowledged >= 5)  # the broker has none left that it could show to the analyzer

    assert not film(first, frames(), drain_s=0.5)
    assert (len(waiting), first.receipted) == (5, 0)
    analyzer = Confirming(mosquitto.port)
    assert film(publisher(mosquitto.port, waiting), iter(()))
    assert [identity.seq for identity in analyzer.identities] == list(range(5))
    analyzer.close()


def test_where_no_receipts_are_asked_for_the_brokers_acknowledgement_is_enough(mosquitto: Mosquitto) -> None:
    waiting = Memory(10**6, 1000.0)
    camera = publisher(mosquitto.port, waiting, receipts=False)
    assert film(camera, iter(JPEGS))
    assert (len(waiting), camera.acknowledged, camera.receipted) == (0, 5, 0)


@pytest.mark.parametrize(
    "payload",
    [b"\xff", b"7", b"[]", b"{}", b"null", b'{"ids": 7}', pytest.param(b"[" * 100_000, id="deeply-nested")],
)
def test_receipts_and_states_that_cannot_be_read_confirm_nothing_and_stop_nothing(
    mosquitto: Mosquitto, analyzer: Confirming, payload: bytes
) -> None:
    analyzer.leave("committed/pi1", payload)
    analyzer.leave("status/pi1", payload)
    camera = publisher(mosquitto.port, Memory(10**6, 1000.0))
    assert film(camera, iter(JPEGS))
    assert camera.receipted == 5


def test_the_capture_ends_at_its_limit(mosquitto: Mosquitto, analyzer: Confirming) -> None:
    camera = publisher(mosquitto.port, Memory(10**6, 1000.0))
    assert film(camera, iter(JPEGS), limit=3)
    assert (camera.captured, len(analyzer.identities)) == (3, 3)


def test_a_source_that_fails_is_remembered_and_what_it_gave_before_still_arrives(
    mosquitto: Mosquitto, analyzer: Confirming
) -> None:
    def failing() -> Iterator[bytes]:
        yield from JPEGS[:2]
        raise UserError("unplugged")

    camera = publisher(mosquitto.port, Memory(10**6, 1000.0))
    assert film(camera, failing())
    assert str(camera.source_error) == "unplugged"
    assert len(analyzer.identities) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_source_that_fails_in_a_way_that_nobody_has_foreseen_is_no_success(
    mosquitto: Mosquitto, analyzer: Confirming
) -> None:
    def frames() -> Iterator[bytes]:
        yield noise_jpeg(1, 32, 24)
        raise ZeroDivisionError

    camera = publisher(mosquitto.port, Memory(10**9, 3600))
    film(camera, frames())
    assert camera.receipted == 1
    assert camera.source_error is not None


def test_a_frame_that_is_larger_than_the_queue_is_dropped_and_the_others_go(
    mosquitto: Mosquitto, analyzer: Confirming
) -> None:
    waiting = Memory(30_000, 1000.0)
    camera = publisher(mosquitto.port, waiting)
    assert film(camera, iter([JPEGS[0], noise_jpeg(9, 400, 400), JPEGS[1]]))
    assert (camera.captured, camera.receipted, waiting.dropped) == (3, 2, 1)
    assert [identity.seq for identity in analyzer.identities] == [0, 2]


def test_a_broker_that_is_away_is_the_end_only_with_fail_fast_and_costs_no_frame() -> None:
    waiting = Memory(10**6, 1000.0)
    with pytest.raises(UserError, match="Connection refused"):
        film(publisher(free_port(), waiting, fail_fast=True), iter(JPEGS))
    waiting = Memory(10**6, 1000.0)
    assert not film(publisher(free_port(), waiting), iter(JPEGS), drain_s=0.2)
    assert len(waiting) == 5


@pytest.mark.usefixtures("patience")
def test_a_frame_that_ends_connections_is_set_aside_and_the_frames_behind_it_arrive(
    mosquitto: Mosquitto, analyzer: Confirming
) -> None:
    bad = noise_jpeg(99, 32, 24)
    proxy = EndingProxy(mosquitto.port, lambda data: bad[40:] in data)
    waiting = Memory(10**6, 1000.0)
    camera = publisher(proxy.port, waiting)
    assert film(camera, iter([bad, *JPEGS]), drain_s=60.0)
    assert (camera.captured, camera.receipted, waiting.set_aside, len(waiting)) == (6, 5, 1, 0)
    assert proxy.connections <= 6
    assert camera.sent <= 20
    proxy.close()


def test_a_frame_that_is_too_large_for_a_broker_that_does_not_say_so_stops_no_other_frame(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "small", max_packet_size="5000")
    broker.start()
    confirming = Confirming(broker.port)
    waiting = Spool(tmp_path / "spool", 10**6, 1000.0)
    settings = Mqtt(url=f"mqtt://127.0.0.1:{broker.port}", protocol="3.1.1")
    camera = Publisher(settings, "pi1", waiting, Stop(), receipts=True, receipt_timeout_s=LONG_S, fail_fast=False)
    large = noise_jpeg(7, 320, 240)
    assert len(large) > 5000
    try:
        assert film(camera, iter([large, *JPEGS]), drain_s=60.0)
    finally:
        confirming.close()
        broker.stop()
        waiting.close()
    assert (camera.receipted, waiting.set_aside) == (5, 1)
    (kept,) = (tmp_path / "spool").glob("*.set-aside")
    assert kept.stat().st_size >= len(large)
    again = Spool(tmp_path / "spool", 10**6, 1000.0)
    assert len(again) == 0, "what was set aside is not taken up again"
    again.close()


def test_a_retained_message_that_cannot_be_parsed_does_not_hold_up_a_frame(
    mosquitto: Mosquitto, analyzer: Confirming
) -> None:
    raw = RawClient(mosquitto.port)
    for topic in (b"status/pi1", b"committed/pi1"):
        raw.send(publish(topic, b"{}", user_property(b"who", "\ufeff".encode()), retain=True))
    raw.close()
    camera = publisher(mosquitto.port, Memory(10**6, 1000.0))
    assert film(camera, iter(JPEGS))
    assert (camera.sent, camera.receipted) == (5, 5)


@pytest.mark.usefixtures("patience")
def test_a_broker_that_ends_every_connection_is_not_sent_the_same_frame_again_and_again(
    mosquitto: Mosquitto,
) -> None:
    proxy = EndingProxy(mosquitto.port, lambda data: b"images/pi1" in data)
    waiting = Memory(10**6, 1000.0)
    camera = publisher(proxy.port, waiting)
    assert not film(camera, iter(JPEGS), drain_s=5.0)
    assert (len(waiting), waiting.set_aside) == (5, 0)
    assert proxy.connections <= 6
    assert camera.sent <= 5 + 6
    proxy.close()


def test_a_receipt_for_another_picture_under_a_frames_id_deletes_nothing(
    mosquitto: Mosquitto, analyzer: Confirming, caplog: pytest.LogCaptureFixture
) -> None:
    analyzer.confirm = of_another_picture
    waiting = Memory(10**6, 1000.0)
    camera = publisher(mosquitto.port, waiting)

    def frames() -> Iterator[bytes]:
        yield from JPEGS
        wait_for(lambda: camera.refused_receipts == 5)

    assert not film(camera, frames(), drain_s=0.2)
    assert (len(waiting), camera.receipted, camera.refused_receipts) == (5, 0, 5)
    assert sum("a receipt on committed/pi1 is for another picture" in line for line in caplog.messages) == 1
    analyzer.confirm = hashed
    assert film(publisher(mosquitto.port, waiting), iter(())), "its own receipts let them go"


def test_a_receipt_for_a_frame_that_was_not_yet_sent_deletes_nothing(
    mosquitto: Mosquitto, analyzer: Confirming
) -> None:
    waiting = Memory(10**6, 1000.0)
    for number in range(WINDOW + 1):
        waiting.add(f"f{number}", frame.stamp(JPEGS[0], frame.Identity(f"f{number}")))
    analyzer.confirm = lambda _: {"ids": [f"f{WINDOW}"]}
    camera = publisher(mosquitto.port, waiting)

    def frames() -> Iterator[bytes]:
        wait_for(lambda: len(analyzer.identities) == WINDOW)
        yield from ()

    assert not film(camera, frames(), drain_s=1.0)
    assert (camera.sent, camera.receipted, len(waiting)) == (WINDOW, 0, WINDOW + 1)


@pytest.mark.parametrize("announced", [True, False], ids=["a new analyzer", "an older one"])
def test_receipts_without_a_hash_count_only_while_the_analyzer_gives_none(
    mosquitto: Mosquitto, analyzer: Confirming, announced: bool
) -> None:
    analyzer.confirm = without_hash
    status = {"state": "online", "instance": "i", "started": "s", **(ANNOUNCED if announced else {})}
    analyzer.leave("status/pi1", json.dumps(status).encode())
    waiting = Memory(10**6, 1000.0)
    camera = publisher(mosquitto.port, waiting)
    assert film(camera, iter(JPEGS), drain_s=1.0 if announced else LONG_S) != announced
    assert (camera.receipted, len(waiting)) == ((0, 5) if announced else (5, 0))


def test_strangers_who_say_that_a_new_analyzer_is_there_make_no_camera_send_again_and_again(
    mosquitto: Mosquitto,
) -> None:
    camera = publisher(mosquitto.port, Memory(10**6, 1000.0))
    stranger = RawClient(mosquitto.port)
    ended = threading.Event()

    def say_so() -> None:
        number = 0
        while not ended.wait(0.02):
            number += 1
            status = {"state": "online", "instance": f"i{number}", "started": ""}
            stranger.send(publish(b"status/pi1", json.dumps(status).encode()))

    saying = threading.Thread(target=say_so)
    saying.start()
    assert not film(camera, iter(JPEGS), drain_s=1.5)
    ended.set()
    saying.join()
    stranger.close()
    assert camera.sent <= 2 * len(JPEGS)


def test_a_flood_of_messages_that_cannot_be_read_does_not_fill_the_log(
    mosquitto: Mosquitto, analyzer: Confirming, caplog: pytest.LogCaptureFixture
) -> None:
    camera = publisher(mosquitto.port, Memory(10**6, 1000.0))
    stranger = RawClient(mosquitto.port)

    def frames() -> Iterator[bytes]:
        yield from JPEGS
        wait_for(lambda: camera.receipted == 5)  # it has subscribed
        poison = publish(b"status/pi1", b"{", user_property(b"who", "\ufeff".encode()))
        for _ in range(200):
            stranger.send(publish(b"status/pi1", b"{"))
            stranger.send(poison)
        yield JPEGS[0]

    assert film(camera, frames())
    stranger.close()
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert any("can't be read" in record.getMessage() for record in said)
    assert any("malformed message on status/pi1" in record.getMessage() for record in said)
    assert len(said) < 30
