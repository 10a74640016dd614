"""Retained messages over connections of their own, against a real Mosquitto."""

from __future__ import annotations

from pathlib import Path

import pytest
from identities import TAP, TAP_PASSWORD, credentials, guarded_mosquitto
from servers import Mosquitto

from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.wire import retained
from posture.wire.identities import provision

pytestmark = pytest.mark.usefixtures("patience")


@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
def test_what_was_written_is_read_until_it_is_cleared(mosquitto: Mosquitto, protocol: str) -> None:
    settings = Mqtt(url=f"mqtt://127.0.0.1:{mosquitto.port}")
    for payload in (b"first", b"second", b""):
        assert retained.write({"a/b": payload, "a/c": b"else"}, settings, protocol, "one") == []
        assert retained.read("a/b", settings, protocol, "one", Stop()) == payload


def test_a_topic_that_the_user_may_not_write_is_named_and_the_others_are_written(tmp_path: Path) -> None:
    provision(tmp_path / "identities", ["pi1"])
    broker = guarded_mosquitto(tmp_path, tmp_path / "identities")
    broker.start()
    url = f"mqtt://127.0.0.1:{broker.port}"
    user, password = credentials(tmp_path / "identities", "camera-pi1")
    camera = Mqtt(url=url, username=user, password=password)
    tap = Mqtt(url=url, username=TAP, password=TAP_PASSWORD)
    try:
        said = {"status/pi1": b"mine", "images/pi1": b"a picture"}
        assert retained.write(said, camera, "5", "one") == ["status/pi1"]
        assert retained.read("images/pi1", tap, "5", "one", Stop()) == b"a picture"
        assert retained.read("status/pi1", tap, "5", "one", Stop()) == b""
    finally:
        broker.stop()


def test_a_stop_is_no_answer(mosquitto: Mosquitto) -> None:
    stop = Stop()
    stop.request()
    with pytest.raises(ConnectionError):
        retained.read("a/b", Mqtt(url=f"mqtt://127.0.0.1:{mosquitto.port}"), "5", "one", stop)
