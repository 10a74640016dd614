"""broker_identities.py as its user runs it, and the farm's programs at a broker that has its users."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from camera_script import published, publishing
from farm import Analyzer, Watcher, ended
from identities import TAP, TAP_PASSWORD, Client, credentials, files_with_tap, guarded_mosquitto
from servers import Mosquitto

from posture.wire.identities import PASSWORD, USERNAME, withdraw

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "broker_identities.py"), *arguments],
        env={**os.environ, **environ}, cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def as_user(folder: Path) -> dict[str, str]:
    """The settings that docs/broker.md gives to a camera or an analyzer."""
    return {f"{name}_FILE": str(folder / name) for name in (USERNAME, PASSWORD)}


def test_without_names_it_makes_the_users_of_all_streams_here_and_prints_no_password(tmp_path: Path) -> None:
    done = run("--dir", str(tmp_path / "broker"))
    assert done.returncode == 0, done.stderr
    for user in (
        "analyzer.pi1",
        "takeover.pi1",
        "suspects.pi1",
        "camera.pi1",
        "analyzer.pi2",
        "camera.pi2",
        "viewer.all",
        "balancer.all",
        "dashboard.all",
    ):
        assert user in done.stdout
    passwords = [path.read_text() for path in (tmp_path / "broker").rglob(PASSWORD)]
    assert len(passwords) == 7
    assert not any(password in done.stdout + done.stderr for password in passwords)


def test_the_users_follow_the_list_and_those_of_a_stream_that_it_no_longer_has_are_told_of(tmp_path: Path) -> None:
    settings = tmp_path / "farm.yaml"
    for names in ("[hall-1, hall-2]", "[hall-1, hall-3]"):
        settings.write_text(f"streams: {names}\n")
        done = run("--config", str(settings), "--dir", str(tmp_path / "broker"))
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kept: users of hall-2, which streams of cluster.yaml does not have;")
    folders = {path.name for path in (tmp_path / "broker").glob("camera-*")}
    assert folders == {"camera-hall-1", "camera-hall-2", "camera-hall-3"}


def test_a_prefix_of_the_environment_is_in_users_and_topics(tmp_path: Path) -> None:
    assert run("--dir", str(tmp_path), "pi1", POSTURE_MQTT_PREFIX="lab/a").returncode == 0
    assert (tmp_path / "camera-pi1" / USERNAME).read_text() == "lab.a.camera.pi1"
    assert "topic write lab/a/images/pi1\n" in (tmp_path / "mosquitto" / "acl").read_text()


@pytest.mark.parametrize("name", ["Pi1", "pi/1", "#", "pi1\ntopic readwrite #", "", "..", "a" * 33])
def test_what_is_no_streams_name_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    done = run("--dir", str(tmp_path / "broker"), "pi1", name)
    assert done.returncode == 2
    assert done.stderr == f"error: {name!r} is no stream's name; accepted: a-z, 0-9 and -, up to 32\n"
    assert not (tmp_path / "broker").exists()


def test_a_place_that_is_no_folder_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--dir", str(tmp_path / "file"), "pi1")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/file")
    assert done.stderr.count("\n") == 1


def give(broker: Mosquitto, identities: Path, folder: Path) -> None:
    """Let a broker start again with other users."""
    files_with_tap(identities, folder)
    broker.stop()
    shutil.copytree(folder, broker.log.parent, dirs_exist_ok=True)
    broker.start()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mosquitto]:
    assert run("--dir", str(tmp_path / "identities"), "pi1").returncode == 0
    broker = guarded_mosquitto(tmp_path, tmp_path / "identities")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def test_frames_become_rows_and_a_newer_analyzer_takes_the_stream_over(guarded: Mosquitto, tmp_path: Path) -> None:
    identities = tmp_path / "identities"
    watcher = Watcher(guarded.port, TAP, TAP_PASSWORD)
    older = Analyzer(tmp_path, guarded.port, **as_user(identities / "analyzer-pi1"))
    older.start().wait_online(watcher)
    clip = next((ROOT / "samples").glob("*.mp4"))
    camera = [
        sys.executable, str(ROOT / "publish_images.py"), "--pi-id", "pi1", "--source", str(clip), "--limit", "5",
        "--broker", f"mqtt://127.0.0.1:{guarded.port}", "--spool", str(tmp_path / "spool"), "--json",
    ]  # fmt: skip
    environ = {**os.environ, **as_user(identities / "camera-pi1")}
    done = subprocess.run(camera, env=environ, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["receipted"] == 5
    newer = Analyzer(tmp_path, guarded.port, **as_user(identities / "analyzer-pi1"))
    newer.start().wait_online(watcher)
    assert older.process is not None
    assert older.process.wait(60) == 0, older.log.read_text()
    assert newer.stop() == 0
    assert len(newer.rows()) == 5
    watcher.close()


def test_a_users_password_is_changed_as_documented_and_no_other(guarded: Mosquitto, tmp_path: Path) -> None:
    """As docs/broker.md has it: the file deleted, the script run again, the broker started again."""
    identities = tmp_path / "identities"
    before = {folder: credentials(identities, folder) for folder in ("camera-pi1", "analyzer-pi1")}
    (identities / "camera-pi1" / PASSWORD).unlink()
    assert run("--dir", str(identities), "pi1").returncode == 0
    give(guarded, identities, tmp_path / "again")
    for (user, password), taken in (
        (before["camera-pi1"], False),
        (credentials(identities, "camera-pi1"), True),
        (before["analyzer-pi1"], True),
    ):
        client = Client(guarded.port, user, password)
        assert bool(client.refused) is not taken
        client.close()


def test_a_stream_moves_to_another_farm_at_its_broker_without_a_loss_and_its_camera_stays_as_it_is(
    tmp_path: Path,
) -> None:
    """As docs/operations.md has it: users copied, taken down here, brought up there."""
    old, new = tmp_path / "old", tmp_path / "new"
    assert run("--dir", str(old), "pi1", "pi2").returncode == 0
    shutil.copytree(old, new)
    broker = guarded_mosquitto(tmp_path, old)
    broker.start()
    watcher = Watcher(broker.port, TAP, TAP_PASSWORD)
    farms = []
    for folder in (old, new):
        (tmp_path / f"rows-{folder.name}").mkdir()
        settings = as_user(folder / "analyzer-pi1")
        farms.append(Analyzer(tmp_path / f"rows-{folder.name}", broker.port, **settings))
    here, there = farms
    clip = str(ROOT / "samples" / "side_walk.mp4")
    shutil.copytree(old / "camera-pi1", tmp_path / "on-the-pi")
    flags, users = ("--source", clip, "--loop", "--fps", "5"), as_user(tmp_path / "on-the-pi")
    with ended(here, there):
        here.start().wait_online(watcher)
        with publishing(tmp_path, broker.port, *flags, **users) as camera:
            watcher.wait_for(lambda w: len(w.receipts) >= 10)
            assert here.stop() == 0
            here.start("--clear-topics")
            assert here.process is not None
            assert here.process.wait(60) == 0, here.log.read_text()
            withdraw(old, ["pi1"])
            give(broker, old, tmp_path / "without")
            assert camera.wait(60) == 2, "it is refused; as a service it tries again every ten seconds"
        assert run("--dir", str(new), "pi1", "pi2").returncode == 0
        give(broker, new, tmp_path / "again")
        there.start().wait_online(watcher)
        status, result, log = published(tmp_path, broker.port, *flags, "--limit", "10", "--drain", "240", **users)
        assert (status, result["in_spool"], result["dropped"], result["set_aside"]) == (0, 0, 0, 0), log
        assert there.stop() == 0
        watcher.wait_for(lambda w: w.retained["status/pi1"]["state"] == "offline")
    watcher.close()
    broker.stop()
    rows = [row["frame_id"] for farm in farms for row in farm.rows()]
    assert len(rows) == len(set(rows))
    assert set(rows) == watcher.receipts
    assert min(len(farm.rows()) for farm in farms) >= 10


DEBIANS_MOSQUITTO_CONF = """\
pid_file {folder}/mosquitto.pid
persistence true
persistence_location {folder}/
log_dest file {folder}/mosquitto.log
include_dir {folder}/conf.d
"""
"""What Debian, Ubuntu and Raspberry Pi OS install as /etc/mosquitto/mosquitto.conf, in another folder."""


class DebiansMosquitto(Mosquitto):
    """Mosquitto as Debian sets it up, with deploy/mosquitto-debian.conf in its conf.d."""

    def __init__(self, folder: Path, identities: Path) -> None:
        super().__init__(folder)
        ours = (ROOT / "deploy" / "mosquitto-debian.conf").read_text()
        for old, new in (
            ("\nlistener 1883\n", f"\nlistener {self.port} 127.0.0.1\n"),
            ("/etc/mosquitto/posture/", f"{identities}/mosquitto/"),
        ):
            assert old in ours
            ours = ours.replace(old, new)
        (folder / "conf.d").mkdir()
        (folder / "conf.d" / "posture.conf").write_text(ours)
        user = "user root\n" if os.geteuid() == 0 else ""
        (folder / "mosquitto.conf").write_text(user + DEBIANS_MOSQUITTO_CONF.format(folder=folder))


def test_mosquitto_as_debian_sets_it_up_starts_with_our_file_and_knows_its_users(tmp_path: Path) -> None:
    identities = tmp_path / "identities"
    assert run("--dir", str(identities), "pi1").returncode == 0
    broker = DebiansMosquitto(tmp_path / "etc", identities)
    broker.start()
    try:
        camera = [
            sys.executable, str(ROOT / "publish_images.py"), "--pi-id", "pi1", "--limit", "1", "--no-spool",
            "--source", str(ROOT / "samples" / "side_walk.mp4"), "--broker", f"127.0.0.1:{broker.port}",
        ]  # fmt: skip
        for environ, status in ((as_user(identities / "camera-pi1"), 0), ({}, 2)):
            done = subprocess.run(
                camera, env={**os.environ, **environ}, capture_output=True, text=True, timeout=90, check=False
            )
            assert done.returncode == status, done.stderr
    finally:
        broker.stop()


def test_the_file_for_debian_says_what_the_docs_say_but_for_what_debian_says_itself() -> None:
    page = (ROOT / "docs" / "broker.md").read_text()
    documented = dict(line.split(" ", 1) for line in page.split("```")[1].split("\n") if line)
    lines = (ROOT / "deploy" / "mosquitto-debian.conf").read_text().splitlines()
    ours = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    assert documented.keys() - ours.keys() == {"persistence", "persistence_location"}
    assert ours.keys() - documented.keys() == {"listener"}
    assert all(ours[name] == documented[name] for name in ours if name.startswith(("max_", "allow_", "use_")))
