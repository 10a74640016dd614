"""Connections as every program here makes them, to a real Mosquitto: sessions, refusals, and words for users."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from servers import Mosquitto, free_port

from posture.errors import UserError
from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.wire import mqtt
from posture.wire.mqtt import Broker, ConnectAnswer

LONG_S = 20.0
pytestmark = pytest.mark.usefixtures("patience")


def settings_for(port: int, **fields: str) -> Mqtt:
    return Mqtt(url=f"mqtt://127.0.0.1:{port}", **fields)


def never() -> bool:
    return False


def attempt(settings: Mqtt, protocol: str, *, keep_session: bool = False) -> tuple[paho.Client, ConnectAnswer]:
    client = mqtt.make_client("client", protocol, settings, keep_session=keep_session)
    return client, mqtt.handshake(client, settings, session_expiry_s=60 if keep_session else 0, give_up=never)


@pytest.mark.parametrize(
    ("url", "broker", "said"),
    [
        ("mqtt://pi", Broker("pi", 1883, tls=False), "mqtt://pi:1883"),
        ("mqtts://pi", Broker("pi", 8883, tls=True), "mqtts://pi:8883"),
        ("mqtt://10.0.0.7:1999", Broker("10.0.0.7", 1999, tls=False), "mqtt://10.0.0.7:1999"),
    ],
)
def test_a_brokers_port_is_that_of_its_url_or_the_usual_one(url: str, broker: Broker, said: str) -> None:
    assert mqtt.parse_broker(url) == broker
    assert str(broker) == said


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_session_is_kept_only_where_it_is_asked_for(mosquitto: Mosquitto, protocol: str) -> None:
    settings = settings_for(mosquitto.port)
    present = []
    for keep_session in (False, True, True, False, True):
        client, answer = attempt(settings, protocol, keep_session=keep_session)
        assert answer.accepted
        present.append(answer.session_present)
        mqtt.abandon(client)
    assert present == [False, False, True, False, False]


def test_what_the_broker_takes_is_known_from_its_answer(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "small", max_packet_size="5000", max_inflight_messages="7")
    broker.start()
    try:
        client, answer = attempt(settings_for(broker.port), "5")
        mqtt.abandon(client)
    finally:
        broker.stop()
    assert (answer.max_packet_bytes, answer.receive_maximum) == (5000, 7)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that knows one user, pi, with password right."""
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "pi", "right"], check=True)
    broker = Mosquitto(tmp_path / "guarded", allow_anonymous="false", password_file=str(passwords))
    broker.start()
    yield broker
    broker.stop()


@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
def test_refused_credentials_are_a_users_error_that_names_their_settings(guarded: Mosquitto, protocol: str) -> None:
    def connect(password: str) -> str:
        settings = settings_for(guarded.port, username="pi", password=password)
        broker = mqtt.parse_broker(settings.url)
        return mqtt.first_accepted(protocol, broker, lambda candidate: attempt(settings, candidate)[1])

    assert connect("right") == ("5" if protocol == "auto" else protocol)
    with pytest.raises(UserError, match=f"{guarded.port} refuses the credentials .*POSTURE_MQTT_PASSWORD"):
        connect("wrong")


def test_auto_takes_mqtt_3_1_1_where_the_broker_refuses_5_and_otherwise_says_why_it_was_not_taken() -> None:
    broker = Broker("pi", 1883, tls=False)
    answers = {"5": ConnectAnswer(refused="unsupported protocol version"), "3.1.1": ConnectAnswer(accepted=True)}
    assert mqtt.first_accepted("auto", broker, answers.__getitem__) == "3.1.1"
    with pytest.raises(ConnectionError, match="unsupported protocol version"):
        mqtt.first_accepted("5", broker, answers.__getitem__)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Somebody who takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_broker_that_never_answers_is_given_up_in_time(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.2)
    began = time.monotonic()
    _, answer = attempt(settings_for(silent_port), "5")
    assert (answer.accepted, answer.refused) == (False, "no answer to CONNECT")
    assert time.monotonic() - began < LONG_S


def test_a_broker_that_is_not_there_is_an_error_in_a_few_words() -> None:
    with pytest.raises(OSError, match="refused") as caught:
        attempt(settings_for(free_port()), "5")
    assert mqtt.explain(caught.value) == "Connection refused"
    assert mqtt.explain(socket.gaierror(-2, "Name or service not known")) == "no such host"
    assert mqtt.explain(TimeoutError("timed out")) == "no answer"


def test_a_tls_file_that_cannot_be_read_is_a_users_error_that_names_it(tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.pem")
    with pytest.raises(UserError, match=r"mqtt\.ca_file.*ca\.pem"):
        mqtt.make_client("client", "5", Mqtt(url="mqtts://pi", ca_file=missing), keep_session=False)


def test_a_wake_up_ends_a_turn_and_without_an_open_socket_there_is_nothing_to_wait_for(
    mosquitto: Mosquitto,
) -> None:
    client, _ = attempt(settings_for(mosquitto.port), "5")
    stop, began = Stop(), time.monotonic()
    stop.wake()
    assert not mqtt.turn(client, stop, timeout_s=LONG_S)
    mqtt.abandon(client)
    assert not mqtt.turn(client, stop, timeout_s=LONG_S)
    assert time.monotonic() - began < LONG_S


def test_a_turn_that_does_not_read_leaves_what_has_arrived_in_the_socket(mosquitto: Mosquitto) -> None:
    client, _ = attempt(settings_for(mosquitto.port), "5")
    stop, got = Stop(), threading.Event()
    client.on_message = lambda *_: got.set()
    client.publish("topic", b"payload", retain=True)
    client.subscribe("topic")
    for _ in range(5):
        assert not mqtt.turn(client, stop, read=False, timeout_s=0.05)
    assert not got.is_set()
    deadline = time.monotonic() + LONG_S
    while not got.is_set() and time.monotonic() < deadline:
        mqtt.turn(client, stop, timeout_s=0.5)
    assert got.is_set()
    mqtt.abandon(client)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_of_a_connection_that_ends_without_a_word_no_error_is_told_that_nobody_has_sent(
    mosquitto: Mosquitto, protocol: str
) -> None:
    client, _ = attempt(settings_for(mosquitto.port), protocol)
    told: list[str] = []
    client.on_disconnect = lambda *args: told.append(mqtt.reason_text(args[3], args[4]))
    mosquitto.kill()
    deadline = time.monotonic() + LONG_S
    while not told and time.monotonic() < deadline:
        mqtt.turn(client, Stop(), timeout_s=0.5)
    assert told == ["closed without a reason"]


def test_a_reason_that_the_broker_gives_is_told() -> None:
    for packet, reason in (
        (PacketTypes.DISCONNECT, "Server shutting down"),
        (PacketTypes.CONNACK, "Unspecified error"),
    ):
        assert mqtt.reason_text(ReasonCode(packet, reason)) == reason
