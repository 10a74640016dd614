"""What the analyzers of a farm say of themselves, against a real Mosquitto."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from identities import Client, credentials, guarded_mosquitto, retained
from raw_mqtt import StrangeBroker
from servers import Mosquitto

from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.wire import statuses
from posture.wire.identities import provision
from posture.wire.statuses import Status


def said(delegate: str, state: str = "online") -> bytes:
    return json.dumps({"state": state, "delegate": delegate}).encode()


@pytest.mark.usefixtures("patience")
def test_every_streams_status_is_read_and_what_is_none_is_passed_over(mosquitto: Mosquitto) -> None:
    payloads = (said("gpu"), said("cpu", "offline"), said("a toaster"), b"[" * 100_000, b"7", b"{}", b"")
    retained(mosquitto.port, {f"status/pi{number}": payload for number, payload in enumerate(payloads, 1)})
    found = statuses.read_all(Mqtt(url=f"mqtt://127.0.0.1:{mosquitto.port}"), "auto", Stop())
    assert found == {"pi1": Status(True, "gpu"), "pi2": Status(False, "cpu"), "pi3": Status(True, "")}


@pytest.mark.parametrize(
    ("delegate", "asked", "missing"),
    [("cpu", "gpu", True), ("cpu", "auto", False), ("gpu", "gpu", False), ("cpu", ["gpu"], False)],
)
def test_the_cpu_is_a_fault_only_where_the_gpu_was_asked_for(delegate: str, asked: object, missing: bool) -> None:
    status = Status.parse(json.dumps({"state": "online", "delegate": delegate, "delegate_asked": asked}).encode())
    assert status == Status(True, delegate, missing)


@pytest.mark.usefixtures("patience")
def test_a_farm_without_analyzers_is_read_at_once(mosquitto: Mosquitto) -> None:
    assert statuses.read_all(Mqtt(url=f"mqtt://127.0.0.1:{mosquitto.port}"), "5", Stop()) == {}


def test_a_broker_that_does_not_take_the_subscription_has_not_said_that_there_are_none() -> None:
    broker = StrangeBroker()
    try:
        with pytest.raises(TimeoutError, match=r"has not taken the subscription to status/\+ within 5 s"):
            statuses.read_all(Mqtt(url=f"mqtt://127.0.0.1:{broker.port}"), "5", Stop())
    finally:
        broker.close()


@pytest.mark.usefixtures("patience")
def test_the_balancers_user_may_read_it_and_with_a_wrong_password_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "identities"
    provision(folder, ["pi1"])
    broker = guarded_mosquitto(tmp_path, folder)
    broker.start()
    try:
        analyzer = Client(broker.port, *credentials(folder, "analyzer-pi1"))
        analyzer.publish("status/pi1", said("cpu"), retain=True)
        user, password = credentials(folder, "balancer")
        settings = Mqtt(url=f"mqtt://127.0.0.1:{broker.port}", username=user, password=password)
        assert statuses.read_all(settings, "auto", Stop()) == {"pi1": Status(True, "cpu")}
        analyzer.close()
        wrong = Mqtt(url=settings.url, username=user, password=password[1:])
        with pytest.raises(ConnectionError, match="Not authorized"):
            statuses.read_all(wrong, "auto", Stop())
    finally:
        broker.stop()
