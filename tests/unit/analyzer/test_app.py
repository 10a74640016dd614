"""The analyzer as a user meets it: hostile frames, privacy, full disks, wrong settings."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from farm import ROOT, START_S, Analyzer, Camera, Watcher, clip_jpegs, ended, noise_jpeg
from hostile import encoded, hostile_payloads, with_segment
from PIL import Image
from servers import Mosquitto

from posture.wire import frame

pytestmark = pytest.mark.xdist_group("analyzer")

NEVER_SILENT = {"POSTURE_ANALYZER_SILENT_AFTER_S": "600"}
"""Else the state of a machine that is behind may say that the camera is silent, and no more what was seen last."""


def test_two_thousand_hostile_payloads_are_each_accounted_for_in_bounded_memory(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    payloads = hostile_payloads(7, 2000)
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port, stamped=False)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        for jpeg in [*clip_jpegs(20), noise_jpeg(1, 160, 120)]:
            camera.publish(jpeg)
        watcher.wait_for(lambda w: w.retained.get("account/pi1", {}).get("rows") == 21)
        before = analyzer.memory_bytes()
        for payload in payloads:
            camera.publish(payload)
        watcher.wait_for(
            lambda w: sum(w.retained["account/pi1"][what] for what in ("rows", "duplicate")) == 2021, 600
        )
        grown = analyzer.memory_bytes() - before
        assert analyzer.stop() == 0
    account = watcher.retained["account/pi1"]
    rows = analyzer.rows()
    ids = {frame.identify(frame.unwrap(payload), {}).frame_id for payload in payloads}
    assert len(rows) == account["rows"] == 21 + len(ids)
    assert account["rows"] == account["analyzed"] + sum(account["rejected"].values())
    assert account["duplicate"] == 2000 - len(ids)
    assert {row["posture_status"] for row in rows if not row["filename"]} == {"Unknown"}
    assert {"empty", "truncated", "too_many_pixels", "not_a_picture", "zero_area"} <= set(account["rejected"])
    assert len(list(analyzer.quarantine.iterdir())) <= 100
    assert grown < 120_000_000, f"memory grew by {grown / 1e6:.0f} MB"
    camera.close()
    watcher.close()


CRASHING = """
import ctypes
import simplejpeg
decode_jpeg = simplejpeg.decode_jpeg
def crash(data, *args, **flags):
    if b"crash here" in data:
        ctypes.string_at(0)
    if b"fail here" in data:
        raise KeyError("nobody expects this")
    return decode_jpeg(data, *args, **flags)
simplejpeg.decode_jpeg = crash
"""
"""Read by Python at its start: a native decoder with a fault, such as they have had."""


def test_a_frame_that_crashes_the_process_twice_is_not_opened_a_third_time_and_those_behind_it_arrive(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASHING)
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port, PYTHONPATH=str(tmp_path))
    jpegs = clip_jpegs(9)
    jpegs[2] += b"fail here"
    jpegs[4] += b"crash here"
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        assert analyzer.stop() == 0
        for jpeg in jpegs:
            camera.publish_now(jpeg)
        for _ in range(2):
            analyzer.start()
            assert analyzer.process is not None
            assert analyzer.process.wait(60) == -signal.SIGSEGV
        analyzer.start()
        watcher.wait_for(lambda w: w.receipts >= set(camera.published))
        assert analyzer.stop() == 0
    rows = {row["frame_id"]: row for row in analyzer.rows()}
    assert len(rows) == len(jpegs)
    assert [rows[name]["reason"] for name in camera.published if not rows[name]["filename"]] == [
        "analysis_failed", "ended_the_process",
    ]  # fmt: skip
    kept = {path.read_bytes() for path in analyzer.quarantine.iterdir()}
    assert {payload[-10:] for payload in kept} == {b"\xd9fail here", b"crash here"}
    log = analyzer.log.read_text()
    assert "nobody expects this" in log, "with its traceback"
    assert "Segmentation fault" in log
    camera.close()
    watcher.close()


def test_dates_and_numbers_beyond_reason_cost_that_field_and_are_named_and_counted(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port, stamped=False)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    odd = {
        "last": '"captured_at": "9999-12-31T23:59:59.999999Z"', "first": '"captured_at": "0001-01-01T00:00:00Z"',
        "number": '"seq": 9007199254740992', "boot": '"boot_id": ' + "[" * 500 + "]" * 500,
    }  # fmt: skip
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        for name, field in odd.items():
            camera.publish(with_segment(clip_jpegs(1)[0], 0xFE, f'{{"id": "{name}", {field}}}'.encode()))
        for jpeg in clip_jpegs(3):
            camera.publish(jpeg)
        watcher.wait_for(lambda w: (w.retained.get("account/pi1") or {}).get("rows") == 7)
        assert analyzer.stop() == 0
    assert watcher.retained["account/pi1"]["ignored"] == {"captured_at": 2, "seq": 1, "boot_id": 1}
    assert "is nothing that a camera says" in analyzer.log.read_text()
    camera.close()
    watcher.close()


def test_payloads_that_are_rejected_leave_one_line_for_each_reason_with_their_first_bytes(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port, stamped=False)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        for number in range(15):
            camera.publish(b"GIF89a" + bytes([number]))
            camera.publish(clip_jpegs(1)[0][: 2000 + number])
        watcher.wait_for(lambda w: (w.retained.get("account/pi1") or {}).get("rows") == 30)
        assert analyzer.stop() == 0
    lines = [line for line in analyzer.log.read_text().splitlines() if "rejected as" in line]
    assert len(lines) == 2
    assert "not_a_picture; the first has 7 bytes and begins with 47 49 46 38 39 61 00" in lines[0]
    assert "truncated" in lines[1]
    camera.close()
    watcher.close()


def test_raw_and_base64_are_the_same_frame_and_exif_orientation_is_honoured(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    lying = encoded(Image.effect_noise((200, 100), 50).convert("RGB"), "JPEG", exif=exif)
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port, stamped=False)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        camera.publish(lying)
        camera.publish(base64.b64encode(lying))
        watcher.wait_for(lambda w: w.retained.get("account/pi1", {}).get("duplicate") == 1)
        assert analyzer.stop() == 0
    (row,) = analyzer.rows()
    height, width = cv2.imread(str(analyzer.pictures / row["filename"])).shape[:2]
    assert height > width
    camera.close()
    watcher.close()


@pytest.mark.parametrize("keep_quarantine", [True, False], ids=["quarantine", "no-quarantine"])
def test_with_skeleton_no_pixel_of_the_camera_reaches_the_disk(
    mosquitto: Mosquitto, tmp_path: Path, keep_quarantine: bool
) -> None:
    clip = clip_jpegs(20)
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(
        tmp_path, mosquitto.port,
        POSTURE_ANALYZER_PICTURES="skeleton", POSTURE_ANALYZER_QUARANTINE=str(keep_quarantine).lower(),
    )  # fmt: skip
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        for jpeg in [*clip, clip[0][: len(clip[0]) // 2]]:
            camera.publish(jpeg)
        watcher.wait_for(lambda w: w.receipts >= set(camera.published))
        assert analyzer.stop() == 0
    names = analyzer.picture_names()
    assert len(names) == 20
    sources = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE) for jpeg in clip]
    for row in analyzer.rows():
        if not row["filename"]:
            continue
        drawn = cv2.imread(str(analyzer.pictures / row["filename"]), cv2.IMREAD_GRAYSCALE)
        source = sources[row["seq"]]
        # the ground is plain: away from the drawing nothing of the scene's texture is left
        ground = np.abs(drawn.astype(int) - int(np.median(drawn))) < 12
        assert ground.mean() > 0.5
        scene = cv2.resize(source, drawn.shape[::-1]).astype(float)[ground]
        assert abs(np.corrcoef(scene, drawn.astype(float)[ground])[0, 1]) < 0.3
    kept = list(analyzer.quarantine.iterdir()) if analyzer.quarantine.exists() else []
    assert kept == [], "a frame that can't be decoded is a picture of people, too"
    camera.close()
    watcher.close()


@pytest.mark.parametrize(
    ("setting", "why"),
    [({"POSTURE_ANALYZER_PICTURES": "none"}, "pictures_none"), ({"POSTURE_ANALYZER_KEEP": "none"}, "keep_none")],
    ids=["pictures-none", "keep-none"],
)
def test_a_frame_whose_picture_is_not_kept_is_still_one_row_that_says_why(
    mosquitto: Mosquitto, tmp_path: Path, setting: dict[str, str], why: str
) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port, **setting)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        for jpeg in clip_jpegs(10):
            camera.publish(jpeg)
        watcher.wait_for(lambda w: w.receipts >= set(camera.published))
        assert analyzer.stop() == 0
    assert [(row["filename"], row["no_picture"]) for row in analyzer.rows()] == [("", why)] * 10
    assert analyzer.picture_names() == []
    camera.close()
    watcher.close()


def test_a_slumped_person_raises_one_alert_and_only_changes_of_state_and_alerts_leave_pictures(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(
        tmp_path,
        mosquitto.port,
        POSTURE_ANALYZER_KEEP="changes",
        POSTURE_ANALYZER_CAMERA_ROLL_DEG="60",  # whoever walks upright leans by 60 degrees
        POSTURE_ANALYZER_BAD_FOR_S="1",
        **NEVER_SILENT,
    )
    walking = clip_jpegs(90)[-1]
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        for number in range(200):  # a camera at 5 frames a second: faster would be a backlog, which raises no alert
            camera.publish(noise_jpeg(number, 320, 240) if number < 10 else walking)
            time.sleep(0.2)
            if number >= 59 and watcher.alerts:  # after a halt frames are a backlog, too
                break
        watcher.wait_for(lambda w: w.receipts >= set(camera.published))
        watcher.wait_for(lambda w: bool(w.alerts))
        assert analyzer.stop() == 0
    rows = analyzer.rows()
    kept = [row["filename"] for row in rows if row["filename"]]
    assert len(rows) == len(camera.published)
    assert {row["posture_status"] for row in rows[10:]} == {"Bad"}
    assert len(watcher.alerts) == 1
    assert watcher.retained["posture/pi1/state"]["state"] == "Bad"
    assert sorted(kept) == analyzer.picture_names()
    assert len(kept) == 3, "one of Unknown, one of Bad, one of the alert"
    assert {row["no_picture"] for row in rows} == {"", "unchanged"}
    assert all(bool(row["filename"]) != bool(row["no_picture"]) for row in rows)
    camera.close()
    watcher.close()


def still_payloads(count: int) -> list[bytes]:
    """Somebody who does not move, five frames a second by the camera's clock, each with a sensor's noise."""
    rng = np.random.default_rng(1)
    picture = cv2.imread(str(ROOT / "samples" / "side_walk.jpg"))
    began = datetime.now(timezone.utc) - timedelta(seconds=count / 5)
    payloads = []
    for seq in range(count):
        noisy = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
        jpeg = cv2.imencode(".jpg", noisy)[1].tobytes()
        taken = began + timedelta(seconds=seq / 5)
        payloads.append(frame.stamp(jpeg, frame.Identity(f"boot1-{seq}", taken, seq, "boot1", source="comment")))
    return payloads


def test_somebody_who_sits_still_is_measured_now_and_then_and_all_else_is_as_if_every_frame_were(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    folders = tmp_path / "still", tmp_path / "every"
    for folder in folders:
        folder.mkdir()
    watcher = Watcher(mosquitto.port)
    cameras = [Camera(mosquitto.port, name, stamped=False) for name in ("pi1", "pi2")]
    analyzers = [
        Analyzer(folders[0], mosquitto.port, 1, POSTURE_ANALYZER_REUSE_STILL="true", **NEVER_SILENT),
        Analyzer(folders[1], mosquitto.port, 2, **NEVER_SILENT),
    ]
    payloads = still_payloads(90)
    with ended(*analyzers):
        for camera, analyzer in zip(cameras, analyzers, strict=True):
            analyzer.start().wait_online(watcher, camera.pi_id)
            for payload in payloads:
                camera.publish(payload)
            watcher.wait_for(
                lambda w, name=camera.pi_id: (w.retained.get(f"account/{name}") or {}).get("rows") == 90, 180
            )
            assert analyzer.stop() == 0
    still, every = ({row["seq"]: row for row in analyzer.rows()} for analyzer in analyzers)
    by_id = {row["frame_id"]: row for row in still.values()}
    again = [row for row in still.values() if row["measured_frame_id"] is not None]
    assert len(again) >= 45
    for row in again:
        measured = by_id[row["measured_frame_id"]]
        assert measured["measured_frame_id"] is None
        assert 0 < row["seq"] - measured["seq"] <= 10
        for column in ("landmarks", "neck_angle", "body_angle", "posture_status", "side"):
            assert row[column] == measured[column]
    assert {row["measured_frame_id"] for row in every.values()} == {None}
    for seq, row in still.items():
        assert (row["posture_status"], row["reason"]) == (every[seq]["posture_status"], every[seq]["reason"])
        assert row["body_angle"] == pytest.approx(every[seq]["body_angle"], abs=1.5)
    accounts = [watcher.retained[f"account/{camera.pi_id}"] for camera in cameras]
    counted = ("received", "rows", "analyzed", "good", "bad", "unknown", "rejected", "missing", "duplicate")
    assert [accounts[0][what] for what in counted] == [accounts[1][what] for what in counted]
    states = [watcher.retained[f"posture/{camera.pi_id}/state"]["state"] for camera in cameras]
    assert states == ["Good", "Good"]
    pictures = {path.read_bytes() for path in analyzers[0].pictures.glob("*.jpg")}
    assert len(pictures) == 90, "each is drawn on its own frame"
    for client in (*cameras, watcher):
        client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small tmpfs to fill")
def test_a_full_disk_stops_acknowledgement_and_loses_nothing(mosquitto: Mosquitto, tmp_path: Path) -> None:
    small = tmp_path / "pictures"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(small)], check=True)
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    try:
        with ended(analyzer):
            ballast = small / "ballast"
            ballast.write_bytes(b"x" * 900_000)
            analyzer.start().wait_online(watcher)
            for jpeg in clip_jpegs(20):
                camera.publish(jpeg)
            analyzer.wait_for_log("No space left on device")
            assert len(watcher.receipts) < 20
            subprocess.run(["mount", "-o", "remount,size=50M", str(small)], check=True)
            watcher.wait_for(lambda w: w.receipts >= set(camera.published), 60)
            assert analyzer.stop() == 0
        assert len(analyzer.rows()) == 20
        assert len(analyzer.picture_names()) == 20
    finally:
        subprocess.run(["umount", str(small)], check=True)
    camera.close()
    watcher.close()


def test_a_backlog_of_large_frames_does_not_become_memory(mosquitto: Mosquitto, tmp_path: Path) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        assert analyzer.stop() == 0
        large = noise_jpeg(3, 480, 360)
        assert len(large) > 150_000
        for _ in range(400):
            camera.publish(large)
        watcher.wait_for(lambda w: w.retained["status/pi1"]["state"] == "offline")
        analyzer.start()
        highest = 0
        while len(watcher.receipts) < 400:
            seen = len(watcher.receipts)
            watcher.wait_for(lambda w, seen=seen: len(w.receipts) > seen)
            highest = max(highest, analyzer.memory_bytes())
        assert analyzer.stop() == 0
    assert highest < 450_000_000, f"{highest / 1e6:.0f} MB"
    camera.close()
    watcher.close()


def test_the_cpu_instead_of_a_gpu_that_was_asked_for_is_in_log_and_status(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    watcher = Watcher(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port, POSTURE_ANALYZER_DELEGATE="gpu")
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        status = watcher.retained["status/pi1"]
        assert analyzer.stop() == 0
    watcher.close()
    if status["delegate"] == "gpu":
        pytest.skip("this machine has a usable GPU")
    assert (status["delegate"], status["delegate_asked"]) == ("cpu", "gpu")
    assert "the GPU was asked for: docs/boards.md" in analyzer.log.read_text()


def run_to_the_end(analyzer: Analyzer, *flags: str) -> tuple[int, str]:
    with ended(analyzer):
        analyzer.start(*flags)
        assert analyzer.process is not None
        status = analyzer.process.wait(60)
    return status, analyzer.log.read_text()


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_wrong_credentials_name_the_setting_and_end_with_2(tmp_path: Path, protocol: str) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "pi", "right"], check=True)
    broker = Mosquitto(tmp_path / "broker", allow_anonymous="false", password_file=str(passwords))
    broker.start()
    settings = {"POSTURE_MQTT_USERNAME": "pi", "POSTURE_MQTT_PASSWORD": "wr0ng-s3cret"}
    analyzer = Analyzer(tmp_path, broker.port, POSTURE_MQTT_PROTOCOL=protocol, **settings)
    status, log = run_to_the_end(analyzer)
    broker.stop()
    assert status == 2
    assert "POSTURE_MQTT_PASSWORD" in log
    assert "wr0ng-s3cret" not in log
    assert "Traceback" not in log


def test_a_broker_that_is_away_is_tried_again_and_with_fail_fast_is_the_end(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    watcher = Watcher(mosquitto.port)
    mosquitto.stop()
    analyzer = Analyzer(tmp_path, mosquitto.port)
    with ended(analyzer):
        analyzer.start().wait_for_log("next try in")
        assert f"mqtt://127.0.0.1:{mosquitto.port}" in analyzer.log.read_text()
        mosquitto.start()
        analyzer.wait_online(watcher)
        assert analyzer.stop() == 0
    mosquitto.stop()
    status, log = run_to_the_end(Analyzer(tmp_path, mosquitto.port), "--fail-fast")
    assert status == 2
    assert "Connection refused" in log
    assert "Traceback" not in log
    watcher.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"POSTURE_ANALYZER_MODEL": "models/none.task"}, "none.task"),
        ({"POSTURE_ANALYZER_KEEP": "some"}, "POSTURE_ANALYZER_KEEP"),
        ({"POSTURE_MQTT_CA_FILE": "/nowhere.pem", "POSTURE_MQTT_URL": "mqtts://127.0.0.1:1"}, "/nowhere.pem"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "database.url"),
        ({"POSTURE_MQTT_URL": "mqtt://127.0.0.1:99999"}, "POSTURE_MQTT_URL"),
        ({"POSTURE_ANALYZER_RULE_SET": "baseline"}, "--calibrate"),
    ],
    ids=["missing-model", "bad-setting", "missing-ca", "sqlite-in-a-cluster", "no-such-port", "not-calibrated"],
)
def test_a_users_mistake_is_one_clear_error_and_status_2(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    status, log = run_to_the_end(Analyzer(tmp_path, 1, **settings))
    assert status == 2
    assert said in log
    assert "Traceback" not in log


def test_what_calibration_prints_goes_into_cluster_yaml_and_the_recorded_pose_is_good_by_it(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    still = clip_jpegs(60)[36:40]
    with ended(analyzer):
        analyzer.start("--calibrate").wait_for_log("Sit straight")
        assert analyzer.process is not None
        number = 0
        while analyzer.process.poll() is None and number < 600:
            camera.publish(still[number % 4])
            number += 1
            try:
                analyzer.process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        status, log = analyzer.process.wait(START_S), analyzer.log.read_text()
        assert status == 0, log
        settings = tmp_path / "farm.yaml"
        settings.write_text(log.split("Put this into cluster.yaml:")[1])
        analyzer.start("--config", str(settings)).wait_online(watcher)
        recorded = camera.published[-1]
        for jpeg in still * 5:
            camera.publish(jpeg)
        watcher.wait_for(lambda w: camera.published[-1] in w.receipts)
        assert analyzer.stop() == 0
    rows = analyzer.rows()
    assert recorded not in {row["frame_id"] for row in rows}, "calibration takes no frame for a row"
    assert len(rows) == 20
    assert {row["rule_set"] for row in rows} == {"baseline"}
    assert sum(row["posture_status"] == "Good" for row in rows) > 10
    camera.close()
    watcher.close()


def test_a_calibration_without_a_broker_says_so(tmp_path: Path) -> None:
    status, log = run_to_the_end(Analyzer(tmp_path, 1), "--calibrate")
    assert status == 2
    assert log == "error: broker mqtt://127.0.0.1:1: Connection refused\n"


def test_the_camera_topic_tells_live_frozen_and_silent_apart(mosquitto: Mosquitto, tmp_path: Path) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port, POSTURE_ANALYZER_SILENT_AFTER_S="2")

    def camera_is(state: str) -> bool:
        return (watcher.retained.get("camera/pi1") or {}).get("state") == state

    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        jpegs = clip_jpegs(4)
        # films on until it is called so: a busy machine may take longer than the camera may be silent
        for state, pictures in (("live", jpegs), ("frozen", jpegs[:1])):
            for jpeg in islice(cycle(pictures), 600):
                camera.publish(jpeg)
                time.sleep(0.1)
                if camera_is(state):
                    break
            else:
                pytest.fail(f"not {state}: {watcher.retained}")
        watcher.wait_for(lambda _: camera_is("silent"))
        assert analyzer.stop() == 0
    camera.close()
    watcher.close()


NOT_ON_SQLITE = {
    *("psycopg", "psycopg_pool", "supabase", "httpx", "httpx2", "requests", "boto3", "botocore"),  # other stores
    *("PIL", "matplotlib", "scipy", "pandas", "sounddevice", "_cffi_backend", "cryptography"),
    *("kubernetes", "grpc", "prometheus_client", "ruamel", "amqtt", "flask", "starlette", "uvicorn", "jinja2"),
}
LOADED = """
import sys
from pathlib import Path
from posture.analyzer import app, pose
from posture.store.opening import open_store
pose.import_libraries()
open_store(f"sqlite:///{sys.argv[1]}").close()
print(*sys.modules)
"""


def test_an_analyzer_on_sqlite_loads_no_package_of_what_it_does_not_use(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(tmp_path / "posture.db")],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    names = set(done.stdout.split())
    parts = {name for name in names if name.startswith("posture.")}
    assert {name.partition(".")[0] for name in names} & NOT_ON_SQLITE == set()
    assert {name.split(".")[1] for name in parts} <= {
        *("analyzer", "errors", "natural_order", "pictures", "runtime", "settings", "store", "system", "verdict"),
        "wire",
    }
    assert {name for name in parts if name.startswith("posture.store.")} == {
        f"posture.store.{name}" for name in ("base", "opening", "sqlite", "sqlite_minutes")
    }
