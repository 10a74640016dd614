"""The client of the Kubernetes API against a server that answers as a test says. The real one: tests/cluster."""

from __future__ import annotations

import dataclasses
import email.utils
import json
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from servers import free_port

from posture.errors import UserError
from posture.kube import kinds
from posture.kube.client import ATTEMPTS, KubeClient, Object, connect
from posture.kube.errors import ConflictError, KubeError, NotFoundError, RefusedError, UnreachableError
from posture.kube.lease import Lease
from posture.settings import table


@dataclasses.dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: Mapping[str, str]


@dataclasses.dataclass
class Answer:
    status: int
    body: Any
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


class ScriptedServer:
    """Gives its answers one after the other, the last one for ever; None closes the connection."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[Answer | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = f"127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        query = {name: value for name, (value,) in parse_qs(parts.query).items()}
        self.requests.append(Request(handler.command, parts.path, query, body, handler.headers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            handler.connection.close()
            return
        content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        handler.send_response_only(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


def write_kubeconfig(path: Path, address: str, **user: str) -> Path:
    body = {
        "clusters": [{"name": "one", "cluster": {"server": f"http://{address}"}}],
        "users": [{"name": "one", "user": user or {"token": "secret"}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "current-context": "one",
    }
    path.write_text(yaml.safe_dump(body))
    return path


class Farm:
    def __init__(self, client: KubeClient, pauses: list[float]) -> None:
        self.client = client
        self.pauses = pauses


@pytest.fixture
def farm(server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Farm]:
    """A client that does not really wait between its attempts."""
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", server.address)))
    pauses: list[float] = []
    with connect(table.Kubernetes(timeout_s=5), wait=pauses.append) as client:
        yield Farm(client, pauses)


def status(code: int, message: str) -> Answer:
    return Answer(code, {"kind": "Status", "code": code, "message": message})


def page(*names: str, more: str = "") -> Answer:
    return Answer(200, {"metadata": {"continue": more}, "items": [{"metadata": {"name": name}} for name in names]})


def names(found: list[Object]) -> list[str]:
    return [one["metadata"]["name"] for one in found]


def test_a_list_is_read_page_by_page_by_exact_labels(server: ScriptedServer, farm: Farm) -> None:
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


def test_nodes_have_no_namespace(server: ScriptedServer, farm: Farm) -> None:
    server.answers = [page()]
    farm.client.list(kinds.NODE)
    assert server.requests[0].path == "/api/v1/nodes"


def test_a_job_is_deleted_with_its_uid_and_an_explicit_propagation(server: ScriptedServer, farm: Farm) -> None:
    server.answers = [Answer(200, {})]
    farm.client.delete(kinds.JOB, "job", uid="u-1", propagation="Foreground")
    assert server.requests[0].body == {"propagationPolicy": "Foreground", "preconditions": {"uid": "u-1"}}


@pytest.mark.parametrize("code", [404, 409], ids=["gone", "its name is another's"])
def test_deleting_what_is_gone_is_no_error(server: ScriptedServer, farm: Farm, code: int) -> None:
    server.answers = [status(code, "...")]
    farm.client.delete(kinds.JOB, "job", uid="u-1")


def test_a_missing_right_is_named_by_verb_and_resource(server: ScriptedServer, farm: Farm) -> None:
    server.answers = [status(403, "forbidden")]
    with pytest.raises(RefusedError, match=r"lacks verb 'patch' on resource 'scaledjobs.keda.sh'"):
        farm.client.patch(kinds.SCALED_JOB, "one", [])
    with pytest.raises(RefusedError, match=r"lacks verb 'list' on resource 'nodes'"):
        farm.client.list(kinds.NODE)
    assert farm.pauses == []


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
    server: ScriptedServer, farm: Farm, answer: Answer, error: type[KubeError]
) -> None:
    server.answers = [answer]
    with pytest.raises(error) as caught:
        farm.client.patch(kinds.SCALED_JOB, "one", [{"op": "test", "path": "/metadata/generation", "value": 1}])
    assert "patch scaledjobs.keda.sh one" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1


def test_an_invalid_object_is_no_conflict(server: ScriptedServer, farm: Farm) -> None:
    causes = {"causes": [{"field": "spec.affinity", "message": "Invalid value"}]}
    message = 'ScaledJob.keda.sh "one" is invalid: spec: Invalid value'
    server.answers = [Answer(422, {"message": message, "details": causes})]
    with pytest.raises(KubeError, match="is invalid") as caught:
        farm.client.patch(kinds.SCALED_JOB, "one", [])
    assert not isinstance(caught.value, ConflictError)


def test_too_many_requests_are_sent_again_after_the_time_that_the_server_asks_for(
    server: ScriptedServer, farm: Farm
) -> None:
    server.answers = [Answer(429, {"message": "later"}, {"Retry-After": "7"}), Answer(200, {"ok": True})]
    assert farm.client.create(kinds.EVENT, {}) == {"ok": True}
    assert farm.pauses == [7.0]


def test_a_retry_after_that_is_too_long_is_reported(server: ScriptedServer, farm: Farm) -> None:
    server.answers = [Answer(429, {"message": "later"}, {"Retry-After": "3600"})]
    with pytest.raises(UnreachableError, match="429 later"):
        farm.client.list(kinds.NODE)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault", [status(500, "etcd"), status(503, "starting"), None], ids=["500", "503", "closed"]
)
def test_what_can_be_sent_twice_is_sent_again(server: ScriptedServer, farm: Farm, fault: Answer | None) -> None:
    server.answers = [fault, fault, page("a")]
    assert names(farm.client.list(kinds.JOB)) == ["a"]
    server.answers = [fault, Answer(200, {})]
    farm.client.delete(kinds.JOB, "job", uid="u-1")
    assert farm.pauses == [0.5, 1.0, 0.5]


@pytest.mark.parametrize("fault", [status(500, "etcd"), None], ids=["500", "closed"])
def test_a_change_whose_fate_is_unknown_is_not_sent_again(
    server: ScriptedServer, farm: Farm, fault: Answer | None
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


def test_the_servers_clock_is_known(server: ScriptedServer, farm: Farm) -> None:
    ahead = email.utils.formatdate(time.time() + 3600, usegmt=True)
    server.answers = [Answer(200, {"items": []}, {"Date": ahead})]
    farm.client.list(kinds.NODE)
    assert farm.client.now() == pytest.approx(time.time() + 3600, abs=2)


def test_a_dry_run_asks_the_server_to_change_nothing(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", server.address)))
    server.answers = [Answer(200, {})]
    with connect(table.Kubernetes(), dry_run=True) as client:
        client.delete(kinds.JOB, "job")
        client.list(kinds.JOB)
    assert [request.query.get("dryRun") for request in server.requests] == ["All", None]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "not found", id="absent"),
        pytest.param("{not yaml", "is not valid", id="not YAML"),
        pytest.param("current-context: one\n", "is not valid", id="no clusters"),
        pytest.param("just text\n", "is not valid", id="text"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, said: str
) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(UserError, match=said) as caught:
        connect(table.Kubernetes())
    assert str(path) in str(caught.value)
    assert "accepted:" in str(caught.value)


def test_an_unknown_context_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", "127.0.0.1:1")))
    with pytest.raises(UserError, match="Context 'other' not found"):
        connect(table.Kubernetes(context="other"))


def test_a_laptop_that_was_closed_does_not_act_on_the_lease_that_it_held(
    server: ScriptedServer, farm: Farm
) -> None:
    now = 100.0
    lease = Lease(farm.client, "default", duration_s=30.0, clock=lambda: now)

    def held_by(name: str) -> Answer:
        body = {"metadata": {"resourceVersion": name}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 30}}
        return Answer(200, body)

    server.answers = [status(404, "not found"), held_by(lease.identity)]
    assert lease.renew()
    assert lease.held
    now += 3600.0
    assert not lease.held
    server.answers = [status(409, "it has been changed"), held_by("another")]
    assert not lease.renew()
    assert not lease.renew()
    assert lease.holder == "another"
