"""Of two analyzers of one stream, the newer one has it; a stranger's status message changes nothing."""

from __future__ import annotations

import json

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from servers import Mosquitto

from posture.analyzer import takeover
from posture.analyzer.takeover import Owner
from posture.runtime import Stop
from posture.settings.table import Mqtt

TOPIC = "status/pi1"
OURS = Owner("ours", "2026-11-24T12:00:00.000000+00:00", online=True)
BEFORE, AFTER = "2026-11-24T11:59:59.999999+00:00", "2026-11-24T12:00:00.000001+00:00"


def status(instance: str, started: str, state: str = "online") -> bytes:
    return json.dumps({"state": state, "instance": instance, "started": started}).encode()


def test_a_status_message_of_ours_names_its_instance_and_whether_it_is_online() -> None:
    assert Owner.parse(status("a", BEFORE)) == Owner("a", BEFORE, online=True)
    assert Owner.parse(status("a", BEFORE, "offline")) == Owner("a", BEFORE, online=False)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\xff\xfe", b"null", b"7", b'"text"', b"[]", b"{}", b'{"state": "online"}', b'{"instance": "a"',
        b'{"instance": "a", "started": "b"}',
    ],
)  # fmt: skip
def test_anything_else_has_no_owner(payload: bytes) -> None:
    assert Owner.parse(payload) is None


def leave_status(port: int, payload: bytes) -> None:
    """Publish a retained status message, and wait until the broker has it."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="other")
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish(TOPIC, payload, qos=1, retain=True).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


@pytest.mark.parametrize(
    ("payload", "superseded"),
    [
        pytest.param(status("other", AFTER), True, id="newer"),
        pytest.param(status("other", BEFORE), False, id="older"),
        pytest.param(status("other", AFTER, "offline"), False, id="newer-offline"),
        pytest.param(status(OURS.instance, AFTER), False, id="ourselves"),
        pytest.param(status("z", OURS.started), True, id="same-start-greater-instance"),
        pytest.param(b"[1, 2", False, id="no-status"),
        pytest.param(b"[" * 100_000, False, id="deeply-nested"),
    ],
)
@pytest.mark.parametrize("protocol", ["auto", "5"])
@pytest.mark.usefixtures("patience")
def test_only_a_newer_instance_that_is_online_takes_over(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch, payload: bytes, superseded: bool, protocol: str
) -> None:
    # ends at once with what it looks for
    monkeypatch.setattr(takeover, "WATCH_S", 60.0 if superseded else 0.5)
    leave_status(mosquitto.port, payload)
    settings = Mqtt(url=f"mqtt://127.0.0.1:{mosquitto.port}")
    found = takeover.is_superseded(OURS, TOPIC, settings, protocol, "posture-pi1", Stop())
    assert found is superseded


def test_a_broker_that_is_away_is_not_taken_for_a_lone_analyzer(mosquitto: Mosquitto) -> None:
    mosquitto.stop()
    settings = Mqtt(url=f"mqtt://127.0.0.1:{mosquitto.port}")
    with pytest.raises(OSError, match="refused"):
        takeover.is_superseded(OURS, TOPIC, settings, "auto", "posture-pi1", Stop())
