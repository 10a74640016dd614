"""The camera's side as a user meets it: publish_images.py as a process, a real broker, real analyzers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm import ROOT, Analyzer, Watcher, clip_jpegs, ended
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from servers import Mosquitto

from posture import frame

pytestmark = pytest.mark.xdist_group("camera")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty pictures on disk."""
    pictures = tmp_path / "pictures-to-send"
    pictures.mkdir()
    for number, jpeg in enumerate(clip_jpegs(40)):
        (pictures / f"{number:03d}.jpg").write_bytes(jpeg)
    return pictures


@contextlib.contextmanager
def publishing(tmp_path: Path, port: int, *flags: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable, str(ROOT / "publish_images.py"), "--pi-id", "pi1", "--broker", f"127.0.0.1:{port}",
        "--spool", str(tmp_path / "spool"), "--json", *flags,
    ]  # fmt: skip
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")} | settings
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def result_of(process: subprocess.Popen[str], timeout_s: float = 90) -> tuple[int, dict[str, int], str]:
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, json.loads(out.splitlines()[-1]) if out else {}, err


def test_a_broker_killed_twice_costs_no_frame_of_a_camera_with_a_spool(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    watcher, analyzer = Watcher(mosquitto.port), Analyzer(tmp_path, mosquitto.port)
    flags = ["--source", str(folder), "--loop", "--limit", "300", "--fps", "40", "--receipt-timeout", "3"]
    with ended(analyzer), publishing(tmp_path, mosquitto.port, *flags, "--drain", "60") as camera:
        analyzer.start()
        for enough in (60, 150):
            watcher.wait_for(lambda w, enough=enough: len(w.receipts) >= enough)
            mosquitto.kill()
            mosquitto.start()
        status, result, log = result_of(camera)
        assert analyzer.stop() == 0
    assert status == 0, log
    assert (result["captured"], result["receipted"], result["in_spool"], result["dropped"]) == (300, 300, 0, 0)
    rows = [row["frame_id"] for row in analyzer.rows()]
    assert sorted(rows) == sorted(f"pi1-{result['boot_id']}-{number}" for number in range(300))
    assert len(analyzer.picture_names()) == 300
    watcher.close()


def test_frames_without_receipt_stay_in_the_spool_and_go_with_the_next_run(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    with publishing(tmp_path, mosquitto.port, "--source", str(folder), "--fps", "200", "--drain", "1") as camera:
        status, first, log = result_of(camera)
    assert status == 1
    assert first["in_spool"] == 40
    assert "stay in the spool" in log
    analyzer = Analyzer(tmp_path, mosquitto.port)
    watcher = Watcher(mosquitto.port)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        with publishing(tmp_path, mosquitto.port, "--source", str(folder), "--limit", "1") as camera:
            status, second, _ = result_of(camera)
        assert analyzer.stop() == 0
    assert status == 0
    assert second["receipted"] == 41
    assert len(analyzer.rows()) == 41
    watcher.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_identity_is_in_the_picture_over_both_protocols_and_nothing_is_re_encoded(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path, protocol: str
) -> None:
    payloads: list[bytes] = []
    listener = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener")
    listener.on_message = lambda _c, _u, message: payloads.append(bytes(message.payload))
    listener.connect("127.0.0.1", mosquitto.port)
    listener.subscribe("images/pi1", qos=1)
    listener.loop_start()
    flags = ["--source", str(folder), "--fps", "200", "--drain", "1"]
    with publishing(tmp_path, mosquitto.port, *flags, POSTURE_MQTT_PROTOCOL=protocol) as camera:
        _, result, _ = result_of(camera)
    listener.loop_stop()
    identities = [frame.identify(payload, {}) for payload in payloads]
    assert [identity.frame_id for identity in identities] == [f"pi1-{result['boot_id']}-{n}" for n in range(40)]
    assert [identity.seq for identity in identities] == list(range(40))
    assert all(identity.captured_at is not None and identity.source == "comment" for identity in identities)
    originals = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert all(payload.endswith(original[2:]) for payload, original in zip(payloads, originals, strict=True))


def test_a_full_spool_drops_the_oldest_and_says_so(mosquitto: Mosquitto, tmp_path: Path, folder: Path) -> None:
    flags = ["--source", str(folder), "--fps", "200", "--drain", "0", "--spool-bytes", "100000"]
    with publishing(tmp_path, mosquitto.port, *flags) as camera:
        status, result, _ = result_of(camera)
    kept = sorted((tmp_path / "spool").iterdir())
    assert status == 1
    assert result["dropped"] == 40 - len(kept) > 0
    assert sum(path.stat().st_size for path in kept) <= 100_000
    assert frame.identify(kept[-1].read_bytes(), {}).seq == 39


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--source", "/no/such/folder"], "/no/such/folder"),
        (["--source", str(ROOT / "docs")], "has no picture"),
        (["--source", str(ROOT / "LICENSE")], "LICENSE"),
        (["--broker", "mqtt://:70000"], "port"),
        (["--pi-id", "Pi/1"], "Pi/1"),
    ],
    ids=["no-folder", "no-pictures", "no-video", "bad-broker", "bad-name"],
)
def test_a_users_mistake_is_one_clear_error_and_status_2(tmp_path: Path, flags: list[str], said: str) -> None:
    with publishing(tmp_path, 1, *flags) as camera:
        status, _, log = result_of(camera)
    assert status == 2
    assert said in log
    assert "accepted" in log
    assert "Traceback" not in log


def test_a_broker_that_is_away_is_tried_again_and_with_fail_fast_is_the_end(
    mosquitto: Mosquitto, tmp_path: Path, folder: Path
) -> None:
    mosquitto.stop()
    with publishing(tmp_path, mosquitto.port, "--source", str(folder), "--fail-fast") as camera:
        status, _, log = result_of(camera)
    assert status == 2
    assert "Connection refused" in log
    assert "Traceback" not in log
