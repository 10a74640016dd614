"""A stream that was taken out of the list: nothing of it is left, and the others notice nothing."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control_plane import Cluster, ScaledJob
from deployed import REVIEWS, account, granted
from identities import TAP, TAP_PASSWORD, Client, guarded_mosquitto
from life import Checkout
from lightkube.codecs import from_dict
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import StatefulSet
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod, Secret
from servers import Mosquitto

from posture.wire.identities import provision
from posture.wire.topics import Topics

UP = ("build_and_push.py", "--skip-build")
IMAGE = "127.0.0.1:9/posture-analyzer:latest"
ANALYZER = [
    "sh",
    "-c",
    f'[ "$1" = --clear-topics ] && exec {sys.executable} Images_From_Pi.py "$1"; exec sleep 600',
    "analyzer",
]
"""Its image's entry point; one that is to analyse only stays."""
OFFLINE = b'{"state":"offline","instance":"a","started":"2026"}'


@pytest.fixture
def guarded(checkout: Checkout, tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker with the users of hall-1 and hall-2, as the checkout's folder has them."""
    provision(checkout.folder / "broker", ["hall-1", "hall-2"])
    broker = guarded_mosquitto(tmp_path, checkout.folder / "broker")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def farm(checkout: Checkout, cluster: Cluster, namespace: str, guarded: Mosquitto) -> Checkout:
    """Two streams without files of their own, which run; the broker has retained topics of both."""
    checkout.settings["streams"] = ["hall-1", "hall-2"]
    checkout.write_settings()
    for machine in checkout.machines.values():
        machine.runs_commands = True
        machine.entrypoints[IMAGE] = ANALYZER
    url = {"stringData": {"POSTURE_MQTT_URL": f"mqtt://127.0.0.1:{guarded.port}"}}
    cluster.client.patch(Secret, "posture-farm", url, namespace=namespace)
    folder = checkout.folder / "broker"
    for name in ("hall-1", "hall-2"):
        make_secret(cluster, namespace, f"posture-mqtt-{name}", folder / f"analyzer-{name}")
    make_secret(cluster, namespace, "posture-mqtt", folder / "mosquitto", **{"posture-farm/farm": "default"})
    cluster.client.create(broker_without_pods(namespace))
    checkout.run(*UP)
    tap = Client(guarded.port, TAP, TAP_PASSWORD)
    for name in ("hall-1", "hall-2"):
        for topic in Topics(name).retained:
            tap.retain(topic, OFFLINE)
    tap.close()
    return checkout


def make_secret(cluster: Cluster, namespace: str, name: str, folder: Path, **labels: str) -> None:
    data = {path.name: path.read_text() for path in folder.iterdir()}
    metadata = ObjectMeta(name=name, namespace=namespace, labels=labels)
    cluster.client.create(Secret(metadata=metadata, stringData=data))


def broker_without_pods(namespace: str) -> Any:
    labels = {"app": "posture-mqtt"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "broker", "image": "broker"}]}}
    spec = {"replicas": 0, "serviceName": "posture-mqtt", "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "posture-mqtt", "namespace": namespace}
    return from_dict({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec})


def retained(broker: Mosquitto) -> set[str]:
    tap = Client(broker.port, TAP, TAP_PASSWORD)
    tap.subscribe("#")
    # it is delivered after all that the broker has kept
    tap.publish("last", b"x")
    tap.wait_for("last", b"x")
    tap.close()
    return {topic for topic, payload in tap.got if payload and topic != "last"}


def names_of(cluster: Cluster, namespace: str, kind: Any) -> set[str]:
    return {one.metadata.name for one in cluster.client.list(kind, namespace=namespace)}


def take_out(farm: Checkout, stream: str) -> None:
    farm.settings["streams"].remove(stream)
    farm.write_settings()


def test_a_stream_that_is_taken_out_of_the_list_leaves_nothing_and_the_others_run_on(
    farm: Checkout, cluster: Cluster, namespace: str, guarded: Mosquitto
) -> None:
    (kept,) = (job for job in cluster.client.list(Job, namespace=namespace) if "hall-1" in job.metadata.name)
    take_out(farm, "hall-2")
    planned = farm.run(*UP, "--dry-run")
    assert "warning: hall-2: no longer in streams of cluster.yaml, so it is taken down" in planned
    assert len(retained(guarded)) == 2 * len(Topics("hall-1").retained), "nothing is done yet"
    farm.run(*UP)
    assert retained(guarded) == set(Topics("hall-1").retained)
    assert names_of(cluster, namespace, ScaledJob) == {"posture-analyzer-scaledjob-hall-1"}
    (job,) = cluster.client.list(Job, namespace=namespace)
    assert job.metadata.uid == kept.metadata.uid
    # that which clears its topics goes a moment after the script
    cluster.until(Pod, namespace, lambda pods: not any("hall-2" in pod.metadata.name for pod in pods))
    assert names_of(cluster, namespace, Secret) >= {"posture-mqtt-hall-1", "posture-mqtt", "posture-farm"}
    assert "posture-mqtt-hall-2" not in names_of(cluster, namespace, Secret)
    in_cluster = cluster.client.get(Secret, "posture-mqtt", namespace=namespace).data
    for key in ("passwords", "acl"):
        for text in (
            base64.b64decode(in_cluster[key]).decode(),
            (farm.folder / "broker" / "mosquitto" / key).read_text(),
        ):
            assert "hall-2" not in text
            assert "camera.hall-1" in text
    assert {path.name for path in (farm.folder / "broker").glob("*-hall-*")} == {"analyzer-hall-1", "camera-hall-1"}
    assert {path.name for path in farm.folder.glob("patched-job-*")} == {"patched-job-hall-1.yaml"}
    template = cluster.client.get(StatefulSet, "posture-mqtt", namespace=namespace).spec.template
    assert template.metadata.annotations["posture-farm/identities"], "so that the broker reads them"
    assert "hall-2" not in farm.run(*UP), "a second time there is nothing to do"


def test_while_the_broker_is_away_a_stream_stays_halted_and_the_next_run_takes_it_down(
    farm: Checkout, cluster: Cluster, namespace: str, guarded: Mosquitto
) -> None:
    farm.environ["KUBECONFIG"] = str(account(cluster, namespace, "posture-operator"))
    take_out(farm, "hall-2")
    guarded.stop()
    said = farm.run(*UP, status=1)
    assert "retained topics are not cleared:\n  hall-2: " in said
    assert f"kubectl -n {namespace} delete scaledjob posture-analyzer-scaledjob-hall-2" in said
    assert len(names_of(cluster, namespace, ScaledJob)) == 2
    (job,) = names_of(cluster, namespace, Job)
    assert "hall-1" in job
    assert (farm.folder / "broker" / "camera-hall-2").is_dir()
    guarded.start()
    said = farm.run(*UP)
    assert f"kubectl -n {namespace} delete secret posture-mqtt-hall-2" in said, "which an operator may not"
    assert cluster.asked_by(namespace, "posture-operator") - {REVIEWS} <= granted("posture-operator")
    assert names_of(cluster, namespace, ScaledJob) == {"posture-analyzer-scaledjob-hall-1"}
    assert not any("hall-2" in topic for topic in retained(guarded))


def test_stop_ends_it_too_and_a_run_that_was_interrupted_is_taken_up_though_the_streams_user_is_gone_by_then(
    farm: Checkout, cluster: Cluster, namespace: str, guarded: Mosquitto
) -> None:
    take_out(farm, "hall-2")
    assert "pause scaledjob posture-analyzer-scaledjob-hall-2" in farm.run("stop.py")
    assert names_of(cluster, namespace, Job) == set()
    acl = farm.folder / "broker" / "mosquitto" / "acl"
    aside = acl.rename(acl.with_name("aside"))
    acl.mkdir()
    assert "cleared the topics of hall-2" in farm.run(*UP, status=1)
    acl.rmdir()
    aside.rename(acl)
    guarded.stop()
    said = farm.run(*UP)
    assert "cleared the topics" not in said
    assert names_of(cluster, namespace, ScaledJob) == {"posture-analyzer-scaledjob-hall-1"}
    assert "hall-2" not in acl.read_text()
