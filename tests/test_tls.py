"""A broker that is open to others: TLS, with certificates on both sides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from farm import ROOT, Analyzer, ended
from servers import Mosquitto, find_program

pytestmark = pytest.mark.xdist_group("camera")


def make_certificates(folder: Path) -> None:
    """A certificate authority, and keys that it signed for the server and for a client."""
    openssl = find_program("openssl", "openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    # each request makes a key of its own; a day is enough
    run(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=farm-ca",
        "-keyout", "ca.key", "-out", "ca.pem",
    )  # fmt: skip
    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1\n")
    (folder / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
    for name in ("server", "client"):
        run(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
        )
        run(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "1",
            "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )  # fmt: skip


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
    command = [
        sys.executable, str(ROOT / "publish_images.py"), "--pi-id", "pi1", "--spool", str(tmp_path / "spool"),
        "--source", str(next((ROOT / "samples").glob("*.mp4"))), "--limit", "20", "--fps", "50",
    ]  # fmt: skip
    with ended(analyzer):
        analyzer.start().wait_for_log("connected to")
        camera = subprocess.run(
            command, env=os.environ | settings, timeout=60, capture_output=True, text=True, check=False
        )
        assert camera.returncode == 0, camera.stderr
        assert analyzer.stop() == 0
    assert len(analyzer.rows()) == 20
    stranger = subprocess.run(
        [*command, "--fail-fast"],
        env=os.environ | settings | {"POSTURE_MQTT_CERT_FILE": "", "POSTURE_MQTT_KEY_FILE": ""},
        timeout=60, capture_output=True, text=True, check=False,
    )  # fmt: skip
    broker.stop()
    assert stranger.returncode == 2
    assert url in stranger.stderr
    assert "Traceback" not in stranger.stderr
