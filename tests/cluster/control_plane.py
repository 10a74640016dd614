"""A real control plane with a real KEDA: plain processes on loopback, no root, no containers, no network.

Every component can be stopped, killed and started again on the same port and data. All end with the test run.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import shutil
import ssl
import time
import urllib.request
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import requests
import trustme
import watching
import yaml
from lightkube import Client, KubeConfig
from lightkube.codecs import from_dict
from lightkube.core import decoders
from lightkube.core.resource import Resource
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.authentication_v1 import TokenRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources import (
    apiextensions_v1,
    apps_v1,
    batch_v1,
    coordination_v1,
    core_v1,
    events_v1,
    rbac_authorization_v1,
)
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.authorization_v1 import SubjectAccessReview
from lightkube.resources.core_v1 import ConfigMap, Namespace, ServiceAccount
from servers import Server, free_port

from posture.system import recorded_processes

ScaledJob = create_namespaced_resource("keda.sh", "v1alpha1", "ScaledJob", "scaledjobs")
TriggerAuthentication = create_namespaced_resource(
    "keda.sh", "v1alpha1", "TriggerAuthentication", "triggerauthentications"
)

READY_S = 120.0
"""A busy machine is slow; nothing waits this long on an idle one."""
ANSWER_S = 60.0
"""How long the API server may take for an answer."""

KEDA_NAMESPACE = "keda"


class Component(Server):
    """One process of the control plane."""

    start_s = READY_S

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__()
        self.name = name
        self.port = free_port()
        self.log = folder / f"{name}.log"
        self.log.touch()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Etcd(Component):
    """Where the API server keeps everything."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        super().__init__(folder, "etcd")
        self.url = f"http://127.0.0.1:{self.port}"
        peers = f"http://127.0.0.1:{free_port()}"
        self.command = [
            str(binaries / "etcd"), "--name=test", f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync",
            f"--listen-client-urls={self.url}", f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=test={peers}", "--log-level=warn",
        ]  # fmt: skip


AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}
"""What service accounts ask for is written down; scripts of the farm run under their tokens."""


SERVICES = "10.96.0"
"""Services have addresses in this network of 254; the first is the API server's."""


class ApiServer(Component):
    """The API server, with RBAC, real service accounts and one token of an administrator.

    Args:
        binaries: where the programs are.
        folder: for data, logs and certificates.
        etcd: its store.
        authority: of its certificate.
        for_pods: an address of this machine at which pods reach it, too; then each pod has an account. Empty: none.
    """

    def __init__(self, binaries: Path, folder: Path, etcd: Etcd, authority: trustme.CA, for_pods: str = "") -> None:
        super().__init__(folder, "kube-apiserver")
        self.url = f"https://127.0.0.1:{self.port}"
        self.admin_token = secrets.token_hex(16)
        self.authority = authority
        self.ca = write_certificate(
            authority,
            folder / "apiserver",
            "kubernetes.default.svc",
            f"{SERVICES}.1",
            *([for_pods] if for_pods else []),
        )
        tokens = folder / "tokens.csv"
        tokens.write_text(f"{self.admin_token},admin,admin,system:masters\n")
        self.service_account_key = folder / "service-accounts.pem"
        self.service_account_key.write_bytes(authority.issue_cert("service-accounts").private_key_pem.bytes())
        self.audit = folder / "audit.log"
        policy = folder / "audit-policy.json"
        policy.write_text(json.dumps(AUDIT_POLICY))
        self.command = [
            str(binaries / "kube-apiserver"), f"--etcd-servers={etcd.url}",
            f"--secure-port={self.port}",
            f"--cert-dir={folder / 'apiserver'}", f"--tls-cert-file={folder / 'apiserver/tls.crt'}",
            f"--tls-private-key-file={folder / 'apiserver/tls.key'}",
            f"--service-account-key-file={self.service_account_key}",
            f"--service-account-signing-key-file={self.service_account_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={tokens}", "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={SERVICES}.0/24", "--profiling=false",
            f"--audit-policy-file={policy}", f"--audit-log-path={self.audit}",
        ]  # fmt: skip
        if for_pods:
            self.command += [
                "--bind-address=0.0.0.0", f"--advertise-address={for_pods}",
                "--kubelet-preferred-address-types=InternalIP",
            ]  # fmt: skip
        else:
            # pods need no token, and so no default service account
            self.command += [
                "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
                "--disable-admission-plugins=ServiceAccount",
            ]  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        super().start()
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        wait_until_ready(self, f"{self.url}/readyz", context)


class Keda(Component):
    """The unmodified KEDA operator."""

    def __init__(self, binaries: Path, folder: Path, kubeconfig: Path, authority: trustme.CA) -> None:
        super().__init__(folder, "keda-operator")
        write_certificate(authority, folder / "keda")
        self.command = [
            "env", f"KEDA_CLUSTER_OBJECT_NAMESPACE={KEDA_NAMESPACE}", f"POD_NAMESPACE={KEDA_NAMESPACE}",
            "POD_NAME=keda-operator", "WATCH_NAMESPACE=",
            str(binaries / "keda-operator"), f"--kubeconfig={kubeconfig}", f"--cert-dir={folder / 'keda'}",
            f"--ca-dir={folder / 'no-more-authorities'}", "--enable-cert-rotation=false",
            "--enable-webhook-patching=false", "--enable-apiservice-patching=false",
            f"--health-probe-bind-address=127.0.0.1:{self.port}",
            f"--metrics-bind-address=127.0.0.1:{free_port()}",
            f"--metrics-service-bind-address=127.0.0.1:{free_port()}",
            # its default is 20 requests a second, which fifty streams that are polled each second would exceed
            "--kube-api-qps=200", "--kube-api-burst=300",
            "--zap-encoder=json", "--zap-log-level=info", "--zap-time-encoding=rfc3339nano",
        ]  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        super().start()
        wait_until_ready(self, f"http://127.0.0.1:{self.port}/readyz", None)

    def log_size(self) -> int:
        """A place in the log, for ``log_lines``."""
        return self.log.stat().st_size

    def log_lines(self, since: int = 0, namespace: str = "") -> list[dict[str, Any]]:
        """What it has logged since that place; a line that is not JSON comes as {"level": "?", "msg": line}.

        With a namespace what it says of others is left out: it may be late with what the test before has left.
        """
        with self.log.open("rb") as file:
            file.seek(since)
            whole, _, _ = file.read().decode(errors="replace").rpartition("\n")
        lines = [
            json.loads(line) if line.startswith("{") and line.endswith("}") else {"level": "?", "msg": line}
            for line in whole.splitlines()
        ]
        return [line for line in lines if not namespace or line.get("namespace", namespace) == namespace]

    def errors(self, since: int = 0, namespace: str = "") -> list[dict[str, Any]]:
        """Its lines of level error and worse."""
        lines = self.log_lines(since, namespace)
        return [line for line in lines if line.get("level") not in {"debug", "info", "warn", "?"}]


class Cluster:
    """The whole of it. See README.md for how a test uses it.

    Args:
        binaries: where binaries.py has put the programs.
        folder: for data, logs and certificates.
        for_pods: an address of this machine at which real pods reach the API server; empty: there are none.
    """

    def __init__(self, binaries: Path, folder: Path, for_pods: str = "") -> None:
        complete_types()
        self.folder = folder
        self._authority = trustme.CA()
        self.etcd = Etcd(binaries, folder)
        self.api_server = ApiServer(binaries, folder, self.etcd, self._authority, for_pods)
        self.kubeconfig = self._write_kubeconfig("admin", self.api_server.admin_token, "default")
        """The administrator's."""
        self.controller_manager = self._kubernetes(
            binaries, "kube-controller-manager", "--controllers=*,-nodeipam", "--node-monitor-period=1s",
            f"--service-account-private-key-file={self.api_server.service_account_key}",
            f"--root-ca-file={self.api_server.ca}",
        )  # fmt: skip
        self.scheduler = self._kubernetes(binaries, "kube-scheduler")
        self.keda = Keda(binaries, folder, self.kubeconfig, self._authority)
        self.components = (self.etcd, self.api_server, self.controller_manager, self.scheduler, self.keda)
        self._crds = binaries / "crds"
        self.client = self.client_for(self.kubeconfig)
        """A lightkube client with the administrator's rights."""

    def start(self) -> None:
        """Start what does not run, in order. KEDA's CRDs come before anything asks which kinds exist."""
        for component in self.components:
            if component is self.controller_manager and component.process is None:
                self._prepare()
            if not component.running:
                component.start()

    def stop(self) -> None:
        """End everything. The data are thrown away, the logs stay."""
        self.client.close()
        for component in reversed(self.components):
            if component.running:
                component.kill()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    # what a test asks for

    def client_for(self, kubeconfig: Path) -> Client:
        """A lightkube client with the rights of that kubeconfig."""
        return Client(KubeConfig.from_file(kubeconfig).get(), timeout=httpx2.Timeout(ANSWER_S), trust_env=False)

    def create(self, namespace: str | None, *manifests: Mapping[str, Any]) -> None:
        """Create objects from manifests, as a mapping each."""
        for manifest in manifests:
            self.client.create(from_dict(dict(manifest)), namespace=namespace)

    def asked_by(self, namespace: str, service_account: str) -> set[tuple[str, str, str]]:
        """What a service account has asked for: verb, API group and resource of each request, refused or not."""
        user = f"system:serviceaccount:{namespace}:{service_account}"
        whole, _, _ = self.api_server.audit.read_text().rpartition("\n")
        events = map(json.loads, whole.splitlines())
        asked = [event for event in events if event["user"]["username"] == user and "objectRef" in event]
        objects = [(event["verb"], event["objectRef"]) for event in asked]
        return {(verb, ref.get("apiGroup", ""), ref["resource"]) for verb, ref in objects}

    def refusal_of(self, namespace: str, scaled_job: Mapping[str, Any]) -> str:
        """What the API server has against a ScaledJob, by a dry run that is strict about fields; "" is nothing."""
        answer = requests.post(
            f"{self.api_server.url}/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledjobs",
            params={"dryRun": "All", "fieldValidation": "Strict"},
            json=scaled_job,
            headers={"Authorization": f"Bearer {self.api_server.admin_token}"},
            verify=str(self.api_server.ca),
            timeout=READY_S,
        )
        return "" if answer.ok else str(answer.json()["message"])

    @contextlib.contextmanager
    def fresh_namespace(self) -> Iterator[str]:
        """A new namespace. Afterwards its ScaledJobs are gone, and KEDA polls them no more."""
        name = f"farm-{uuid.uuid4().hex[:8]}"
        self.client.create(Namespace(metadata=ObjectMeta(name=name)))
        try:
            # controllers make these in each namespace, by and by
            self.until(ServiceAccount, name, lambda made: len(made) > 0)
            self.until(ConfigMap, name, lambda made: len(made) > 0)
            yield name
        finally:
            self.start()  # KEDA, for its finalizers
            self.client.deletecollection(ScaledJob, namespace=name)
            self.until(ScaledJob, name, lambda left: not left)
            self.client.delete(Namespace, name)
            # what scripts that were killed have left of it on this machine
            shutil.rmtree(recorded_processes.folder_of(name, "default"), ignore_errors=True)

    def until(
        self,
        kind: type[Any],
        namespace: str | None,
        condition: Callable[[Sequence[Any]], bool],
        labels: Mapping[str, str] | None = None,
        timeout_s: float = READY_S,
    ) -> list[Any]:
        """Watch the objects of a kind, with these labels, until the condition holds for their list; return it.

        Raises:
            AssertionError: it didn't hold within ``timeout_s``; the text has the objects as they were then.
        """
        return watching.until(
            KubeConfig.from_file(self.kubeconfig).get(), kind, namespace, condition, labels, timeout_s
        )

    def role(
        self,
        namespace: str,
        name: str,
        rules: Collection[Mapping[str, Any]] = (),
        cluster_rules: Collection[Mapping[str, Any]] = (),
    ) -> Path:
        """A kubeconfig of a new service account with just these RBAC rules, in its namespace and cluster-wide."""
        self.client.create(ServiceAccount(metadata=ObjectMeta(name=name)), namespace=namespace)
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        for kind, kind_rules, full_name in (
            ("Role", rules, name),
            ("ClusterRole", cluster_rules, f"{namespace}-{name}"),
        ):
            api = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": full_name}}
            where = namespace if kind == "Role" else None
            self.create(
                where,
                {**api, "kind": kind, "rules": list(kind_rules)},
                {
                    **api,
                    "kind": f"{kind}Binding",
                    "subjects": [subject],
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": full_name},
                },
            )
            for rule in list(kind_rules)[:1]:
                self.await_right(namespace, name, rule, where)
        return self.kubeconfig_of(namespace, name)

    def kubeconfig_of(self, namespace: str, service_account: str) -> Path:
        """A kubeconfig with a token of a service account that exists, for half a day."""
        request = ServiceAccount.Token(spec=TokenRequestSpec(audiences=[], expirationSeconds=43_200))
        request.metadata = ObjectMeta()
        answer = self.client.create(request, service_account, namespace=namespace)
        return self._write_kubeconfig(f"{namespace}-{service_account}", answer.status.token, namespace)

    # how it is made

    def _kubernetes(self, binaries: Path, name: str, *more: str) -> Component:
        component = Component(self.folder, name)
        component.command = [
            str(binaries / name), f"--kubeconfig={self.kubeconfig}", "--leader-elect=false",
            "--bind-address=127.0.0.1", f"--secure-port={component.port}", f"--cert-dir={self.folder / name}",
            "--authentication-skip-lookup", "--profiling=false", *more,
        ]  # fmt: skip
        return component

    def _write_kubeconfig(self, name: str, token: str, namespace: str) -> Path:
        authority = base64.b64encode(self._authority.cert_pem.bytes()).decode()
        path = self.folder / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {
                            "name": "test",
                            "cluster": {"server": self.api_server.url, "certificate-authority-data": authority},
                        }
                    ],
                    "users": [{"name": name, "user": {"token": token}}],
                    "contexts": [
                        {"name": name, "context": {"cluster": "test", "user": name, "namespace": namespace}}
                    ],
                    "current-context": name,
                }
            )
        )
        return path

    def _prepare(self) -> None:
        # the API server makes this one by and by
        self.until(Namespace, None, lambda found: "kube-node-lease" in {one.metadata.name for one in found})
        for path in sorted(self._crds.glob("*.yaml")):
            crd = from_dict(yaml.safe_load(path.read_text()))
            self.client.create(crd)
        self.until(CustomResourceDefinition, None, lambda crds: len(crds) > 0 and all(map(is_established, crds)))
        self.client.create(Namespace(metadata=ObjectMeta(name=KEDA_NAMESPACE)))

    def await_right(self, namespace: str, name: str, rule: Mapping[str, Any], where: str | None) -> None:
        """The authorizer learns of a binding by its own watch, a moment later; there is no event to wait for."""
        attributes = {
            "group": rule["apiGroups"][0], "resource": rule["resources"][0], "verb": rule["verbs"][0],
            "namespace": where,
        }  # fmt: skip
        review = from_dict(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": f"system:serviceaccount:{namespace}:{name}",
                    "resourceAttributes": {key: value for key, value in attributes.items() if value is not None},
                },
            }
        )
        assert isinstance(review, SubjectAccessReview)
        deadline = time.monotonic() + READY_S
        while not self.client.create(review).status.allowed:
            assert time.monotonic() < deadline, f"RBAC never granted {rule}"
            time.sleep(0.02)


def complete_types() -> None:
    """Let msgspec work out the kinds of the API here, in one thread.

    It does so when a kind is first read, and two threads that meet there crash the process (msgspec 0.22).
    """
    decoders.decode_watch_event(b'{"type": "ADDED", "object": {}}')
    decoders.decode_status(b"{}")
    for module in (core_v1, batch_v1, apps_v1, coordination_v1, rbac_authorization_v1, apiextensions_v1, events_v1):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Resource):
                decoders.decode_list(b'{"items": []}', kind)


def is_established(crd: CustomResourceDefinition) -> bool:
    conditions = (crd.status.conditions or []) if crd.status else []
    return any(condition.type == "Established" and condition.status == "True" for condition in conditions)


def are_counted(quotas: Sequence[Any]) -> bool:
    """Whether all quotas say how much is used; one that doesn't yet refuses everything, for another reason."""
    return all(one.status and one.status.used for one in quotas)


def write_certificate(authority: trustme.CA, folder: Path, *names: str) -> Path:
    """Write a server's certificate for loopback and more: tls.crt, tls.key, ca.crt; return the last one's path."""
    folder.mkdir(parents=True)
    certificate = authority.issue_cert("127.0.0.1", "localhost", *names)
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(folder / "tls.crt", append=number > 0)
    authority.cert_pem.write_to_path(folder / "ca.crt")
    return folder / "ca.crt"


def wait_until_ready(component: Component, url: str, context: ssl.SSLContext | None) -> None:
    """Ask the component's readiness address until it says yes. There is no event to wait for."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and component.running:
        try:
            with urllib.request.urlopen(url, timeout=5, context=context):  # noqa: S310 - our own server
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{component.name} is not ready:\n{component.log.read_text(errors='replace')[-3000:]}")
