"""A broker that is open to others: TLS, with certificates on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from camera_script import published
from certificates import make_certificates
from farm import ROOT, Analyzer, ended
from servers import Mosquitto
from watching import wait_for

pytestmark = pytest.mark.xdist_group("camera")


def test_frames_and_receipts_go_over_mutual_tls_and_nobody_else_gets_in(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    broker = Mosquitto(
        tmp_path / "broker",
        cafile=str(tmp_path / "ca.pem"),
        certfile=str(tmp_path / "server.pem"),
        keyfile=str(tmp_path / "server.key"),
        require_certificate="true",
    )
    broker.start()
    url = f"mqtts://127.0.0.1:{broker.port}"
    settings = {
        "POSTURE_MQTT_URL": url,
        "POSTURE_MQTT_CA_FILE": str(tmp_path / "ca.pem"),
        "POSTURE_MQTT_CERT_FILE": str(tmp_path / "client.pem"),
        "POSTURE_MQTT_KEY_FILE": str(tmp_path / "client.key"),
    }
    analyzer = Analyzer(tmp_path, broker.port, **settings)
    clip = str(next((ROOT / "samples").glob("*.mp4")))
    flags = ("--source", clip, "--limit", "20", "--fps", "50")
    with ended(analyzer):
        analyzer.start().wait_for_log("connected to")
        wait_for(lambda: "Sending SUBACK to posture-pi1" in broker.log.read_text())
        status, _, said = published(tmp_path, url, *flags, **settings)
        assert status == 0, said
        assert analyzer.stop() == 0
    assert len(analyzer.rows()) == 20
    nameless = settings | {"POSTURE_MQTT_CERT_FILE": "", "POSTURE_MQTT_KEY_FILE": ""}
    status, _, said = published(tmp_path, url, *flags, "--fail-fast", **nameless)
    broker.stop()
    assert status == 2
    assert url in said
    assert "Traceback" not in said
