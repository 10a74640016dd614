"""From a bare cluster to a farm and back, by the commands of README and nothing else; and what the farm survives.

The tests run in the order in which they stand here; each leaves what the next one needs. No Pi is here: a bare
Debian is one camera by its printed line, with a folder of pictures as its source, and the others are
publish_images.py with what their lines say.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from bare_debian import CHECKOUT, booted
from documented_steps import COUNT, ENVIRONMENT, PICTURES, SET_UP, STACK, eventually, give_pictures
from faults import ANY_FARM, ANY_FARM_FIRST, SEED, Fault, survive
from lightkube.core.exceptions import ApiError
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Namespace, Node, PersistentVolumeClaim, Pod
from minio import Minio
from minio.error import S3Error
from real_farm import WAIT_S, RealFarm
from stack import NAMESPACE, STREAMS, Stack
from stack_faults import STACK_FIRST, STACK_OTHERS
from thief import Thief, listening
from typed import with_changes
from watching import wait_for

UP_S = 900.0
FRAMES = 20
RANDOM_FAULTS = 10
PARTS = {"posture-mqtt": NAMESPACE, "posture-postgres": NAMESPACE, "posture-pictures": NAMESPACE}
PROGRAMS = ("posture-scaler", "posture-dashboard", "posture-exporter")
STOLEN = b"whose password was stolen"
OTHERS_TOPICS = (
    "images/hall-2", "images/HALL-2", "images", "images/hall-1/x", "status/hall-1", "status/hall-2",
    "posture/hall-1/state", "posture/hall-2/state", "posture/hall-1/alert", "posture/hall-1/picture",
    "posture/hall-1/answer", "committed/hall-1", "committed/hall-2", "camera/hall-1", "account/hall-1",
    "calibration/hall-1", "suspects/hall-1", "command/hall-1", "command/hall-2", "$CONTROL/dynamic-security/v1",
    "$SYS/broker/version", "x",
)  # fmt: skip
SUBSCRIPTIONS = (
    "#",
    "+/+",
    "images/hall-2",
    "$share/stolen/images/+",
    "$share/stolen/#",
    "$SYS/#",
    "posture/+/picture",
)


@pytest.fixture(scope="module")
def stack(farm: RealFarm) -> Iterator[Stack]:
    """A bare cluster: nothing of the farm before, no labels, storage as K3s has it."""
    client = farm.cluster.client
    client.delete(Namespace, NAMESPACE)
    wait_for(lambda: NAMESPACE not in {one.metadata.name for one in client.list(Namespace)}, WAIT_S)
    for name, node in farm.nodes.items():
        node.leave_labels_to_others()
        client.patch(Node, name, {"metadata": {"labels": {"gpu-node": None}}})
    made = Stack(farm)
    made.give_storage()
    try:
        yield made
    finally:
        made.close()


def cases(*faults: Fault) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", [pytest.param(one, id=one.name.replace(" ", "-")) for one in faults])


def until_done(stack: Stack, name: str) -> None:
    """Wait until a Job has done what it is for."""

    def done() -> bool:
        status = stack.cluster.client.get(Job, name, namespace=NAMESPACE).status
        assert not (status and status.failed), stack.kubectl("-n", NAMESPACE, "logs", f"job/{name}")
        return bool(status and status.succeeded)

    wait_for(done, WAIT_S, look_s=0.5)


def test_a_bare_cluster_becomes_a_farm_by_readmes_commands(stack: Stack) -> None:
    # the farm's KEDA is its own, and the public images are stood in for
    stack.type(with_changes(STACK, {"deploy/stack": str(stack.with_our_images("deploy/overlays/own-keda"))}))
    stack.type(ENVIRONMENT)
    said = stack.type(SET_UP)
    lines = stack.camera_lines(said)
    assert list(lines) == ["desk-10", "hall-1", "hall-2"]
    assert not [name for name, value in stack.secrets().items() if value in said]
    for name, namespace in {**PARTS, "prometheus": "monitoring"}.items():
        stack.until_ready(namespace, name)
    stack.bring_up(UP_S)
    for name in PROGRAMS:
        stack.until_ready(NAMESPACE, name)
    stack.until_each_runs_once()
    assert {node.metadata.labels["gpu-node"] for node in stack.cluster.client.list(Node)} == set(stack.nodes)


def objects_of(stack: Stack) -> list[Any]:
    """The farm's objects, without what controllers note of those that have pods, which may come late."""
    kinds = "secrets,configmaps,statefulsets,deployments"
    found = json.loads(stack.kubectl("-n", NAMESPACE, "get", kinds, "-o", "json"))["items"]
    for one in found:
        if one.pop("status", None) is not None:
            del one["metadata"]["resourceVersion"]
    return list(found)


def test_it_changes_nothing_a_second_time(stack: Stack) -> None:
    before = {path: path.read_bytes() for path in [stack.checkout / ".env", stack.checkout / "cluster.yaml"]}
    objects = objects_of(stack)
    stack.type(SET_UP)
    assert {path: path.read_bytes() for path in before} == before
    assert objects_of(stack) == objects


def test_frames_of_cameras_with_their_printed_lines_are_rows_and_on_the_page(stack: Stack) -> None:
    with stack.traffic("first frames"):
        wait_for(lambda: min(stack.count_rows(stream) for stream in STREAMS) >= FRAMES, WAIT_S, look_s=1.0)
    rows = stack.rows()
    with stack.page("operator", stack.secrets()["POSTURE_OPERATOR_PASSWORD"]) as page:
        assert set(page.json("/api/streams")["streams"]) == set(STREAMS)
        for row in rows:
            picture = page.get(f"/api/streams/{row['pi_id']}/frames/{row['frame_id']}")
            assert picture.startswith(b"\xff\xd8"), row
        farm = page.json("/api/farm")
        assert {one["id"] for node in farm["nodes"] for one in node["streams"]} == set(STREAMS)
        assert {node["name"] for node in farm["nodes"]} == set(stack.nodes)


def test_a_bare_debian_becomes_a_camera_by_its_printed_line(stack: Stack, tmp_path: Path) -> None:
    line, before = stack.lines["hall-1"], stack.count_rows("hall-1")
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    with booted(architecture.stdout.strip(), tmp_path) as pi:
        give_pictures(pi)
        shutil.copytree(line.folder, pi.root / CHECKOUT.lstrip("/") / "broker" / line.folder.name)
        pi.run(with_changes(line.printed, {" picamera ": f" {PICTURES} "}))
        wait_for(lambda: stack.count_rows("hall-1") == before + COUNT, WAIT_S, look_s=1.0)
        confirmed = f"confirmed {COUNT}, waiting 0, dropped 0"
        eventually(lambda: confirmed in pi.run("sudo journalctl --no-pager -u posture-camera"))


@cases(*STACK_FIRST, *ANY_FARM_FIRST)
def test_every_stream_runs_once_and_no_frame_is_lost_after(stack: Stack, fault: Fault) -> None:
    survive(stack, fault, random.Random(SEED))


@pytest.mark.long
@cases(*STACK_OTHERS, *(one for one in ANY_FARM if one not in ANY_FARM_FIRST))
def test_every_stream_runs_once_and_no_frame_is_lost_also_after(stack: Stack, fault: Fault) -> None:
    survive(stack, fault, random.Random(SEED))


@pytest.mark.long
def test_ten_faults_at_random_lose_no_frame(stack: Stack) -> None:
    print(f"E2E_SEED={SEED}")
    rng = random.Random(SEED)
    failures = []
    for fault in rng.choices(STACK_FIRST + STACK_OTHERS + ANY_FARM, k=RANDOM_FAULTS):
        try:
            survive(stack, fault, rng)
        except AssertionError as error:
            failures.append((fault.name, str(error)))
    assert not failures, failures


def test_a_stolen_password_of_a_camera_opens_its_own_topic_only_while_the_farm_works(stack: Stack) -> None:
    camera = stack.lines["hall-1"]
    user, password = (camera.read(f"POSTURE_MQTT_{name}") for name in ("USERNAME", "PASSWORD"))
    thief = Thief(camera, STOLEN)
    with (
        stack.traffic("a stolen password of hall-1's camera"),
        listening(camera, stack.checkout / "broker" / "viewer") as heard,
    ):
        assert thief.may_publish("images/hall-1")
        assert [topic for topic in OTHERS_TOPICS if thief.may_publish(topic)] == []
        assert [topic for topic in OTHERS_TOPICS if thief.may_publish(topic, retain=True)] == []
        for topic in ("status/hall-2", "posture/hall-2/state"):
            thief.may_leave(topic)
        # the broker takes each subscription, and sends what this user may read
        for topic in SUBSCRIPTIONS:
            assert thief.hears(topic) <= {"status/hall-1", "committed/hall-1"}, topic
        for name in (user, "posture", "postgres"):
            with pytest.raises(psycopg.OperationalError, match="authentication failed"):
                psycopg.connect(
                    host=stack.address_of("posture-postgres"), user=name, password=password, dbname="posture"
                )
        store = Minio(
            f"{stack.address_of('posture-pictures')}:8333", user, password, secure=False, region="us-east-1"
        )
        with pytest.raises(S3Error):
            list(store.list_objects("posture"))
        for name in (user, "operator", "admin"):
            with pytest.raises(requests.HTTPError), stack.page(name, password):
                pass
        heard_of_it = [topic for topic, payload in heard if STOLEN in payload]
    assert heard_of_it == []
    # what it may: it is that camera
    assert stack.ask(
        "SELECT DISTINCT pi_id FROM posture_log WHERE frame_id = %s", hashlib.sha256(STOLEN).hexdigest()
    ) == [("hall-1",)]


def test_the_database_is_restored_from_a_backup_while_cameras_publish(stack: Stack) -> None:
    """Nothing but what was written between backup and stop is gone, and that is known by name."""
    with stack.traffic("database restored"):
        rows = stack.count_rows(*STREAMS)
        stack.kubectl("-n", NAMESPACE, "create", "job", "backup-now", "--from=cronjob/posture-backup")
        until_done(stack, "backup-now")
        saved = stack.count_rows(*STREAMS)
        wait_for(lambda: stack.count_rows(*STREAMS) > saved, WAIT_S)
        stack.run("stop.py")
        before = {row["frame_id"]: row for row in stack.rows()}
        stack.apply("deploy/stack/restore")
        until_done(stack, "posture-restore")
        after = {row["frame_id"]: row for row in stack.rows()}
        assert after.items() <= before.items()
        assert len(after) >= rows, "what was there when the backup was begun is in it"
        gone = [row for name, row in before.items() if name not in after]
        assert gone
        stack.taken |= {(row["boot_id"], int(row["seq"])) for row in gone}
        stack.delete("deploy/stack/restore")
        stack.run("build_and_push.py", "--in-cluster", "--skip-build", "--no-wait", timeout_s=UP_S)
        for name in PROGRAMS:
            stack.until_ready(NAMESPACE, name)
        stack.until_each_runs_once()


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
