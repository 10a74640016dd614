"""run_local.py as its user meets it: started once as a program, watched from outside."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests
from processes import children_of, is_running
from raw_mqtt import RawClient, publish, user_property
from servers import Mosquitto
from watching import wait_for

from posture.demo import summary
from posture.demo.run import StatusView, page_port

ROOT = Path(__file__).resolve().parents[2]
START_S = 150.0


def start(folder: Path, *flags: str, keep: str = "all") -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")}
    environ["POSTURE_ANALYZER_KEEP"] = keep
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run_local.py"), "--output", str(folder), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env=environ,
    )


def ids(folder: Path, pi_id: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(folder / "posture.db")) as db:
        query = "SELECT frame_id FROM posture_log WHERE pi_id = ?"
        return [name for (name,) in db.execute(query, (pi_id,))]


def pictures(folder: Path, pi_id: str) -> list[Path]:
    return list((folder / "analyzed_images" / f"analyzed_images_from_{pi_id}").glob("*.jpg"))


def wait_for_pictures(process: subprocess.Popen[str], folder: Path) -> None:
    """Wait until both streams have pictures; files have no event to wait for."""
    deadline = time.monotonic() + START_S
    while not all(pictures(folder, pi_id) for pi_id in ("pi1", "pi2")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def usual_port_taken() -> Iterator[None]:
    """The run gives its page another port: the run of another test may be about to take the usual one, too."""
    with socket.socket() as usual:
        usual.bind(("127.0.0.1", page_port()))
        yield


@pytest.mark.usefixtures("usual_port_taken")
def test_its_first_line_leads_to_a_page_with_both_streams_while_it_runs(tmp_path: Path) -> None:
    process = start(tmp_path / "run", "--fps", "5", "--duration", "600")
    try:
        assert process.stdout is not None
        said = re.fullmatch(
            r"dashboard: (http://127\.0\.0\.1:\d+)/ \(while this runs\)\n", process.stdout.readline()
        )
        assert said
        wait_for_pictures(process, tmp_path / "run")
        page = f"{said[1]}/"

        def both_have_a_picture() -> bool:
            with contextlib.suppress(requests.ConnectionError):  # it may be up later than the analyzers
                streams = requests.get(f"{page}api/streams", timeout=60).json()["streams"]
                return all(streams.get(pi_id, {}).get("picture") for pi_id in ("pi1", "pi2"))
            return False

        wait_for(both_have_a_picture, START_S)
        process.send_signal(signal.SIGINT)
        assert process.wait(200) == 0
        with pytest.raises(requests.ConnectionError):
            requests.get(page, timeout=60)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "flags", [pytest.param((), id="the broker at hand"), pytest.param(("--embedded-broker",), id="embedded broker")]
)
def test_every_frame_of_both_streams_has_its_row_and_picture_and_the_summary_says_so(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    if flags:
        pytest.importorskip("amqtt", reason="amqtt is not installed: requirements/local.txt")
    folder = tmp_path / "run"
    output, errors = start(folder, "--limit", "40", "--fps", "20", *flags).communicate(timeout=200)
    assert errors == ""
    for pi_id in ("pi1", "pi2"):
        assert len(ids(folder, pi_id)) == len(set(ids(folder, pi_id))) == 40
        assert len(pictures(folder, pi_id)) == 40
        said = re.search(
            rf"{pi_id}: published 40, rows 40 \(Good (\d+), Bad (\d+), Unknown (\d+)\), pictures 40, lost 0", output
        )
        assert said, output
        assert sum(map(int, said.groups())) == 40
    sheet = cv2.imread(str(folder / "summary.png"))
    assert sheet is not None
    assert sheet.shape[1] == 1600
    assert not list((folder / "spool").glob("*/*.jpg"))


def test_by_default_pictures_are_kept_at_changes_and_the_summary_says_which(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    output, errors = start(folder, "--limit", "40", "--fps", "20", keep="changes").communicate(timeout=200)
    assert errors == ""
    assert "at changes of the state, at alerts, and one a minute; POSTURE_ANALYZER_KEEP=all" in output
    for pi_id in ("pi1", "pi2"):
        kept = len(pictures(folder, pi_id))
        assert 1 <= kept < 20
        assert re.search(rf"{pi_id}: published 40, rows 40 .*, pictures {kept}, lost 0\n", output)
    assert (folder / "summary.png").exists()


def test_ctrl_c_ends_the_run_early_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, "--duration", "600", "--fps", "4")  # what waits at its end must not take a minute
    wait_for_pictures(process, folder)
    children = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, output + errors
    assert len(re.findall(r"lost 0$", output, flags=re.MULTILINE)) == 2
    assert not any(is_running(child) for child in children)


def test_a_run_that_is_killed_leaves_no_child_behind(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, "--duration", "600")
    wait_for_pictures(process, folder)
    children = children_of(process.pid)
    assert len(children) == 6  # a broker, two analyzers, two cameras, the dashboard
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while any(is_running(child) for child in children):
        assert time.monotonic() < deadline, "children outlive the run"
        time.sleep(0.05)


def test_a_run_whose_analyzer_dies_says_so_and_fails(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, "--duration", "600")
    wait_for_pictures(process, folder)
    (analyzer,) = (
        child
        for child in children_of(process.pid)
        if b"Images_From_Pi2.py" in Path(f"/proc/{child}/cmdline").read_bytes()
    )
    os.kill(analyzer, signal.SIGKILL)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "analyzer-pi2 has ended with status -9" in errors
    assert "pi1: published" in output


def test_a_lost_picture_is_counted_and_the_run_ends_with_status_1(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, "--limit", "40", "--fps", "2")  # it goes on while the picture is deleted
    wait_for_pictures(process, folder)
    pictures(folder, "pi1")[0].unlink()
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 1, output + errors
    assert re.search(r"pi1: published 40, rows 40 .*, pictures 39, lost 1$", output, flags=re.MULTILINE)
    assert re.search(r"pi2: published 40, rows 40 .*, pictures 40, lost 0$", output, flags=re.MULTILINE)


def test_a_camera_that_fails_is_told_with_its_own_words(tmp_path: Path) -> None:
    process = start(tmp_path / "run", "--source", "7")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "camera-pi1: error: --source 7: there is no webcam at /dev/video7" in output


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        pytest.param(("--source", "/nowhere.mp4"), "--source /nowhere.mp4: there is no such file", id="source"),
        pytest.param(("--source", __file__), "can't be opened as a video; accepted: a video", id="no-video"),
        pytest.param(("--limit", "0"), "--limit 0: accepted: a whole number of at least 1", id="limit"),
        pytest.param(("--config", "/nowhere.yaml"), "/nowhere.yaml: can't be read", id="settings"),
    ],
)
def test_bad_input_ends_with_status_2_before_anything_is_started(
    tmp_path: Path, flags: tuple[str, ...], part: str
) -> None:
    process = start(tmp_path / "run", *flags)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert part in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_in_it_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    process = start(tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "has something in it" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_summary_of_a_stream_without_rows_says_so_instead_of_failing(tmp_path: Path) -> None:
    summary.draw([summary.StreamResult("pi1", [], tmp_path)], tmp_path / "summary.png")
    assert cv2.imread(str(tmp_path / "summary.png")) is not None


def test_the_contact_sheet_holds_pictures_of_any_size() -> None:
    sizes = [(10, 10), (2000, 30), (30, 2000)]
    sheet = summary.contact_sheet([np.full((*size, 3), 40 * n, np.uint8) for n, size in enumerate(sizes)])
    assert sheet.shape[1] >= summary.CELL_WIDTH
    assert {0, 40, 80} <= set(np.unique(sheet))


def test_a_status_message_of_a_stranger_does_not_end_the_run(mosquitto: Mosquitto) -> None:
    raw = RawClient(mosquitto.port)
    poison = user_property(b"who", "\ufeff".encode())
    for payload, properties in [(b"", b""), (b"{", b""), (b"[7]", b""), (b"[" * 100_000, b""), (b"{}", poison)]:
        raw.send(publish(b"status/pi1", payload, properties, retain=True))
        raw.send(publish(b"status/pi2", b'{"state": "online"}', retain=True))
        view = StatusView(mosquitto.port)
        deadline = time.monotonic() + 20
        while not view.is_online("pi2") and time.monotonic() < deadline:
            view.turn()
        assert view.is_online("pi2")
        assert not view.is_online("pi1")
    raw.close()
