"""Pods that clear topics, against a server that answers as a test says. On the real one: tests/cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_api import Answer, Request, ScriptedServer, status, write_kubeconfig

from posture.kube.client import KubeClient, connect
from posture.kube.errors import ConflictError
from posture.lifecycle import clearing_pods
from posture.runtime import Stop
from posture.settings import table

SCALED_JOB = {
    "metadata": {"name": "pi1", "labels": {"posture-farm/farm": "default", "posture-farm/stream": "pi1"}},
    "spec": {"jobTargetRef": {"template": {"spec": {"containers": [{"name": "analyzer"}]}}}},
}
TAKEN = status(409, 'pods "posture-clear-pi1" already exists: object is being deleted')
ENDED = {"name": "analyzer", "state": {"terminated": {"exitCode": 0}}}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    running = ScriptedServer()
    yield running
    running.close()


@pytest.fixture
def cluster(server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeClient]:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", server.address)))
    with connect(table.Kubernetes(timeout_s=30)) as client:
        yield client


def test_a_run_that_meets_the_pod_of_an_earlier_one_begins_when_that_is_gone(
    server: ScriptedServer, cluster: KubeClient
) -> None:
    posts: list[Answer] = [TAKEN, TAKEN]

    def answer(request: Request) -> Answer:
        pod = {"metadata": {"name": "posture-clear-pi1", "uid": "u"}, "status": {"containerStatuses": [ENDED]}}
        pod["spec"] = {"containers": [{"name": "analyzer"}]}
        if request.method == "POST":
            return posts.pop() if posts else Answer(201, pod)
        return Answer(200, {"items": [pod]})

    server.answer = answer
    assert clearing_pods.clear(cluster, {"pi1": SCALED_JOB}, 60.0, Stop()) == {}
    assert [request.method for request in server.requests] == ["POST", "POST", "POST", "GET", "DELETE"]


def test_a_pod_that_never_goes_is_an_error_once_the_time_is_up(server: ScriptedServer, cluster: KubeClient) -> None:
    server.answers = [TAKEN]
    with pytest.raises(ConflictError, match="already exists"):
        clearing_pods.clear(cluster, {"pi1": SCALED_JOB}, 0.0, Stop())
