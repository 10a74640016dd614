"""Where a Prometheus that is a Service of the cluster is asked.

A pod asks it at its name, and any other machine asks the API server, which takes the kubeconfig's credentials and
passes the request on.

Source: Kubernetes, "Access Services Running on Clusters".
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from functools import partial
from typing import Any

import requests
from requests.auth import AuthBase

from posture.errors import UserError
from posture.kube import kubeconfig
from posture.kube.client import tls_of
from posture.kube.credentials import Credentials, CredentialsError
from posture.settings.parsers import SERVICE_ADDRESS


@dataclass(frozen=True)
class Route:
    """How a server is reached.

    Attributes:
        url: without the path of its API.
        tls: of the API server on the way; None: there is none.
        auth: who we are for it.
        proxy: between us and the API server; empty: none.
    """

    url: str
    tls: ssl.SSLContext | None = None
    auth: AuthBase | None = None
    proxy: str = ""


class _ByApiServer(AuthBase):
    """The kubeconfig's credentials; after a 401 they are read again, for the next request."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        try:
            request.headers.update(self._credentials.headers())
        except CredentialsError as error:
            raise requests.RequestException(str(error)) from None
        request.register_hook("response", self._see)  # type: ignore[no-untyped-call]
        return request

    def _see(self, response: requests.Response, **_: Any) -> None:
        if response.status_code == 401:
            try:
                self._credentials.renew()
            except CredentialsError as error:
                raise requests.RequestException(str(error)) from None


def route_to(url: str, context: str = "") -> Route:
    """Return how a server is reached; that of an http or https URL is at the URL.

    Args:
        url: ``prometheus.url``.
        context: the kubeconfig's context; empty: its current one.

    Raises:
        UserError: the cluster's credentials can't be used.
    """
    service = SERVICE_ADDRESS.fullmatch(url)
    if service is None:
        return Route(url)
    namespace, name, port = service.groups()
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return Route(f"http://{name}.{namespace}.svc:{port}")
    find = partial(kubeconfig.find, context)
    try:
        target = find()
        tls = tls_of(target)
        credentials = Credentials(find, tls)
    except (CredentialsError, ImportError, OSError, ValueError, UserError) as error:
        raise UserError(f"prometheus.url: {url}: {' '.join(str(error).split())}") from None
    server = str(target.cluster["server"]).rstrip("/")
    return Route(
        f"{server}/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy",
        tls if server.startswith("https://") else None,
        _ByApiServer(credentials),
        str(target.cluster.get("proxy-url") or ""),
    )


def command(url: str, query: str) -> list[str]:
    """Return the command that puts a query to a server by hand."""
    service = SERVICE_ADDRESS.fullmatch(url)
    if service is None:
        return ["curl", "-G", f"{url}/api/v1/query", "--data-urlencode", f"query={query}"]
    namespace, name, port = service.groups()
    asked = requests.models.PreparedRequest()
    asked.prepare_url(
        f"http://h/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy/api/v1/query", {"query": query}
    )
    return ["kubectl", "get", "--raw", str(asked.path_url)]
