"""The farm's programs on ARM's processors, with the real broker, Prometheus and gRPC client on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import grpc
import psycopg
import pytest
from camera_script import publishing, result_of
from driven_exporter import GpuExporter, gpu_queries
from farm import Analyzer, Camera, Watcher, clip_jpegs, ended
from machines import PYTHON, Machine
from scaler_process import ScalerProcess, poll, ref, wire_grpc
from servers import Mosquitto, Postgres, PrometheusServer

MakeMachine = Callable[..., Machine]
EMULATED_S = 600.0
"""A frame takes up to half a minute, and other tests run beside it."""


def analyse(machine: Machine, mosquitto: Mosquitto, folder: Path, frames: int, database: str = "") -> Analyzer:
    """Let an analyzer judge frames of the clip, each with somebody in it; return it when it has ended."""
    analyzer = Analyzer(folder, mosquitto.port, database=database)
    analyzer.command = machine.command(PYTHON, *analyzer.command[1:])
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    with ended(analyzer.start()):
        watcher.wait_for(lambda w: (w.retained.get("status/pi1") or {}).get("state") == "online", EMULATED_S)
        for jpeg in clip_jpegs(100)[:: 100 // frames][:frames]:
            camera.publish_now(jpeg)
        watcher.wait_for(lambda w: w.receipts >= set(camera.published), EMULATED_S)
        assert analyzer.stop(EMULATED_S) == 0
    camera.close()
    watcher.close()
    return analyzer


@pytest.mark.parametrize(
    "processor", [pytest.param(name, id=f"{name}, {board}") for name, board in
                  (("cortex-a72", "Raspberry Pi 4"), ("cortex-a76", "Raspberry Pi 5"))]
)  # fmt: skip
def test_an_analyzer_writes_a_row_and_a_picture_for_each_frame(
    analyzer_machine: MakeMachine, mosquitto: Mosquitto, tmp_path: Path, processor: str
) -> None:
    frames = 20 if os.environ["ARM"] == "all" else 4
    analyzer = analyse(analyzer_machine(processor), mosquitto, tmp_path, frames)
    rows = analyzer.rows()
    assert len(rows) == frames
    assert {row["posture_status"] for row in rows} <= {"Good", "Bad", "Unknown"}
    assert any(row["neck_angle"] is not None for row in rows)
    pictures = [cv2.imread(str(analyzer.pictures / name)) for name in analyzer.picture_names()]
    assert len(pictures) == frames
    assert all(picture is not None for picture in pictures)
    assert "Traceback" not in analyzer.log.read_text()


@pytest.mark.long
@pytest.mark.parametrize("processor", ["cortex-a72", "cortex-a76"])
def test_an_analyzer_writes_its_rows_to_postgresql(
    analyzer_machine: MakeMachine, mosquitto: Mosquitto, postgres: Postgres, tmp_path: Path, processor: str
) -> None:
    analyse(analyzer_machine(processor), mosquitto, tmp_path, 4, postgres.url)
    with psycopg.connect(postgres.url) as db:
        assert db.execute("SELECT count(*) FROM posture_log").fetchone() == (4,)


@pytest.mark.parametrize(
    "processor",
    ["cortex-a72", pytest.param("cortex-a53", marks=pytest.mark.long),
     pytest.param("cortex-a76", marks=pytest.mark.long)],
)  # fmt: skip
def test_the_scaler_answers_keda(
    small_machine: MakeMachine, prometheus: PrometheusServer, gpu_exporter: GpuExporter, tmp_path: Path,
    processor: str,
) -> None:  # fmt: skip
    gpu_exporter.set("a", 12)
    gpu_exporter.set("b", 34)
    machine = small_machine(processor, "arm64", "scheduler-image", "libstdc++6")  # each Debian with apt has it
    scaler = ScalerProcess(tmp_path / "scaler", gpu_queries("a", "b"), prometheus.url, "--no-balancer")
    scaler.command = machine.command(PYTHON, *scaler.command[1:])
    scaler.start_s = EMULATED_S
    scaler.start()
    try:
        with grpc.insecure_channel(scaler.address) as channel:
            stub = wire_grpc.ExternalScalerStub(channel)
            deadline = time.monotonic() + EMULATED_S
            while (answer := poll(stub, ref())) != (True, 88.0 + 66.0):  # the room on both nodes, in percent
                assert time.monotonic() < deadline, answer
                time.sleep(0.1)
    finally:
        scaler.stop()


@pytest.mark.parametrize(
    ("processor", "architecture", "role", "debian"),
    [
        pytest.param("cortex-a7", "armhf", "camera-debian", ("python3-yaml",), id="armhf"),
        pytest.param("cortex-a53", "arm64", "camera", (), id="arm64"),
    ],
)
def test_a_camera_publishes_a_folder_of_pictures_and_gets_its_receipts(
    small_machine: MakeMachine, mosquitto: Mosquitto, tmp_path: Path, processor: str, architecture: str, role: str,
    debian: tuple[str, ...],
) -> None:  # fmt: skip
    machine = small_machine(processor, architecture, role, *debian)
    folder = tmp_path / "pictures-to-send"
    folder.mkdir()
    for number, jpeg in enumerate(clip_jpegs(10)):
        (folder / f"{number}.jpg").write_bytes(jpeg)
    flags = ("--source", str(folder), "--fps", "20", "--drain", str(int(EMULATED_S)))
    analyzer = Analyzer(tmp_path, mosquitto.port)
    with (
        ended(analyzer.start()),
        publishing(tmp_path, mosquitto.port, *flags, python=machine.command(PYTHON)) as camera,
    ):
        status, result, log = result_of(camera, EMULATED_S)
        assert analyzer.stop() == 0
    assert status == 0, log
    assert (result["captured"], result["receipted"], result["in_spool"], result["dropped"]) == (10, 10, 0, 0)
    assert len(analyzer.rows()) == 10
