"""From a bare cluster to a farm and back, by the commands of README and nothing else.

The tests run in the order in which they stand here; each leaves what the next one needs. No Pi is here: the cameras
are publish_images.py with what the printed lines say (tests/bare types install.sh on a bare Debian).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from lightkube.core.exceptions import ApiError
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Namespace, Node, PersistentVolumeClaim, Pod
from real_farm import ROOT, WAIT_S, RealFarm
from stack import NAMESPACE, STREAMS, CameraLine, Stack
from thief import Thief
from watching import wait_for

from posture.system.children import bound_to_us

UP_S = 900.0
FPS = 2
FRAMES = 20
PARTS = {"posture-mqtt": NAMESPACE, "posture-postgres": NAMESPACE, "posture-pictures": NAMESPACE}
PROGRAMS = ("posture-scaler", "posture-dashboard", "posture-exporter")


@pytest.fixture(scope="module")
def stack(farm: RealFarm) -> Iterator[Stack]:
    """A bare cluster: nothing of the farm before, no labels, storage as K3s has it."""
    client = farm.cluster.client
    client.delete(Namespace, NAMESPACE)
    wait_for(lambda: NAMESPACE not in {one.metadata.name for one in client.list(Namespace)}, WAIT_S)
    for node in farm.nodes:
        client.patch(Node, node, {"metadata": {"labels": {"gpu-node": None}}})
    made = Stack(farm)
    made.give_storage()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def lines(stack: Stack) -> dict[str, CameraLine]:
    """The lines that setup_farm.py has printed."""
    return stack.camera_lines(stack.run("setup_farm.py"))


def film(stack: Stack, lines: Mapping[str, CameraLine]) -> dict[str, dict[str, Any]]:
    """Let each camera publish until some of its frames are rows; return what became of all, as it says."""
    before = stack.frames()
    cameras = {
        stream: subprocess.Popen(
            bound_to_us([
                sys.executable, str(ROOT / "publish_images.py"), "--pi-id", stream, "--json", "--loop",
                "--source", str(ROOT / "samples" / "side_walk.mp4"), "--fps", str(FPS),
                "--broker", line.broker, "--ca-file", str(line.ca_file), "--drain", str(WAIT_S),
            ]),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            env={
                "PATH": "/usr/bin:/bin",
                "POSTURE_MQTT_USERNAME_FILE": str(line.folder / "POSTURE_MQTT_USERNAME"),
                "POSTURE_MQTT_PASSWORD_FILE": str(line.folder / "POSTURE_MQTT_PASSWORD"),
            },
        )
        for stream, line in lines.items()
    }  # fmt: skip
    wait_for(lambda: all(stack.frames()[name] >= before[name] + FRAMES for name in lines), WAIT_S, look_s=2.0)
    for camera in cameras.values():
        camera.terminate()
    said = {stream: camera.communicate(timeout=WAIT_S)[0] for stream, camera in cameras.items()}
    return {stream: json.loads(text.splitlines()[-1]) for stream, text in said.items()}


def test_a_bare_cluster_becomes_a_farm_by_three_commands(stack: Stack) -> None:
    stack.apply("deploy/overlays/own-keda")
    said = stack.run("setup_farm.py")
    lines = stack.camera_lines(said)
    assert list(lines) == ["desk-10", "hall-1", "hall-2"]
    assert not [name for name, value in stack.secrets().items() if value in said]
    for name, namespace in {**PARTS, "prometheus": "monitoring"}.items():
        stack.until_ready(namespace, name)
    stack.bring_up(UP_S)
    for name in PROGRAMS:
        stack.until_ready(NAMESPACE, name)
    streams = {f"posture-farm/stream={name}" for name in STREAMS}
    ready = {one for one in streams if stack.kubectl("-n", NAMESPACE, "get", "pods", "-l", one, "-o", "name")}
    assert ready == streams
    assert {node.metadata.labels["gpu-node"] for node in stack.farm.cluster.client.list(Node)} == set(
        stack.farm.nodes
    )


def test_it_changes_nothing_a_second_time(stack: Stack) -> None:
    before = {path: path.read_bytes() for path in [stack.checkout / ".env", stack.checkout / "cluster.yaml"]}
    kinds = "secrets,configmaps,statefulsets,deployments"
    shown = ["-o", 'jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.resourceVersion}{"\\n"}{end}']
    versions = stack.kubectl("-n", NAMESPACE, "get", kinds, *shown)
    stack.run("setup_farm.py")
    assert {path: path.read_bytes() for path in before} == before
    assert stack.kubectl("-n", NAMESPACE, "get", kinds, *shown) == versions


def test_frames_of_cameras_with_their_printed_lines_are_rows_and_on_the_page(
    stack: Stack, lines: dict[str, CameraLine]
) -> None:
    captured = {stream: one["captured"] for stream, one in film(stack, lines).items()}
    wait_for(lambda: stack.frames() == captured, WAIT_S, look_s=2.0)
    rows = stack.rows()
    assert len(rows) == sum(captured.values()), "no row twice"
    with stack.page("operator", stack.secrets()["POSTURE_OPERATOR_PASSWORD"]) as page:
        assert set(page.json("/api/streams")["streams"]) == set(STREAMS)
        for stream in STREAMS:
            for row in [row for row in rows if row["pi_id"] == stream]:
                picture = page.get(f"/api/streams/{stream}/frames/{row['frame_id']}")
                assert picture.startswith(b"\xff\xd8"), row
        farm = page.json("/api/farm")
        assert {one["id"] for node in farm["nodes"] for one in node["streams"]} == set(STREAMS)
        assert {node["name"] for node in farm["nodes"]} == set(stack.farm.nodes)


def test_a_stolen_password_of_a_camera_opens_its_own_topic_only(stack: Stack, lines: dict[str, CameraLine]) -> None:
    thief = Thief(lines["hall-1"])
    try:
        assert thief.may_publish("images/hall-1")
        others = ["images/hall-2", "status/hall-1", "state/hall-1", "committed/hall-1", "commands/hall-1", "x"]
        assert [topic for topic in others if thief.may_publish(topic)] == []
        # the broker takes the subscription, and sends what this user may read
        assert thief.hears("#") <= {"status/hall-1", "committed/hall-1"}
    finally:
        thief.close()


def test_the_database_is_restored_from_a_backup(stack: Stack) -> None:
    client = stack.farm.cluster.client

    def done(name: str) -> bool:
        status = client.get(Job, name, namespace=NAMESPACE).status
        assert not (status and status.failed), stack.kubectl("-n", NAMESPACE, "logs", f"job/{name}")
        return bool(status and status.succeeded)

    before = stack.rows()
    assert before
    stack.kubectl("-n", NAMESPACE, "create", "job", "backup-now", "--from=cronjob/posture-backup")
    wait_for(lambda: done("backup-now"), WAIT_S, look_s=0.5)
    stack.sql("DELETE FROM posture_log")
    assert stack.rows() == []
    stack.apply("deploy/stack/restore")
    wait_for(lambda: done("posture-restore"), WAIT_S, look_s=0.5)
    assert stack.rows() == before


def test_after_the_end_nothing_is_left_but_what_is_documented(stack: Stack) -> None:
    stack.press_enter()
    client = stack.farm.cluster.client
    streams = [
        pod.metadata.name for pod in client.list(Pod, namespace=NAMESPACE, labels={"posture-farm/stream": None})
    ]
    assert streams == []
    stack.kubectl("-n", NAMESPACE, "delete", "job", "--all")
    said = stack.run("setup_farm.py", "--undo", "--yes")
    assert said
    assert not [node for node in client.list(Node) if "gpu-node" in (node.metadata.labels or {})]
    claims = {claim.metadata.name for claim in client.list(PersistentVolumeClaim, namespace=NAMESPACE)}
    assert claims, "what a person has to delete by hand"
    stack.delete("deploy/overlays/own-keda")

    def gone() -> bool:
        try:
            client.get(Namespace, NAMESPACE)
        except ApiError:
            return True
        return False

    wait_for(gone, WAIT_S, look_s=0.5)


def test_the_machine_is_as_it_was(farm: RealFarm) -> None:
    farm.close()
    assert farm.leftovers() == []
