"""The client of the Kubernetes API against a server that answers as a test says. The real one: tests/cluster."""

from __future__ import annotations

import email.utils
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from scripted_api import Answer, PatientClient, Request, ScriptedServer, status, write_kubeconfig
from servers import free_port

from posture.kube import kinds
from posture.kube.client import ATTEMPTS, Object, connect
from posture.kube.errors import (
    ConflictError,
    KubeError,
    NotAdmittedError,
    NotFoundError,
    RefusedError,
    StaleError,
    UnreachableError,
)
from posture.settings import table


def page(*names: str, more: str = "") -> Answer:
    return Answer(200, {"metadata": {"continue": more}, "items": [{"metadata": {"name": name}} for name in names]})


def names(found: list[Object]) -> list[str]:
    return [one["metadata"]["name"] for one in found]


def test_a_list_is_read_page_by_page_by_exact_labels(server: ScriptedServer, farm: PatientClient) -> None:
    server.answers = [page("a", "b", more="token"), page("c")]
    labels = {"posture-farm/farm": "default", "posture-farm/stream": None, "one-of": ["y", "x"]}
    assert names(farm.client.list(kinds.JOB, labels)) == ["a", "b", "c"]
    first, second = server.requests
    assert first.path == "/apis/batch/v1/namespaces/posture-farm/jobs"
    assert first.query == {
        "limit": "500",
        "labelSelector": "posture-farm/farm=default,posture-farm/stream,one-of in (x,y)",
    }
    assert second.query["continue"] == "token"
    assert first.headers["Authorization"] == "Bearer secret"


def test_a_list_is_in_the_order_in_which_people_count(server: ScriptedServer, farm: PatientClient) -> None:
    server.answers = [page("cam-1", "cam-10", more="token"), page("cam-100", "cam-2")]
    assert names(farm.client.list(kinds.JOB)) == ["cam-1", "cam-2", "cam-10", "cam-100"]


def test_nodes_have_no_namespace(server: ScriptedServer, farm: PatientClient) -> None:
    server.answers = [page()]
    farm.client.list(kinds.NODE)
    assert server.requests[0].path == "/api/v1/nodes"


def test_a_job_is_deleted_with_its_uid_and_an_explicit_propagation(
    server: ScriptedServer, farm: PatientClient
) -> None:
    server.answers = [Answer(200, {})]
    farm.client.delete(kinds.JOB, "job", uid="u-1", propagation="Foreground")
    assert server.requests[0].body == {"propagationPolicy": "Foreground", "preconditions": {"uid": "u-1"}}


@pytest.mark.parametrize("code", [404, 409], ids=["gone", "its name is another's"])
def test_deleting_what_is_gone_is_no_error(server: ScriptedServer, farm: PatientClient, code: int) -> None:
    server.answers = [status(code, "...")]
    farm.client.delete(kinds.JOB, "job", uid="u-1")


def test_a_missing_right_is_named_by_verb_and_resource(server: ScriptedServer, farm: PatientClient) -> None:
    server.answers = [status(403, "forbidden")]
    with pytest.raises(RefusedError, match=r"lacks verb 'patch' on resource 'scaledjobs.keda.sh'"):
        farm.client.patch(kinds.SCALED_JOB, "one", [])
    with pytest.raises(RefusedError, match=r"lacks verb 'list' on resource 'nodes'"):
        farm.client.list(kinds.NODE)
    assert farm.pauses == []


@pytest.mark.parametrize(
    "message",
    [
        'pods "a" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1',
        'pods "a" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
        "scaledjobs.keda.sh \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
        'admission webhook "pods.example.com" denied the request: not on a Friday',
    ],
)
def test_a_403_of_an_admission_check_is_not_taken_for_a_missing_right(
    server: ScriptedServer, farm: PatientClient, message: str
) -> None:
    server.answers = [status(403, message)]
    with pytest.raises(NotAdmittedError) as refused:
        farm.client.create(kinds.POD, {})
    assert str(refused.value) == f"create pods: {message}"


def test_a_403_of_the_role_is_a_missing_right_also_in_the_servers_own_words(
    server: ScriptedServer, farm: PatientClient
) -> None:
    server.answers = [status(403, 'pods is forbidden: User "a" cannot create resource "pods" in API group ""')]
    with pytest.raises(RefusedError, match="lacks verb 'create' on resource 'pods'"):
        farm.client.create(kinds.POD, {})


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(status(401, "Unauthorized"), RefusedError, id="401"),
        pytest.param(status(404, "not found"), NotFoundError, id="404"),
        pytest.param(status(409, "the object has been modified"), ConflictError, id="409"),
        pytest.param(
            status(422, "the server rejected our request due to an error in our request"),
            ConflictError,
            id="422 of a JSON Patch's test",
        ),
        pytest.param(Answer(200, b"<html>login</html>"), UnreachableError, id="HTML"),
        pytest.param(Answer(200, b'{"kind": "Jo'), UnreachableError, id="half a document"),
        pytest.param(Answer(400, b"what?", {"Content-Type": "text/plain"}), KubeError, id="400"),
    ],
)
def test_an_answer_that_is_an_error_is_one_of_ours(
    server: ScriptedServer, farm: PatientClient, answer: Answer, error: type[KubeError]
) -> None:
    server.answers = [answer]
    with pytest.raises(error) as caught:
        farm.client.patch(kinds.SCALED_JOB, "one", [{"op": "test", "path": "/metadata/generation", "value": 1}])
    assert "patch scaledjobs.keda.sh one" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1


def test_a_webhooks_refusal_is_no_edit_of_somebody_elses_whatever_its_status(
    server: ScriptedServer, farm: PatientClient
) -> None:
    for code in (400, 403, 409, 422):
        server.answers = [status(code, 'admission webhook "x.example.org" denied the request: not now')]
        with pytest.raises(KubeError, match="denied the request: not now") as caught:
            farm.client.patch(kinds.SCALED_JOB, "one", [])
        assert not isinstance(caught.value, (StaleError, RefusedError))
    server.answers = [status(409, 'admission webhook "x.example.org" denied the request: not now')]
    with pytest.raises(ConflictError):
        farm.client.delete(kinds.JOB, "job", uid="u-1")


def test_an_invalid_object_is_no_conflict(server: ScriptedServer, farm: PatientClient) -> None:
    causes = {"causes": [{"field": "spec.affinity", "message": "Invalid value"}]}
    message = 'ScaledJob.keda.sh "one" is invalid: spec: Invalid value'
    server.answers = [Answer(422, {"message": message, "details": causes})]
    with pytest.raises(KubeError, match="is invalid") as caught:
        farm.client.patch(kinds.SCALED_JOB, "one", [])
    assert not isinstance(caught.value, ConflictError)


def test_too_many_requests_are_sent_again_after_the_time_that_the_server_asks_for(
    server: ScriptedServer, farm: PatientClient
) -> None:
    server.answers = [Answer(429, {"message": "later"}, {"Retry-After": "7"}), Answer(200, {"ok": True})]
    assert farm.client.create(kinds.EVENT, {}) == {"ok": True}
    assert farm.pauses == [7.0]


def test_a_retry_after_that_is_too_long_is_reported(server: ScriptedServer, farm: PatientClient) -> None:
    server.answers = [Answer(429, {"message": "later"}, {"Retry-After": "3600"})]
    with pytest.raises(UnreachableError, match="429 later"):
        farm.client.list(kinds.NODE)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault", [status(500, "etcd"), status(503, "starting"), None], ids=["500", "503", "closed"]
)
def test_what_can_be_sent_twice_is_sent_again(
    server: ScriptedServer, farm: PatientClient, fault: Answer | None
) -> None:
    server.answers = [fault, fault, page("a")]
    assert names(farm.client.list(kinds.JOB)) == ["a"]
    server.answers = [fault, Answer(200, {})]
    farm.client.delete(kinds.JOB, "job", uid="u-1")
    assert farm.pauses == [0.5, 1.0, 0.5]


@pytest.mark.parametrize("fault", [status(500, "etcd"), None], ids=["500", "closed"])
def test_a_change_whose_fate_is_unknown_is_not_sent_again(
    server: ScriptedServer, farm: PatientClient, fault: Answer | None
) -> None:
    server.answers = [fault]
    with pytest.raises(UnreachableError):
        farm.client.patch(kinds.SCALED_JOB, "one", [])
    with pytest.raises(UnreachableError):
        farm.client.create(kinds.EVENT, {})
    assert len(server.requests) == 2


def test_a_server_that_never_answers_costs_one_timeout_an_attempt(tmp_path: Path, monkeypatch: Any) -> None:
    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            released.wait(60)

    released = threading.Event()
    silent = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    silent.daemon_threads = True
    threading.Thread(target=silent.serve_forever, args=(0.05,), daemon=True).start()
    address = f"127.0.0.1:{silent.server_address[1]}"
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", address)))
    pauses: list[float] = []
    client = connect(table.Kubernetes(timeout_s=0.2), wait=pauses.append)
    with client, pytest.raises(UnreachableError, match=r"list nodes: no answer from 127\.0\.0\.1"):
        client.list(kinds.NODE)
    assert len(pauses) == ATTEMPTS - 1
    released.set()
    silent.shutdown()
    silent.server_close()


def test_no_connection_names_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", address)))
    client = connect(table.Kubernetes(), wait=lambda _: None)
    with client, pytest.raises(UnreachableError, match=f"no connection to {address}"):
        client.create(kinds.EVENT, {})


def test_the_servers_clock_is_known(server: ScriptedServer, farm: PatientClient) -> None:
    ahead = email.utils.formatdate(time.time() + 3600, usegmt=True)
    server.answers = [Answer(200, {"items": []}, {"Date": ahead})]
    farm.client.list(kinds.NODE)
    assert farm.client.now() == pytest.approx(time.time() + 3600, abs=30)


def test_an_answer_that_is_long_on_its_way_does_not_set_the_clock_back(
    server: ScriptedServer, farm: PatientClient
) -> None:
    def answer(_: Request) -> Answer:
        date = email.utils.formatdate(time.time(), usegmt=True)
        time.sleep(2)  # it is the delay that is tried
        return Answer(200, {"items": []}, {"Date": date})

    server.answer = answer
    farm.client.list(kinds.NODE)
    assert farm.client.clock_offset_s == 0


def test_a_dry_run_asks_the_server_to_change_nothing(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", server.address)))
    server.answers = [Answer(200, {})]
    with connect(table.Kubernetes(timeout_s=30), dry_run=True) as client:
        client.delete(kinds.JOB, "job")
        client.list(kinds.JOB)
    assert [request.query.get("dryRun") for request in server.requests] == ["All", None]
