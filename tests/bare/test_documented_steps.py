"""README's and docs/camera.md's steps for broker, camera and analyzer, typed on a bare Debian."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from bare_debian import BareDebian, booted
from documented_steps import (
    ANALYZER_STEPS,
    BROKER_STEPS,
    BY_HAND,
    COUNT,
    PICTURES,
    REMOVAL,
    SERVICE_STEPS,
    analyzers_identity,
    eventually,
    prepare,
)
from farm import ROOT, Analyzer, ended
from servers import Mosquitto, free_port
from typed import with_changes

JOURNAL = "sudo journalctl --no-pager -u posture-camera"
SPOOL = "/var/lib/posture-camera/pi1"
FRAME_IDS = "SELECT frame_id FROM posture_log"

pytestmark = [
    pytest.mark.xdist_group("bare"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may boot a machine"),
]


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def changes(port: int) -> dict[str, str]:
    return {"192.0.2.10:1883": f"127.0.0.1:{port}"}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[BareDebian]:
    """One on which README's broker runs, and a folder of pictures lies."""
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    with booted(architecture.stdout.strip(), tmp_path_factory.mktemp("bare")) as machine:
        prepare(machine, port)
        machine.run(BROKER_STEPS)
        yield machine


@pytest.fixture
def analyzer(machine: BareDebian, tmp_path: Path, port: int) -> Iterator[Analyzer]:
    """The analyzer of stream pi1 here, with what the broker has for it."""
    analyzer = Analyzer(tmp_path, port, **analyzers_identity(machine))
    with ended(analyzer):
        analyzer.start().wait_for_log("connected to")
        yield analyzer


@pytest.fixture
def service(machine: BareDebian, analyzer: Analyzer, changes: dict[str, str]) -> BareDebian:
    """The machine with README's camera on it, which has the folder of pictures as its source."""
    if machine.try_to_run("systemctl cat posture-camera").returncode:
        machine.run(with_changes(SERVICE_STEPS, {**changes, " picamera ": f" {PICTURES} "}))
    return machine


def kilobytes(machine: BareDebian, *folders: str) -> int:
    return sum(int(line.split()[0]) for line in machine.run(f"sudo du -sk {' '.join(folders)}").splitlines())


def test_the_broker_runs_with_debians_file_and_ours_and_takes_nobody_without_a_password(
    machine: BareDebian,
) -> None:
    assert machine.run("systemctl is-active mosquitto").strip() == "active"
    said = machine.run("sudo cat /var/log/mosquitto/mosquitto.log")
    assert "Error" not in said
    assert "Opening ipv4 listen socket on port" in said


def test_a_camera_as_a_service_publishes_and_its_frames_leave_the_spool_when_they_are_confirmed(
    machine: BareDebian, analyzer: Analyzer, request: pytest.FixtureRequest
) -> None:
    before = kilobytes(machine, "/usr", "/var/lib/dpkg")
    request.getfixturevalue("service")
    eventually(lambda: len(analyzer.rows()) == COUNT)
    eventually(lambda: machine.try_to_run("systemctl is-active posture-camera").stdout.strip() == "inactive")
    confirmed = f"captured {COUNT}, sent {COUNT} (0 again), confirmed {COUNT}, waiting 0, dropped 0"
    eventually(lambda: confirmed in machine.run(JOURNAL))
    assert machine.run(f"sudo ls {SPOOL}") == ""
    ours, debians = kilobytes(machine, "/opt/posture-camera"), kilobytes(machine, "/usr", "/var/lib/dpkg") - before
    print(f"installed: {ours} kB in /opt/posture-camera, {debians} kB of Debian's packages")
    assert ours + debians < 60_000
    modules = machine.run("find /opt/posture-camera /usr/lib/python3 -name cv2 -o -name numpy -o -name mediapipe")
    assert modules == "", "none of the large packages is needed"


def test_the_service_is_not_root_and_keeps_its_password_to_itself(service: BareDebian, analyzer: Analyzer) -> None:
    service.run("sudo sed -i 's/^FLAGS=.*/FLAGS=\"--loop --drain 5\"/' /etc/posture-camera/environment")
    service.run("sudo systemctl restart posture-camera")
    eventually(lambda: len(analyzer.rows()) > COUNT)
    process = service.run("systemctl show --property MainPID --value posture-camera").strip()
    status = service.run(f"cat /proc/{process}/status")
    assert "\nUid:\t0\t" not in status
    assert re.search(r"^CapEff:\t0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.M)
    assert service.try_to_run("cat /etc/posture-camera/environment").returncode != 0
    assert service.run("systemd-analyze verify /etc/systemd/system/posture-camera.service") == ""
    password = (service.root / "home/pi/posture-farm/broker/camera-pi1/POSTURE_MQTT_PASSWORD").read_text()
    for seen in (f"cat /proc/{process}/cmdline", "sudo journalctl --no-pager -u posture-camera"):
        assert password not in service.run(seen)


def test_frames_wait_on_the_disk_while_the_broker_is_away_and_the_machine_restarts_the_service(
    service: BareDebian, analyzer: Analyzer
) -> None:
    def in_spool() -> set[str]:
        names = service.run(f"sudo ls {SPOOL}").split()
        return {name.split("-", 1)[1].removesuffix(".jpg") for name in names}

    service.run("sudo systemctl restart posture-camera && sudo systemctl stop mosquitto")
    eventually(lambda: len(in_spool()) >= 5)
    service.run("sudo systemctl stop posture-camera")
    waiting = in_spool()
    service.run("sudo systemctl start mosquitto posture-camera")
    eventually(lambda: waiting <= {row["frame_id"] for row in analyzer.rows()})
    eventually(lambda: not waiting & in_spool())


def test_the_installer_without_arguments_brings_the_program_up_to_date_and_keeps_the_settings(
    service: BareDebian,
) -> None:
    before = service.run("sudo cat /etc/posture-camera/environment")
    service.run("echo '__version__ = \"9.9.9\"' >> posture/__init__.py")
    service.run("sudo sh deploy/camera/install.sh")
    assert service.run("sudo cat /etc/posture-camera/environment") == before
    version = service.run("/opt/posture-camera/.venv/bin/python3 /opt/posture-camera/publish_images.py --version")
    assert "9.9.9" in version
    assert service.run("systemctl is-active posture-camera").strip() == "active"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("pi1", "1 arguments; accepted: PI_ID SOURCE BROKER [FOLDER], or none"),
        ("Pi_1 picamera mqtt://h", "PI_ID Pi_1: is no stream's name; accepted: a-z"),
        (
            "pi1 samples mqtt://h",
            "SOURCE /home/pi/posture-farm/samples: the service reads no home folder; accepted: ",
        ),
        ("pi1 picamera 192.0.2.10", "BROKER 192.0.2.10: accepted: mqtt://host:port"),
        ("pi1 picamera mqtt://h nowhere", "nowhere/POSTURE_MQTT_USERNAME can't be read; accepted: a folder"),
        (
            "pi1 picamera mqtts://h /srv/no-certificate",
            "/srv/no-certificate/ca.crt is no certificate; accepted: PEM",
        ),
    ],
)
def test_the_installer_refuses_what_it_cannot_use_and_changes_nothing(
    service: BareDebian, arguments: str, message: str
) -> None:
    service.run("sudo cp -rT broker/camera-pi1 /srv/no-certificate && sudo touch /srv/no-certificate/ca.crt")
    before = service.run("sudo cat /etc/posture-camera/environment")
    done = service.try_to_run(f"sudo sh deploy/camera/install.sh {arguments}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"error: {message}" in done.stderr
    assert service.run("sudo cat /etc/posture-camera/environment") == before


def test_a_source_that_needs_opencv_brings_it_along_and_no_libgl_with_it(
    service: BareDebian, analyzer: Analyzer, changes: dict[str, str]
) -> None:
    (service.root / "srv/clip.mp4").write_bytes((ROOT / "samples" / "side_walk.mp4").read_bytes())
    before = {row["frame_id"] for row in analyzer.rows()}
    service.run(with_changes(SERVICE_STEPS, {**changes, " picamera ": " /srv/clip.mp4 "}))
    eventually(lambda: len({row["frame_id"] for row in analyzer.rows()} - before) > 20)
    assert service.try_to_run("ldconfig -p | grep libGL.so").stdout == ""


def test_a_broker_whose_authority_is_in_the_cameras_folder_is_reached_by_tls(
    service: BareDebian, changes: dict[str, str], tmp_path: Path
) -> None:
    """As setup_farm.py makes the folder, which it prints a line for."""
    authority = trustme.CA()
    ca, key, chain = (tmp_path / name for name in ("ca.crt", "key.pem", "chain.pem"))
    authority.cert_pem.write_to_path(str(ca))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(key))
    certificate.cert_chain_pems[0].write_to_path(str(chain))
    folder = service.root / "home/pi/posture-farm/broker/camera-pi1"
    (folder / "ca.crt").write_bytes(ca.read_bytes())
    (folder / "POSTURE_MQTT_PREFIX").write_text("house/2")
    broker = Mosquitto(tmp_path / "broker", cafile=str(ca), certfile=str(chain), keyfile=str(key))
    broker.start()
    try:
        line = f"sudo sh deploy/camera/install.sh pi1 {PICTURES} mqtts://127.0.0.1:{broker.port} broker/camera-pi1"
        service.run(line)
        settings = service.run("sudo cat /etc/posture-camera/environment")
        assert 'POSTURE_MQTT_CA_FILE="/etc/posture-camera/ca.crt"' in settings
        assert 'POSTURE_MQTT_PREFIX="house/2"' in settings
        eventually(lambda: f"127.0.0.1:{broker.port} with MQTT" in service.run(JOURNAL))
    finally:
        broker.stop()
        (folder / "ca.crt").unlink()
        (folder / "POSTURE_MQTT_PREFIX").unlink()


def test_what_the_page_says_removes_the_service(service: BareDebian) -> None:
    service.run(REMOVAL)
    assert service.try_to_run("systemctl cat posture-camera").returncode != 0
    assert service.try_to_run("ls /opt/posture-camera /etc/posture-camera").stdout == ""


def test_a_camera_that_is_started_by_hand_publishes(
    machine: BareDebian, analyzer: Analyzer, changes: dict[str, str]
) -> None:
    typed = with_changes(BY_HAND, {**changes, "--source picamera": f"--json --drain 120 --source {PICTURES}"})
    (line,) = re.findall(r"^\{.*\}$", machine.run(typed), re.M)
    result = json.loads(line)
    assert (result["captured"], result["receipted"], result["in_spool"]) == (COUNT, COUNT, 0)
    assert {f"pi1-{result['boot_id']}-{number}" for number in range(COUNT)} <= {
        row["frame_id"] for row in analyzer.rows()
    }


def test_debians_own_paho_is_one_line_that_says_what_to_do(machine: BareDebian) -> None:
    machine.run("sudo apt-get install -y python3-paho-mqtt")
    done = machine.try_to_run("python3 publish_images.py --help")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "error: the Python package paho can't be used as it is: " in done.stderr
    assert "requirements/camera.txt" in done.stderr


def test_an_analyzer_on_a_bare_machine_gives_each_frame_its_row(
    machine: BareDebian, changes: dict[str, str]
) -> None:
    *steps, start = with_changes(ANALYZER_STEPS, changes).splitlines()
    machine.run("\n".join(steps))
    settings = "\n".join(line for line in steps if line.startswith("export "))
    machine.run(f"{settings}\nnohup {start} > analyzer.log 2>&1 &")
    typed = with_changes(BY_HAND, {**changes, "--source picamera": f"--json --drain 300 --source {PICTURES}"})
    (line,) = re.findall(r"^\{.*\}$", machine.run(typed), re.M)
    read = f"import sqlite3; print(*sqlite3.connect('posture.db').execute('{FRAME_IDS}'))"
    # frames of a test before may have waited at the broker, too
    ours = re.findall(rf"'pi1-{json.loads(line)['boot_id']}-\d+'", machine.run(f"python3 -c {shlex.quote(read)}"))
    assert len(ours) == COUNT
