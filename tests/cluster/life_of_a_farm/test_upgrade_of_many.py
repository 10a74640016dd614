"""An upgrade of many streams on the real control plane: several at a time, and never too many away."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import Cluster
from lightkube.resources.core_v1 import Pod
from nodes import Kubelets
from pods import Fault
from scaled_jobs import is_ready, name_of, scaled_job
from stub_scaler import StubScaler
from watching import unready_streams

from posture.errors import FailedError
from posture.kube.client import KubeClient, connect
from posture.lifecycle.rollout import Rollout
from posture.lifecycle.upgrade import Upgrade
from posture.runtime import Stop
from posture.settings.table import Kubernetes

STREAMS = [f"hall-{number}" for number in range(1, 13)]
OLD, NEW = "posture-analyzer:test", "posture-analyzer:next"
AGX, NANO = STREAMS[:9], STREAMS[9:]


class ManyStreams:
    """Twelve streams that run, of which three are on another node than the rest."""

    def __init__(
        self, client: KubeClient, cluster: Cluster, namespace: str, nodes: Kubelets, scaler: StubScaler
    ) -> None:
        self.client, self.cluster, self.namespace = client, cluster, namespace
        self.machines = {name: nodes.add(name) for name in ("agx", "nano")}
        self.manifests = {
            stream: scaled_job(stream, "agx" if stream in AGX else "nano", scaler.address) for stream in STREAMS
        }
        self.said: list[str] = []
        rollout = self.rollout(180)
        for manifest in self.manifests.values():
            rollout.apply(manifest)
        rollout.wait_for(STREAMS)

    def rollout(self, timeout_s: float) -> Rollout:
        return Rollout(self.client, "default", timeout_s, Stop(), self.said.extend)

    def upgrade(self, most_away: int, timeout_s: float = 60, **edits: dict[str, Any]) -> None:
        """Bring all to a new image; ``edits``: more of one ScaledJob's spec."""

        def written(stream: str) -> dict[str, Any]:
            body = copy.deepcopy(self.manifests[stream])
            body["spec"]["jobTargetRef"]["template"]["spec"]["containers"][0]["image"] = NEW
            body["spec"].update(edits.get(stream.replace("-", "_"), {}))
            return body

        Upgrade(self.rollout(timeout_s), most_away, written).run(STREAMS)

    def images(self) -> dict[str, str]:
        """Stream -> the image of its one Ready pod."""
        pods = [pod for pod in self.cluster.client.list(Pod, namespace=self.namespace) if is_ready(pod)]
        assert len({pod.metadata.labels["posture-farm/stream"] for pod in pods}) == len(pods)
        return {pod.metadata.labels["posture-farm/stream"]: pod.spec.containers[0].image for pod in pods}


@pytest.fixture
def many(
    cluster: Cluster,
    namespace: str,
    nodes: Kubelets,
    stub_scaler: StubScaler,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ManyStreams]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    stub_scaler.active, stub_scaler.value = True, 1
    with connect(Kubernetes(namespace=namespace, timeout_s=30)) as client:
        yield ManyStreams(client, cluster, namespace, nodes, stub_scaler)


def test_several_are_replaced_at_a_time_and_never_more_than_may_be_away(many: ManyStreams) -> None:
    with unready_streams(many.cluster, many.namespace) as away:
        many.upgrade(3)
    assert many.images() == dict.fromkeys(STREAMS, NEW)
    assert max(map(len, away)) == 3
    assert set().union(*away) == set(STREAMS)
    assert "12 of 12 are as they are to be" in many.said
    many.said.clear()
    with unready_streams(many.cluster, many.namespace) as away:
        many.upgrade(3)
    assert not any(away), "what is as it is to be is left alone"


def test_the_others_go_on_around_streams_that_do_not_come_back_which_are_told(many: ManyStreams) -> None:
    many.machines["nano"].fault = Fault.IMAGE_PULL
    with unready_streams(many.cluster, many.namespace) as away, pytest.raises(FailedError) as caught:
        many.upgrade(4, timeout_s=30)
    assert many.images() == dict.fromkeys(AGX, NEW)
    assert max(map(len, away)) <= 4
    assert str(caught.value).startswith("9 of 12 are as they are to be; 3 being replaced")
    for stream in NANO:
        assert f"  {stream}: ImagePullBackOff: pod {name_of(stream)}-" in str(caught.value)


def test_an_image_that_does_not_start_takes_no_more_streams_than_may_be_away(many: ManyStreams) -> None:
    for machine in many.machines.values():
        machine.fault = Fault.NEVER_READY
    with pytest.raises(FailedError) as caught:
        many.upgrade(2, timeout_s=15)
    assert many.images() == dict.fromkeys(STREAMS[2:], OLD)
    assert "not begun, and as they were: hall-3, hall-4, hall-5, hall-6, hall-7 and 5 more" in str(caught.value)
    template = many.rollout(1).look()["hall-3"].scaled_job["spec"]["jobTargetRef"]["template"]
    assert template["spec"]["containers"][0]["image"] == OLD, "it starts again as it was"


def test_a_scaled_job_that_the_cluster_refuses_is_told_and_its_stream_runs_on(many: ManyStreams) -> None:
    with pytest.raises(FailedError) as caught:
        many.upgrade(4, hall_2={"pollingIntervall": 1})
    assert str(caught.value).startswith("not changed, and as they were: hall-2: patch scaledjobs.keda.sh")
    assert many.images() == {**dict.fromkeys(STREAMS, NEW), "hall-2": OLD}
