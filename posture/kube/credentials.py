"""Who we are for the API server: token, token file, login program, password or certificate, as kubectl takes them.

A token that was replaced on disk, or that a login program has to renew, is taken up with the next request.
Source: Kubernetes, "client-go credential plugins" (client.authentication.k8s.io/v1 and v1beta1).
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from lightkube.config.models import FileStr

from posture.errors import UserError
from posture.kube.errors import RefusedError
from posture.kube.kubeconfig import Target

EXEC_API = "client.authentication.k8s.io"
EXEC_VERSIONS = (f"{EXEC_API}/v1", f"{EXEC_API}/v1beta1")
LOGIN_S = 120.0
"""A login program may ask a person."""
EARLY_S = 10.0
"""How long before its end a token is renewed."""
CLUSTER_INFO = (
    "server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url",
)  # fmt: skip
"""What a program with provideClusterInfo is told."""


class CredentialsError(RefusedError):
    """There are no credentials; the message says what is wrong with them."""


@dataclass(frozen=True)
class Login:
    """What a login program has answered."""

    token: str = ""
    certificate: str = ""
    key: str = ""
    expires_s: float = float("inf")
    """Seconds since 1970."""


class Credentials(httpx2.Auth):
    """Puts the credentials into each request; after a 401 they are read again, once.

    Args:
        find: reads the kubeconfig.
        tls: of the connection; gets the certificate of a login program.

    Raises:
        CredentialsError: there are none.
    """

    def __init__(self, find: Callable[[], Target], tls: ssl.SSLContext) -> None:
        self._find = find
        self._tls = tls
        self._login: Login | None = None
        self._target = find()
        self._headers = self._read()

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Send a request with the credentials; see httpx2.Auth."""
        used = self.headers()
        request.headers.update(used)
        response = yield request
        if response.status_code != 401:
            return
        self.renew()
        if self._headers != used:
            request.headers.update(self._headers)
            yield request

    def renew(self) -> None:
        """Read the credentials again, after a 401.

        Raises:
            CredentialsError: there are none.
        """
        self._login = None
        try:
            self._target = self._find()
        except UserError as error:
            raise CredentialsError(str(error)) from None
        self._headers = self._read()

    def headers(self) -> Mapping[str, str]:
        """Return the headers of a request that is sent now."""
        expired = self._login is not None and time.time() > self._login.expires_s - EARLY_S
        if expired:
            self._login = None
        if expired or self._target.user.get("tokenFile"):
            self._headers = self._read()
        return self._headers

    def _read(self) -> dict[str, str]:
        user = self._target.user
        return {**_impersonation(user), **self._authorization(user)}

    def _authorization(self, user: Mapping[str, Any]) -> dict[str, str]:
        if user.get("tokenFile"):
            return _bearer(_read_token(Path(user["tokenFile"])))
        if user.get("token"):
            return _bearer(str(user["token"]))
        if user.get("exec"):
            if self._login is None:
                self._login = run_login(user["exec"], self._target.cluster)
                self._use_certificate(self._login)
            return _bearer(self._login.token) if self._login.token else {}
        if user.get("username"):
            pair = f"{user['username']}:{user.get('password') or ''}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        if user.get("auth-provider"):
            raise CredentialsError("auth-provider is not supported, nor by kubectl since 1.26; accepted: exec")
        return {}

    def _use_certificate(self, login: Login) -> None:
        if not login.certificate:
            return
        files = [FileStr(base64.b64encode(text.encode()).decode()) for text in (login.certificate, login.key)]
        try:
            self._tls.load_cert_chain(files[0], files[1])
        except (ssl.SSLError, OSError) as error:
            raise CredentialsError(f"the certificate that the login program gave can't be used: {error}") from None


def run_login(program: Mapping[str, Any], cluster: Mapping[str, Any]) -> Login:
    """Run a login program (an exec plugin).

    Args:
        program: a kubeconfig's ``exec``.
        cluster: a kubeconfig's ``cluster``, of which the program may want to know.

    Raises:
        CredentialsError: it can't be run, fails, or gives nothing that can be used.
    """
    version, command = program.get("apiVersion"), str(program.get("command") or "")
    if version not in EXEC_VERSIONS:
        raise CredentialsError(
            f"exec: apiVersion {version!r} is not accepted; accepted: {', '.join(EXEC_VERSIONS)}"
        )
    mode = program.get("interactiveMode") or "IfAvailable"
    interactive = mode != "Never" and sys.stdin is not None and sys.stdin.isatty()
    if mode == "Always" and not interactive:
        raise CredentialsError(f"the login program {command} wants a terminal, and there is none")
    spec: dict[str, Any] = {"interactive": interactive}
    if program.get("provideClusterInfo"):
        spec["cluster"] = {key: cluster[key] for key in CLUSTER_INFO if key in cluster}
    variables = {str(entry["name"]): str(entry["value"]) for entry in program.get("env") or []}
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
    try:
        done = subprocess.run(
            [command, *map(str, program.get("args") or [])],
            env={**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(info)},
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if interactive else subprocess.PIPE,
            timeout=LOGIN_S,
            check=False,
        )
    except (OSError, ValueError) as error:
        hint = " ".join(str(program.get("installHint") or "").split())
        why = error.strerror if isinstance(error, OSError) else error
        raise CredentialsError(f"the login program {command} can't be run: {why}{hint and f'; {hint}'}") from None
    except subprocess.TimeoutExpired:
        raise CredentialsError(f"the login program {command} did not end within {LOGIN_S:g} s") from None
    if done.returncode != 0:
        told = (done.stderr or b"").decode(errors="replace").strip().splitlines()[-1:]
        raise CredentialsError(
            f"the login program {command} ended with {done.returncode}{''.join(f': {line}' for line in told)}"
        )
    return _take(done.stdout, command)


def _take(output: bytes, command: str) -> Login:
    """Return what a login program has printed, an ExecCredential."""
    try:
        status = json.loads(output)["status"]
        login = Login(
            str(status.get("token") or ""),
            str(status.get("clientCertificateData") or ""),
            str(status.get("clientKeyData") or ""),
            _seconds(status.get("expirationTimestamp")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CredentialsError(f"the login program {command} printed no ExecCredential with a status") from None
    if not login.token and not (login.certificate and login.key):
        raise CredentialsError(f"the login program {command} gave neither a token nor a certificate with its key")
    return login


def _seconds(timestamp: str | None) -> float:
    if not timestamp:
        return float("inf")
    return datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CredentialsError(f"token file {path}: can't be read: {why}") from None
    if not token:
        raise CredentialsError(f"token file {path}: is empty; accepted: a token")
    return token


def _bearer(token: str) -> dict[str, str]:
    if not token.isascii() or not token.isprintable():
        raise CredentialsError("the token is not accepted; accepted: ASCII on one line")
    return {"Authorization": f"Bearer {token}"}


def _impersonation(user: Mapping[str, Any]) -> dict[str, str]:
    if user.get("as-groups") or user.get("as-user-extra"):
        raise CredentialsError("as-groups and as-user-extra are not supported; accepted: as, as-uid")
    headers = {"as": "Impersonate-User", "as-uid": "Impersonate-Uid"}
    return {header: str(user[key]) for key, header in headers.items() if user.get(key)}
