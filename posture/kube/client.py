"""A small client of the Kubernetes API: objects are plain dicts, as JSON has them, and errors say what to do.

It stands on httpx2, with time-outs, paging, retries, and errors that name verb and resource.

    with kube.connect(settings.kubernetes) as cluster:
        for job in cluster.list(kube.JOB, {"posture-farm/farm": "default"}):
            cluster.delete(kube.JOB, job["metadata"]["name"], uid=job["metadata"]["uid"])

Retries: a request that the server did not take (no connection, 429) is sent again, whatever it is; one whose
fate is unknown (connection lost, time-out, 5xx) is sent again only if that can't do anything twice.
"""

from __future__ import annotations

import email.utils
import json
import logging
import re
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import httpx2
import msgspec
from lightkube.config import client_adapter, models

from posture.errors import UserError
from posture.kube import kubeconfig
from posture.kube.credentials import Credentials, CredentialsError
from posture.kube.errors import (
    ConflictError,
    CredentialsRefusedError,
    KubeError,
    NoConnectionError,
    NotAdmittedError,
    NotFoundError,
    RefusedError,
    StaleError,
    UnreachableError,
)
from posture.kube.kinds import Kind
from posture.kube.kubeconfig import Target
from posture.natural_order import natural
from posture.system.backoff import Backoff
from posture.system.server_clock import offset_that_fits
from posture.system.untrusted import shown

log = logging.getLogger(__name__)

Object = dict[str, Any]
"""An object of the API, or a part of one."""

PAGE = 500
"""Objects a page of a list; the size that kubectl takes."""

ATTEMPTS = 4
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
"""A Retry-After beyond this is reported instead of waited for."""

NOT_ADMITTED = re.compile(r'is forbidden: (?!User "[^"]*" cannot )|^admission webhook ')
"""A 403 of an admission check, not of the role: in each the API server words differently what is forbidden."""
LONGEST_MESSAGE = 1000
"""Characters of what the server says; an invalid object has long ones."""

ADMISSION_WEBHOOK = "admission webhook "
"""A refusal of a webhook says so, and may have any status; another one's meaning follows from its status."""

FIELD_MANAGER = "posture-farm"

Propagation = Literal["Foreground", "Background", "Orphan"]


class Cluster(Protocol):
    """How to find a cluster; :class:`posture.settings.table.Kubernetes` is one."""

    @property
    def namespace(self) -> str:
        """Where our objects live."""

    @property
    def context(self) -> str:
        """The kubeconfig's context; empty: its current one, or in-cluster."""

    @property
    def timeout_s(self) -> float:
        """How long one request may take."""


def connect(settings: Cluster, *, dry_run: bool = False, wait: Callable[[float], None] = time.sleep) -> KubeClient:
    """Return a client. Nothing is sent yet.

    Args:
        settings: which cluster, and how patiently.
        dry_run: the server checks every change and makes none.
        wait: how to pause between attempts, in seconds; ``Stop.wait`` makes a signal cut it short.

    Raises:
        UserError: there are no credentials, or they can't be read.
    """
    find = partial(kubeconfig.find, settings.context)
    target = find()
    cluster = target.cluster
    try:
        tls = tls_of(target)
        http = httpx2.Client(
            base_url=cluster["server"],
            verify=tls,
            auth=Credentials(find, tls),
            proxy=cluster.get("proxy-url") or None,
            timeout=settings.timeout_s,
        )
    except (CredentialsError, ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
        raise UserError(f"{target.where}: {' '.join(str(error).split())}") from None
    if cluster.get("tls-server-name"):
        name = str(cluster["tls-server-name"])
        http.event_hooks["request"] = [lambda request: request.extensions.update(sni_hostname=name)]
    return KubeClient(http, settings.namespace, dry_run=dry_run, wait=wait)


def tls_of(target: Target) -> ssl.SSLContext:
    """Return how the server is known, and the certificate by which it knows us, if there is one."""
    return client_adapter.verify_cluster(
        msgspec.convert(target.cluster, models.Cluster), msgspec.convert(target.user, models.User), Path
    )


class KubeClient:
    """One connection to one cluster. ``namespace`` applies to namespaced kinds when none is given.

    Attributes:
        namespace: where our objects live.
        clock_offset_s: the API server's clock minus ours, in seconds, as of its last answer: annotations of
            a cluster's controllers can be compared with ``time.time() + clock_offset_s`` on any laptop.
    """

    def __init__(
        self,
        http: httpx2.Client,
        namespace: str,
        *,
        dry_run: bool = False,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.namespace = namespace
        self.clock_offset_s = 0.0
        self._http = http
        self._dry_run = dry_run
        self._wait = wait

    def __enter__(self) -> KubeClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._http.base_url)

    def now(self) -> float:
        """Return the time by the API server's clock, in seconds since 1970, to about a second."""
        return time.time() + self.clock_offset_s

    def list(
        self,
        kind: Kind,
        labels: Mapping[str, str | Collection[str] | None] | None = None,
        namespace: str | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        """Return all objects with exactly these labels, in natural order of their names.

        Args:
            kind: their kind.
            labels: label -> its value, several of which any will do, or None if it only has to be there.
            namespace: where they live, if not in ours.
            fields: field -> its value, of those by which the API can select this kind.
        """
        selector = ",".join(_requirement(label, value) for label, value in (labels or {}).items())
        found: list[Object] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        if fields:
            query["fieldSelector"] = ",".join(f"{name}={value}" for name, value in fields.items())
        while True:
            page = self._ask("list", "GET", kind, query=query, namespace=namespace)
            found += page.get("items") or []
            token = page.get("metadata", {}).get("continue")
            if not token:
                return sorted(found, key=lambda item: natural(item["metadata"]["name"]))
            query["continue"] = token

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        """Return one object."""
        return self._ask("get", "GET", kind, name, namespace=namespace)

    def create(self, kind: Kind, body: Object, namespace: str | None = None) -> Object:
        """Create an object."""
        return self._ask("create", "POST", kind, body=body, namespace=namespace)

    def replace(self, kind: Kind, name: str, body: Object, namespace: str | None = None) -> Object:
        """Replace an object; with a resourceVersion in it, only if nobody else has changed it (ConflictError)."""
        return self._ask("update", "PUT", kind, name, body=body, namespace=namespace)

    def patch(self, kind: Kind, name: str, operations: Sequence[Object], namespace: str | None = None) -> Object:
        """Change an object by a JSON Patch; a ``test`` in it that fails is a ConflictError."""
        return self._ask(
            "patch",
            "PATCH",
            kind,
            name,
            body=list(operations),
            query={"fieldManager": FIELD_MANAGER},
            content="json-patch+json",
            namespace=namespace,
        )

    def apply(
        self,
        kind: Kind,
        name: str,
        body: Object,
        namespace: str | None = None,
        *,
        force: bool = False,
        manager: str = FIELD_MANAGER,
    ) -> Object:
        """Create or change an object by server-side apply; unknown fields are an error.

        Args:
            kind: its kind.
            name: its name.
            body: what it is to be.
            namespace: where it lives, if not in ours.
            force: take over fields that somebody else has set; without it these are a ConflictError.
            manager: who owns the fields from now on.
        """
        query = {"fieldManager": manager, "fieldValidation": "Strict", "force": str(force).lower()}
        return self._ask(
            "patch", "PATCH", kind, name, body=body, query=query, content="apply-patch+yaml", namespace=namespace
        )

    def delete(
        self,
        kind: Kind,
        name: str,
        *,
        uid: str | None = None,
        propagation: Propagation = "Foreground",
        namespace: str | None = None,
    ) -> None:
        """Delete an object. It is no error if it is gone already.

        Args:
            kind: its kind.
            name: its name.
            uid: delete only this very object, and not another that has taken its name since.
            propagation: what becomes of the objects it owns.
            namespace: where it lives, if not in ours.
        """
        body: Object = {"propagationPolicy": propagation}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            self._ask("delete", "DELETE", kind, name, body=body, namespace=namespace)
        except NotFoundError:
            return
        except ConflictError as error:
            # a precondition: the name is another object's by now, so ours is gone; a webhook may answer 409, too
            if uid is None or ADMISSION_WEBHOOK in str(error):
                raise

    def _ask(
        self,
        verb: str,
        method: str,
        kind: Kind,
        name: str = "",
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content: str = "json",
        namespace: str | None = None,
    ) -> Object:
        """Send a request until it is answered or hopeless; return the answer's object."""
        what = f"{verb} {kind}" + (f" {name}" if name else "")
        parameters = dict(query or {})
        if self._dry_run and method != "GET":
            parameters["dryRun"] = "All"
        request = self._http.build_request(
            method,
            kind.path(namespace or self.namespace, name),
            params=parameters,
            content=None if body is None else json.dumps(body),
            headers={"Accept": "application/json", "Content-Type": f"application/{content}"},
        )
        backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        answered = True
        for attempt in range(1, ATTEMPTS + 1):
            pause = backoff.next_s()
            asked_s = time.time()
            try:
                response = self._http.send(request)
            except httpx2.ConnectError as error:
                failure = f"no connection to {request.url.host}:{request.url.port}: {error}"
                answered, again = False, True
            except httpx2.RequestError as error:
                failure = f"no answer from {request.url.host}:{request.url.port}: {error or type(error).__name__}"
                again = method in {"GET", "DELETE"}
            except CredentialsError as error:
                raise CredentialsRefusedError(f"{what}: {error}") from error
            else:
                self._note_clock(response, asked_s)
                if response.status_code < 429:
                    return self._take(response, verb, kind, what)
                failure = f"{response.status_code} {_message(response)}"
                answered = True
                again = response.status_code == 429 or method in {"GET", "DELETE"}
                pause = max(pause, _retry_after(response))
            if not again or attempt == ATTEMPTS or pause > LONGEST_PAUSE_S:
                break
            log.debug("%s: %s; again in %.1f s", what, failure, pause)
            self._wait(pause)
        raise (UnreachableError if answered else NoConnectionError)(f"{what}: {failure}")

    def _take(self, response: httpx2.Response, verb: str, kind: Kind, what: str) -> Object:
        """Return the object of an answer, or raise what it stands for."""
        if response.status_code < 300:
            try:
                answer = response.json()
            except ValueError:
                answer = None
            if not isinstance(answer, dict):
                raise UnreachableError(f"{what}: the answer is no object of the Kubernetes API")
            return answer
        raise _refusal(response, verb, kind, what)

    def _note_clock(self, response: httpx2.Response, asked_s: float) -> None:
        try:
            sent = email.utils.parsedate_to_datetime(response.headers.get("Date", ""))
        except ValueError:
            return
        self.clock_offset_s = offset_that_fits(
            self.clock_offset_s, sent.timestamp(), asked_s=asked_s, now_s=time.time()
        )


def _refusal(response: httpx2.Response, verb: str, kind: Kind, what: str) -> KubeError:
    """Return what a status of 4xx, or a redirection, stands for."""
    status, message = response.status_code, _message(response)
    if status == 403 and not NOT_ADMITTED.search(message):
        return RefusedError(f"{what}: the role lacks verb {verb!r} on resource {str(kind)!r} (403: {message})")
    if _is_failed_test(response):
        return StaleError(f"{what}: {message}")
    errors: dict[int, tuple[type[KubeError], str]] = {
        401: (CredentialsRefusedError, "the credentials are not accepted (401)"),
        403: (NotAdmittedError, message),
        404: (NotFoundError, message),
        409: (ConflictError, message),
        410: (UnreachableError, f"the list took too long (410: {message})"),
    }
    error, told = errors.get(status, (KubeError, f"{status} {message}"))
    return error(f"{what}: {told}")


def _requirement(label: str, value: str | Collection[str] | None) -> str:
    if value is None:
        return label
    return f"{label}={value}" if isinstance(value, str) else f"{label} in ({','.join(sorted(value))})"


def _message(response: httpx2.Response) -> str:
    """Return what the server says about an error, on one line."""
    try:
        return shown(response.json()["message"], LONGEST_MESSAGE)
    except (ValueError, KeyError, TypeError, RecursionError):
        return shown(response.text)


def _is_failed_test(response: httpx2.Response) -> bool:
    """Say whether a JSON Patch's ``test`` failed: 422 without a cause; an object that is invalid has causes."""
    if response.status_code != 422 or ADMISSION_WEBHOOK in _message(response):
        return False
    try:
        return not (response.json().get("details") or {}).get("causes")
    except (ValueError, AttributeError):
        return False


def _retry_after(response: httpx2.Response) -> float:
    """Return the Retry-After header in seconds, 0 without one."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0
