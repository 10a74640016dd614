"""dashboard.py tells Home Assistant of the streams, through a real broker."""

from __future__ import annotations

import json
from pathlib import Path

from dashboard_process import DashboardProcess
from identities import Client, credentials, guarded_mosquitto
from servers import Mosquitto
from speaking import Farm

from posture.system import files
from posture.wire.identities import provision

DEVICE = "homeassistant/device/posture_pi1/config"


def test_a_stream_becomes_a_device_and_is_taken_back_where_that_is_switched_off(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    mqtt = {"url": f"mqtt://127.0.0.1:{mosquitto.port}"}
    home = Client(mosquitto.port)
    home.subscribe("homeassistant/device/+/config")
    dashboard = DashboardProcess(tmp_path / "on", {"mqtt": mqtt, "dashboard": {"home_assistant": True}})
    with Farm(mosquitto.port) as farm:
        farm.stream("pi1")
        dashboard.start()
        announced = json.loads(home.wait_for_one(DEVICE))
        assert announced["cmps"]["posture"]["stat_t"] == "posture/pi1/state"
        dashboard.stop()
        off = DashboardProcess(tmp_path / "off", {"mqtt": mqtt})
        off.start()
        home.wait_for(DEVICE, b"")
        off.stop()
    home.close()


def test_a_stream_is_a_device_as_long_as_the_list_has_it(tmp_path: Path, mosquitto: Mosquitto) -> None:
    home = Client(mosquitto.port)
    home.subscribe("homeassistant/device/+/config")
    settings = {
        "mqtt": {"url": f"mqtt://127.0.0.1:{mosquitto.port}"},
        "dashboard": {"home_assistant": True},
        "streams": ["pi1", "pi2"],
    }
    dashboard = DashboardProcess(tmp_path, settings)
    dashboard.start()
    try:
        assert json.loads(home.wait_for_one(DEVICE))["avty_t"] == "status/pi1", "before it says anything"
        config = tmp_path / "cluster.yaml"
        # as a whole: in a file that is only half written pi2 is missing, too
        files.replace(config, config.read_text().replace("- pi1\n", "").encode())
        home.wait_for(DEVICE, b"")
        assert (DEVICE.replace("pi1", "pi2"), b"") not in home.got
    finally:
        dashboard.stop()
        home.close()


def test_the_dashboards_user_may_announce_where_the_setting_is_on(tmp_path: Path) -> None:
    identities = tmp_path / "identities"
    provision(identities, ["pi1"], home_assistant=True)
    broker = guarded_mosquitto(tmp_path, identities)
    broker.start()
    try:
        analyzer = Client(broker.port, *credentials(identities, "analyzer-pi1"))
        status = {"state": "online", "instance": "a", "started": "2026-03-02T09:15:31+00:00"}
        analyzer.publish("status/pi1", json.dumps(status).encode(), retain=True)
        home = Client(broker.port, "tap", "sees-everything")
        home.subscribe("homeassistant/#")
        user, password = credentials(identities, "dashboard")
        mqtt = {"url": f"mqtt://127.0.0.1:{broker.port}", "username": user}
        settings = {"mqtt": mqtt, "dashboard": {"home_assistant": True}}
        dashboard = DashboardProcess(tmp_path / "dashboard", settings, POSTURE_MQTT_PASSWORD=password)
        dashboard.start()
        assert json.loads(home.wait_for_one(DEVICE))["avty_t"] == "status/pi1"
        dashboard.stop()
        home.close()
        analyzer.close()
    finally:
        broker.stop()
