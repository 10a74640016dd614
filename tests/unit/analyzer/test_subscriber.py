"""What brokers and strangers do to an analyzer: poison, refusals, retained pictures; all of it real."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm import START_S, Analyzer, Camera, Watcher, clip_jpegs, ended
from raw_mqtt import EndingProxy, RawClient, StrangeBroker, packet, publish, user_property
from servers import Mosquitto
from watching import wait_for

from posture.analyzer import takeover
from posture.analyzer.takeover import Owner, is_superseded
from posture.runtime import Stop
from posture.settings.table import Mqtt

FEFF = "\ufeff".encode()
POISON = publish(b"images/pi1", b"poison", user_property(b"who", FEFF))
PLUGIN = "mosquitto_dynamic_security.so"


@pytest.fixture
def watcher(mosquitto: Mosquitto) -> Iterator[Watcher]:
    watching = Watcher(mosquitto.port)
    yield watching
    watching.close()


def account(watcher: Watcher) -> dict[str, object]:
    return dict(watcher.retained["account/pi1"])


def send(port: int, *packets: bytes) -> None:
    raw = RawClient(port)
    for one in packets:
        raw.send(one)
    raw.close()


@pytest.mark.parametrize("waiting", [False, True], ids=["live", "waiting in the session"])
def test_a_message_that_the_library_refuses_is_named_and_counted_and_the_frames_behind_it_arrive(
    mosquitto: Mosquitto, watcher: Watcher, tmp_path: Path, waiting: bool
) -> None:
    analyzer, camera = Analyzer(tmp_path, mosquitto.port), Camera(mosquitto.port)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        if waiting:
            assert analyzer.stop() == 0
        send(mosquitto.port, POISON, publish(b"images/pi1", clip_jpegs(1)[0], user_property(FEFF, b"x")))
        for jpeg in clip_jpegs(5):
            camera.publish_now(jpeg)
        if waiting:
            analyzer.start().wait_online(watcher)
        watcher.wait_for(lambda w: w.receipts >= set(camera.published))
        watcher.wait_for(lambda w: (w.retained.get("account/pi1") or {}).get("rows") == 7)
        assert analyzer.stop() == 0
    log = analyzer.log.read_text()
    assert "malformed message on images/pi1" in log
    assert "70 6f 69 73 6f 6e" in log
    assert account(watcher)["malformed"] == 2
    others = [row for row in analyzer.rows() if row["frame_id"] not in camera.published]
    rejected = account(watcher)["rejected"]
    assert [row["reason"] for row in others if row["reason"] in rejected] == list(rejected), (
        "the other has a picture"
    )
    assert log.count("connected to") == (2 if waiting else 1)
    camera.close()


def test_retained_pictures_are_no_sign_of_life(mosquitto: Mosquitto, watcher: Watcher, tmp_path: Path) -> None:
    send(
        mosquitto.port,
        publish(b"images/pi1", clip_jpegs(1)[0], retain=True),
        publish(b"images/pi2", b"poison", user_property(b"who", FEFF), retain=True),
    )
    first = Analyzer(tmp_path, mosquitto.port, POSTURE_ANALYZER_SILENT_AFTER_S="1")
    second = Analyzer(tmp_path / "second", mosquitto.port, pi=2)
    second.folder.mkdir()
    with ended(first, second):
        first.start()
        second.start()
        first.wait_for_log("retained message on images/pi1")
        second.wait_for_log("malformed message on images/pi2")
        watcher.wait_for(lambda w: (w.retained.get("camera/pi1") or {}).get("state") == "silent")
        watcher.wait_for(lambda w: (w.retained.get("posture/pi1/state") or {}).get("reason") == "camera_silent")
        assert (first.stop(), second.stop()) == (0, 0)
    assert first.rows() == second.rows() == []
    assert json.loads(first.log.read_text().rsplit("account of pi1: ", 1)[1].splitlines()[0])["passed_over"] == {
        "retained": 1
    }


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that takes everybody and lets nobody subscribe."""
    plugin = next(Path("/usr/lib").glob(f"*/{PLUGIN}"), None)
    if plugin is None:
        reason = f"needs {PLUGIN}, which comes with mosquitto"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    config = tmp_path / "security.json"
    allowed = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    config.write_text(json.dumps({"defaultACLAccess": allowed, "clients": [], "groups": [], "roles": []}))
    broker = Mosquitto(tmp_path / "refusing", plugin=str(plugin), plugin_opt_config_file=str(config))
    broker.start()
    yield broker
    broker.stop()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_refused_subscription_is_said_with_its_topic_and_reason(
    refusing: Mosquitto, tmp_path: Path, protocol: str
) -> None:
    analyzer = Analyzer(tmp_path, refusing.port, POSTURE_MQTT_PROTOCOL=protocol)
    with ended(analyzer):
        analyzer.start()
        analyzer.wait_for_log("refuses the subscription to images/pi1: ")
        analyzer.wait_for_log("next try in")
        assert analyzer.stop() == 0
        analyzer.start("--fail-fast")
        assert analyzer.process is not None
        assert analyzer.process.wait(START_S) == 2
    assert analyzer.log.read_text().splitlines()[-1].startswith("error: broker mqtt://127.0.0.1")


def test_a_calibration_whose_subscription_is_refused_ends_at_once_with_the_reason(
    refusing: Mosquitto, tmp_path: Path
) -> None:
    analyzer = Analyzer(tmp_path, refusing.port)
    with ended(analyzer):
        analyzer.start("--calibrate")
        assert analyzer.process is not None
        assert analyzer.process.wait(START_S) == 2
    assert "refuses the subscription to images/pi1: " in analyzer.log.read_text().splitlines()[-1]


@pytest.mark.usefixtures("patience")
def test_that_it_cannot_be_known_who_has_the_stream_is_said(
    refusing: Mosquitto, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "WATCH_S", 60.0)  # until it is said
    settings, stop = Mqtt(url=f"mqtt://127.0.0.1:{refusing.port}"), Stop()
    ours = Owner("ours", "2026-11-24T12:00:00", online=True)

    def stop_once_it_is_said() -> None:
        wait_for(lambda: bool(caplog.messages))
        stop.request()

    waiting = threading.Thread(target=stop_once_it_is_said)
    waiting.start()
    assert not is_superseded(ours, "status/pi1", settings, "auto", "looking", stop)
    waiting.join()
    (line,) = caplog.messages
    assert "refuses the subscription to status/pi1: " in line


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_qos": "0"}, "QoS"),
        ({"retain_available": "false"}, "retains no messages"),
    ],
    ids=["QoS lowered", "nothing retained"],
)
def test_what_the_broker_can_do_less_well_is_said(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    broker = Mosquitto(tmp_path / "broker", **settings)
    broker.start()
    camera, watcher = Camera(broker.port), Watcher(broker.port)
    analyzer = Analyzer(tmp_path, broker.port, POSTURE_MQTT_PROTOCOL="5")
    try:
        with ended(analyzer):
            watcher.wait_for(lambda w: w.subscribed)  # what is not retained it gets live, or never
            analyzer.start().wait_for_log(said)
            if "retain_available" in settings:
                analyzer.wait_online(watcher)
                camera.publish_now(clip_jpegs(1)[0])
                watcher.wait_for(lambda w: w.receipts >= set(camera.published))
            assert analyzer.stop() == 0
    finally:
        camera.close()
        watcher.close()
        broker.stop()


def test_a_broker_that_ends_every_connection_is_asked_a_few_times_a_minute(tmp_path: Path) -> None:
    broker = StrangeBroker(b"\x90\x04\x00\x01\x00\x01", close=True)
    analyzer = Analyzer(tmp_path, broker.port, POSTURE_MQTT_PROTOCOL="5")
    with ended(analyzer):
        analyzer.start().wait_for_log("connection lost")
        assert analyzer.process is not None
        with pytest.raises(subprocess.TimeoutExpired):
            analyzer.process.wait(4)
        assert broker.connections <= 6
        wait_for(lambda: broker.connections >= 2)
        assert analyzer.stop() == 0
    broker.close()


def test_a_message_of_ours_over_which_connections_end_is_dropped_and_the_stream_goes_on(
    mosquitto: Mosquitto, watcher: Watcher, tmp_path: Path
) -> None:
    proxy = EndingProxy(mosquitto.port, lambda data: b"committed/pi1" in data)
    analyzer, camera = Analyzer(tmp_path, proxy.port), Camera(mosquitto.port)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        camera.publish_now(clip_jpegs(1)[0])
        analyzer.wait_for_log("connections ended over a message for committed/pi1; dropped", 60)
        assert analyzer.stop() == 0
    assert len(analyzer.rows()) == 1
    proxy.close()
    camera.close()


def test_a_broker_whose_words_are_no_mqtt_is_named_with_what_it_said(tmp_path: Path) -> None:
    broker = StrangeBroker(packet(0x90, b"\x00\x01\x01\xff"))
    analyzer = Analyzer(tmp_path, broker.port, POSTURE_MQTT_PROTOCOL="5")
    with ended(analyzer):
        analyzer.start().wait_for_log("the broker sent a malformed packet")
        assert analyzer.stop() == 0
    assert "Traceback" not in analyzer.log.read_text()
    broker.close()
