"""What the streams run on, read beside the balancer's loop from a real Mosquitto."""

from __future__ import annotations

import json

import pytest
from identities import retained
from servers import Mosquitto

from posture.balancer.delegates import Delegates
from posture.runtime import Stop
from posture.settings.table import Mqtt

STATES = {"pi1": "online", "pi2": "offline"}
pytestmark = pytest.mark.usefixtures("patience")


def test_it_is_known_once_read_and_a_broker_that_is_away_leaves_what_was_known(mosquitto: Mosquitto) -> None:
    said = {stream: json.dumps({"state": state, "delegate": "cpu"}).encode() for stream, state in STATES.items()}
    retained(mosquitto.port, {f"status/{stream}": payload for stream, payload in said.items()})
    delegates = Delegates(Mqtt(url=f"mqtt://127.0.0.1:{mosquitto.port}"), Stop())
    assert delegates.found == {}
    delegates.begin()
    delegates.wait(30)
    assert (delegates.found, delegates.problem) == ({"pi1": "cpu"}, "")
    mosquitto.stop()
    delegates.begin()
    delegates.wait(30)
    assert delegates.found == {"pi1": "cpu"}
    assert "refused" in delegates.problem


def test_streams_that_were_told_to_use_the_gpu_and_do_not_are_known(mosquitto: Mosquitto) -> None:
    said = {
        "pi1": {"state": "online", "delegate": "cpu", "delegate_asked": "gpu"},
        "pi2": {"state": "online", "delegate": "cpu", "delegate_asked": "auto"},
        "pi3": {"state": "online", "delegate": "gpu", "delegate_asked": "gpu"},
        "pi4": {"state": "offline", "delegate": "cpu", "delegate_asked": "gpu"},
    }
    retained(mosquitto.port, {f"status/{stream}": json.dumps(one).encode() for stream, one in said.items()})
    delegates = Delegates(Mqtt(url=f"mqtt://127.0.0.1:{mosquitto.port}"), Stop())
    delegates.begin()
    delegates.wait(30)
    assert delegates.gpu_missing == {"pi1"}
