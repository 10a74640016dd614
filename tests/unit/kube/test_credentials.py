"""Credentials as kubectl takes them, against a server that asks for them."""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from scripted_api import Answer, ScriptedServer, status, write_kubeconfig

from posture.errors import UserError
from posture.kube import kinds
from posture.kube.client import KubeClient, connect
from posture.kube.errors import RefusedError
from posture.settings.table import Kubernetes

V1, V1BETA1 = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"
NODES = Answer(200, {"items": []})
TOKEN = {"token": "old"}

Login = Callable[..., dict[str, Any]]


@pytest.fixture
def login(tmp_path: Path) -> Login:
    """Makes a login program that prints what it is told, and writes down what it was told itself."""

    def made(status_: Any = None, version: str = V1, body: str | None = None, **more: Any) -> dict[str, Any]:
        program = tmp_path / "login"
        printed = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status_ or {}})
        (tmp_path / "printed").write_text(printed if body is None else body)
        program.write_text(f"""#!/bin/sh
printf '%s' "$KUBERNETES_EXEC_INFO" > {tmp_path}/info
printf '%s' "$1 $GREETING" > {tmp_path}/arguments
cat {tmp_path}/printed
""")
        program.chmod(0o755)
        return {"apiVersion": version, "command": str(program), **more}

    return made


@pytest.fixture
def opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ScriptedServer
) -> Iterator[Callable[..., KubeClient]]:
    """Connects with the user, and the cluster, of a kubeconfig."""
    clients: list[KubeClient] = []

    def connected(cluster: dict[str, Any] | None = None, **user: Any) -> KubeClient:
        monkeypatch.setenv(
            "KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", server.address, cluster, **user))
        )
        clients.append(connect(Kubernetes(timeout_s=30), wait=lambda _: None))
        return clients[-1]

    yield connected
    for client in clients:
        client.close()


def sent(server: ScriptedServer) -> list[str | None]:
    return [request.headers["Authorization"] for request in server.requests]


@pytest.mark.parametrize("version", [V1, V1BETA1])
def test_a_login_program_is_run_as_kubectl_runs_it(
    tmp_path: Path, server: ScriptedServer, opened: Callable[..., KubeClient], login: Login, version: str
) -> None:
    server.answers = [NODES]
    program = login(
        {"token": "secret"}, version, args=["get-token"], env=[{"name": "GREETING", "value": "hello"}],
        provideClusterInfo=True, interactiveMode="Never",
    )  # fmt: skip
    opened(exec=program).list(kinds.NODE)
    assert sent(server) == ["Bearer secret"]
    assert (tmp_path / "arguments").read_text() == "get-token hello"
    info = json.loads((tmp_path / "info").read_text())
    assert (info["apiVersion"], info["kind"]) == (version, "ExecCredential")
    assert info["spec"] == {"interactive": False, "cluster": {"server": f"http://{server.address}"}}


def test_a_token_that_is_refused_is_asked_for_again_once(
    tmp_path: Path, server: ScriptedServer, opened: Callable[..., KubeClient], login: Login
) -> None:
    client = opened(exec=login({"token": "old"}))
    login({"token": "new"})
    server.answers = [status(401, "expired"), NODES]
    client.list(kinds.NODE)
    assert sent(server) == ["Bearer old", "Bearer new"]
    server.answers = [status(401, "no")]
    with pytest.raises(RefusedError, match="credentials are not accepted"):
        client.list(kinds.NODE)
    assert len(sent(server)) == 3, "the same token again would be refused again"


def test_a_token_that_is_about_to_expire_is_renewed_before_it_is_used(
    server: ScriptedServer, opened: Callable[..., KubeClient], login: Login
) -> None:
    soon = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    client = opened(exec=login({"token": "old", "expirationTimestamp": soon}))
    login({"token": "new"})
    server.answers = [NODES]
    client.list(kinds.NODE)
    client.list(kinds.NODE)
    assert sent(server) == ["Bearer new", "Bearer new"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            {"command": "/nonexistent/login", "installHint": "get it\nthere"},
            "can't be run: No such file",
            id="missing",
        ),
        pytest.param({"command": "no-such-login-program"}, "no-such-login-program can't be run", id="not in PATH"),
        pytest.param({"command": "false"}, "false ended with 1", id="fails"),
        pytest.param({"command": "true"}, "printed no ExecCredential", id="prints nothing"),
        pytest.param(
            {"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "apiVersion .* accepted: .*/v1, ", id="version"
        ),
        pytest.param({"interactiveMode": "Always"}, "wants a terminal", id="no terminal"),
    ],
)
def test_a_login_program_that_gives_nothing_is_one_line_that_names_it(
    opened: Callable[..., KubeClient], login: Login, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        opened(exec={**login({"token": "secret"}), **change})
    assert "\n" not in str(refused.value)
    assert "context 'one'" in str(refused.value)


@pytest.mark.parametrize(
    "body",
    ["[]", "{}", '{"status": 7}', '{"status": {}}', '{"status": {"token": ""}}', "[" * 100_000,
     '{"status": {"token": "a\\nb"}}', '{"status": {"token": "t", "expirationTimestamp": "later"}}',
     '{"status": {"clientCertificateData": "no", "clientKeyData": "no"}}'],
    ids=range(9),
)  # fmt: skip
def test_what_a_login_program_prints_may_be_anything(
    opened: Callable[..., KubeClient], login: Login, body: str
) -> None:
    with pytest.raises(UserError, match=r"login program|token is not accepted") as refused:
        opened(exec=login(body=body))
    assert "\n" not in str(refused.value)


def test_a_login_program_may_give_a_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: Login
) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    ours = authority.issue_cert("operator")
    program = login({
        "clientCertificateData": ours.cert_chain_pems[0].bytes().decode(),
        "clientKeyData": ours.private_key_pem.bytes().decode(),
    })  # fmt: skip
    server = ScriptedServer(tls)
    server.answers = [NODES]
    cluster = {"server": f"https://{server.address}", "certificate-authority": "ca.crt"}
    monkeypatch.setenv(
        "KUBECONFIG", str(write_kubeconfig(tmp_path / "config", server.address, cluster, exec=program))
    )
    try:
        with connect(Kubernetes(timeout_s=30)) as client:
            assert client.list(kinds.NODE) == []
    finally:
        server.close()


def test_a_token_that_is_replaced_on_disk_is_used_from_then_on(
    tmp_path: Path, server: ScriptedServer, opened: Callable[..., KubeClient]
) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    client = opened(tokenFile="token")
    server.answers = [NODES]
    for token in ("one", "two"):
        file.write_text(token)
        client.list(kinds.NODE)
    assert sent(server) == ["Bearer one", "Bearer two"]
    file.unlink()
    with pytest.raises(RefusedError, match=r"token file .*: can't be read: No such file"):
        client.list(kinds.NODE)
    file.write_text("")
    with pytest.raises(RefusedError, match="is empty"):
        client.list(kinds.NODE)


def test_a_kubeconfig_that_is_replaced_on_disk_is_read_again_when_its_token_is_refused(
    tmp_path: Path, server: ScriptedServer, opened: Callable[..., KubeClient]
) -> None:
    client = opened(**TOKEN)
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text().replace("old", "new"))))
    server.answers = [status(401, "expired"), NODES]
    client.list(kinds.NODE)
    assert sent(server) == ["Bearer old", "Bearer new"]
    path.unlink()
    server.answers = [status(401, "expired")]
    with pytest.raises(RefusedError, match="not found"):
        client.list(kinds.NODE)


def test_requests_go_through_the_proxy_of_the_kubeconfig(
    server: ScriptedServer, opened: Callable[..., KubeClient]
) -> None:
    server.answers = [NODES]
    client = opened({"server": "http://api.invalid:6443", "proxy-url": f"http://{server.address}"})
    client.list(kinds.NODE)
    assert server.requests[0].headers["Host"] == "api.invalid:6443"


@pytest.mark.parametrize("proxy", ["ftp://proxy", "no url", "socks5://127.0.0.1:1"])
def test_a_proxy_that_is_not_accepted_is_one_line(opened: Callable[..., KubeClient], proxy: str) -> None:
    with pytest.raises(UserError, match="context 'one'") as refused:
        opened({"proxy-url": proxy})
    assert "\n" not in str(refused.value)


def test_name_and_password_and_impersonation_are_sent(
    server: ScriptedServer, opened: Callable[..., KubeClient]
) -> None:
    server.answers = [NODES]
    opened(**{"username": "farm", "password": "secret", "as": "somebody"}).list(kinds.NODE)
    assert sent(server) == ["Basic ZmFybTpzZWNyZXQ="]
    assert server.requests[0].headers["Impersonate-User"] == "somebody"


def test_what_would_act_with_other_rights_than_asked_for_is_refused(opened: Callable[..., KubeClient]) -> None:
    with pytest.raises(UserError, match="as-groups and as-user-extra are not supported"):
        opened(**TOKEN, **{"as-groups": ["viewers"]})
    with pytest.raises(UserError, match="auth-provider is not supported"):
        opened(**{"auth-provider": {"name": "gcp"}})
