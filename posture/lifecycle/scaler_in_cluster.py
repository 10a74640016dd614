"""Scaler and balancer inside the cluster: deploy/base/ as objects, applied for a farm and taken away again.

An administrator may have set deploy/ up before (``kubectl apply -k deploy``): then only the Deployment's image and
replicas are changed, and its settings. Otherwise all of it is made here, and marked, so that stop.py
--delete-scaledjobs takes away what build_and_push.py has made and nothing else.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from posture.errors import FailedError
from posture.kube import errors, kinds, labels, ownership, taints
from posture.kube.access import Right
from posture.kube.client import KubeClient, Object
from posture.kube.kinds import Kind
from posture.kube.objects import Pod
from posture.runtime import ROOT, Stop

FOLDER = ROOT / "deploy" / "base"
LEFT_OUT = frozenset({"namespace.yaml", "rbac-operator.yaml"})
"""An administrator's: they come before everything else."""
NAME = "posture-scaler"
PORT = 50051
TLS_VARIABLE = "POSTURE_SCALER_TLS_CERT"
TRIGGER_AUTHENTICATION = "posture-scaler-tls"
"""KEDA's certificate for it, in deploy/overlays/tls."""
MADE, EVERYTHING, ONLY_SETTINGS = "posture-farm/made", "everything", "settings"
"""Annotation of what we have made, and its values."""
CONFIG_HASH = "posture-farm/config"
RBAC = "rbac.authorization.k8s.io/v1"
ADMISSION = "admissionregistration.k8s.io/v1"
CONFIG_MAP = Kind("ConfigMap", "v1", "configmaps")
KINDS = {
    kind.name: kind
    for kind in (
        kinds.DEPLOYMENT,
        CONFIG_MAP,
        Kind("Service", "v1", "services"),
        Kind("ServiceAccount", "v1", "serviceaccounts"),
        Kind("Role", RBAC, "roles"),
        Kind("RoleBinding", RBAC, "rolebindings"),
        Kind("ClusterRole", RBAC, "clusterroles", namespaced=False),
        Kind("ClusterRoleBinding", RBAC, "clusterrolebindings", namespaced=False),
        Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
        Kind("ValidatingAdmissionPolicy", ADMISSION, "validatingadmissionpolicies", namespaced=False),
        Kind("ValidatingAdmissionPolicyBinding", ADMISSION, "validatingadmissionpolicybindings", namespaced=False),
    )
}
LOOK_EVERY_S = 1.0


@dataclass
class InCluster:
    """Scaler and balancer of one farm.

    Attributes:
        cluster: where.
        farm: whose.
        config: the settings' file that they are to read; None: cluster.yaml.
    """

    cluster: KubeClient
    farm: str
    config: Path | None = None

    @property
    def name(self) -> str:
        """The name of the Deployment, its Service, account and settings."""
        return ownership.named_for(NAME, self.farm)

    @property
    def address(self) -> str:
        """Where KEDA finds the scaler."""
        return f"{self.name}.{self.cluster.namespace}.svc:{PORT}"

    @property
    def config_path(self) -> Path:
        """The file that becomes the settings there."""
        return self.config or ROOT / "cluster.yaml"

    def deployment(self) -> Object:
        """Return the Deployment that is there, or else the one that will be made.

        Raises:
            KubeError: the API server did not answer.
            ForeignError: it is another farm's.
        """
        live = ownership.find(self.cluster, kinds.DEPLOYMENT, self.name, self.farm)
        (ours,) = (item for item in self.objects() if item["kind"] == kinds.DEPLOYMENT.name)
        return ours if live is None else live

    def is_set_up(self) -> bool:
        """Return whether the Deployment is there.

        Raises:
            KubeError: the API server did not answer.
            ForeignError: it is another farm's.
        """
        return ownership.find(self.cluster, kinds.DEPLOYMENT, self.name, self.farm) is not None

    def has_tls(self) -> bool:
        """Return whether the Deployment that is there lets KEDA in by certificate alone.

        Raises:
            KubeError: the API server did not answer.
            ForeignError: it is another farm's.
        """
        live = ownership.find(self.cluster, kinds.DEPLOYMENT, self.name, self.farm)
        containers = live["spec"]["template"]["spec"]["containers"] if live is not None else []
        return any(one["name"] == TLS_VARIABLE for part in containers for one in part.get("env") or [])

    def rights(self, set_up: bool) -> Iterator[Right]:
        """Yield what must be allowed."""
        yield from ((CONFIG_MAP, verb) for verb in ("get", "create", "patch"))
        yield from ((kinds.DEPLOYMENT, verb) for verb in ("get", "patch"))
        for kind in KINDS.values() if not set_up else ():
            yield from ((kind, verb) for verb in ("get", "create", "patch"))

    def objects(self) -> list[Object]:
        """Return deploy/base/'s objects as this farm has them, and the settings as a ConfigMap."""
        found = []
        for name in yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]:
            if name not in LEFT_OUT:
                found += list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))
        return [self._settings(), *(self._ours(item) for item in found)]

    def _ours(self, item: Object) -> Object:
        item = copy.deepcopy(item)
        namespaced = KINDS[item["kind"]].namespaced
        if namespaced:
            item["metadata"]["namespace"] = self.cluster.namespace
        # each farm of each namespace has its own: a binding names one account
        suffix = "" if namespaced else f"-{self.cluster.namespace}"
        for named in (item["metadata"], item.get("roleRef")):
            if named is not None:
                named["name"] = ownership.named_for(f"{named['name']}{suffix}", self.farm)
        for subject in item.get("subjects") or []:
            subject["name"] = ownership.named_for(subject["name"], self.farm)
            subject["namespace"] = self.cluster.namespace
        if "policyName" in item.get("spec", {}):
            item["spec"]["policyName"] = item["metadata"]["name"]
        if item["kind"] == "Service":
            item["spec"]["selector"][labels.FARM] = self.farm
        item["metadata"].setdefault("labels", {}).update({labels.PART_OF: labels.OURS, labels.FARM: self.farm})
        return item

    def _settings(self) -> Object:
        text = self.config_path.read_text(encoding="utf-8") if self.config_path.exists() else ""
        body = {"apiVersion": CONFIG_MAP.api, "kind": CONFIG_MAP.name, "metadata": {"name": NAME}}
        return self._ours({**body, "data": {"cluster.yaml": text}})

    def apply(self, image: str) -> None:
        """Bring it up with this image; with new settings its pod is replaced, too.

        Raises:
            KubeError: the API server did not do it.
            ForeignError: an object is another farm's; it is as it was.
        """
        settings, *rest = self.objects()
        (deployment,) = (item for item in rest if item["kind"] == kinds.DEPLOYMENT.name)
        theirs = self.is_set_up() and self._made_by_us(deployment) is None
        self._apply(settings, ONLY_SETTINGS if theirs else EVERYTHING)
        for item in rest:
            if item is deployment:
                self._apply(self._deployment(item, image, settings, partly=theirs))
            elif not theirs and (self._live(item) is None or self._made_by_us(item) is not None):
                self._apply(item)

    def _deployment(self, item: Object, image: str, settings: Object, *, partly: bool) -> Object:
        """Return the Deployment; ``partly``: only what we decide of one that an administrator has made."""
        if partly:
            named: list[Object] = [{"name": one["name"]} for one in self._containers_of_theirs(item)]
            item = {
                "apiVersion": item["apiVersion"],
                "kind": item["kind"],
                "metadata": {
                    "name": self.name,
                    "namespace": self.cluster.namespace,
                    "labels": {labels.FARM: self.farm},
                },
                "spec": {"template": {"metadata": {}, "spec": {"containers": named}}},
            }
        template = item["spec"]["template"]
        item["spec"]["replicas"] = 1
        for container in template["spec"]["containers"]:
            container["image"] = image
        digest = hashlib.sha256(settings["data"]["cluster.yaml"].encode()).hexdigest()[:16]
        template["metadata"].setdefault("annotations", {})[CONFIG_HASH] = digest
        for part in (item["spec"].get("selector", {}).get("matchLabels"), template["metadata"].get("labels")):
            if part is not None:
                part[labels.FARM] = self.farm
        for toleration in template["spec"].get("tolerations", []):
            if toleration["key"] == taints.master_key(ownership.DEFAULT_FARM):
                toleration["key"] = taints.master_key(self.farm)
        if not partly:
            template["spec"]["serviceAccountName"] = self.name
            for volume in template["spec"]["volumes"]:
                if volume["name"] == "config":
                    volume["configMap"]["name"] = self.name
        return item

    def _containers_of_theirs(self, item: Object) -> list[Object]:
        """Return which of the Deployment's containers are in the one that an administrator has made."""
        live = self.cluster.get(kinds.DEPLOYMENT, self.name)
        names = {container["name"] for container in live["spec"]["template"]["spec"]["containers"]}
        return [one for one in item["spec"]["template"]["spec"]["containers"] if one["name"] in names]

    def _apply(self, item: Object, what: str = EVERYTHING) -> None:
        """Apply one object; one that is not there yet is marked as made by us, with what else is."""
        live = self._live(item)
        if live is None or _mark(live):
            item["metadata"].setdefault("annotations", {})[MADE] = what
        ownership.apply(self.cluster, KINDS[item["kind"]], item, self.farm)

    def _live(self, item: Object) -> Object | None:
        try:
            return self.cluster.get(KINDS[item["kind"]], str(item["metadata"]["name"]))
        except errors.NotFoundError:
            return None

    def _made_by_us(self, item: Object) -> Object | None:
        """Return the object as it lives in the cluster, if we have made it."""
        try:
            live = self._live(item)
        except errors.RefusedError:
            # who may not even look has not made it
            return None
        ours = live is not None and _mark(live) and live["metadata"]["labels"].get(labels.FARM) == self.farm
        return live if ours else None

    def made_by_us(self) -> list[tuple[Kind, Object]]:
        """Return what is to be taken away again, the Deployment first.

        Raises:
            KubeError: the API server did not answer.
        """
        items = self.objects()
        first = [item for item in items if item["kind"] in {CONFIG_MAP.name, kinds.DEPLOYMENT.name}]
        if EVERYTHING not in {_mark(self._made_by_us(item)) for item in first}:
            # the rest is the administrator's, and not even to be asked for
            items = first
        found = [(KINDS[item["kind"]], self._made_by_us(item)) for item in items]
        living = [(kind, live) for kind, live in found if live is not None]
        return sorted(living, key=lambda entry: entry[0] is not kinds.DEPLOYMENT)

    def left_of(self, made: Sequence[tuple[Kind, Object]]) -> list[Object]:
        """Return which of these are there still.

        Args:
            made: from ``made_by_us``. What is there of the Deployment tells what else is ours, so once it is gone
                only this list knows of the rest.

        Raises:
            KubeError: the API server did not answer.
        """
        live = ((item, self._made_by_us({"kind": kind.name, **item})) for kind, item in made)
        return [item for item, found in live if found and found["metadata"]["uid"] == item["metadata"]["uid"]]

    def wait(self, timeout_s: float, stop: Stop) -> None:
        """Wait until the Deployment's new pod takes calls; print what keeps it from that.

        Raises:
            KubeError: the API server did not answer.
            FailedError: it doesn't in time, or the stop was requested.
        """
        deadline = time.monotonic() + timeout_s
        told = ""
        while not _is_available(deployment := self.cluster.get(kinds.DEPLOYMENT, self.name)):
            if (obstacle := self._obstacle(deployment)) != told:
                told = obstacle
                print(f"    {told or 'waiting for its pod'}", flush=True)
            if stop.requested:
                raise FailedError(f"interrupted while waiting for deployment {self.name}")
            if time.monotonic() > deadline:
                because = f" ({told})" if told else ""
                raise FailedError(
                    f"deployment {self.name} is not available after {timeout_s:g} s{because}; see "
                    f"kubectl -n {self.cluster.namespace} describe deployment,pod -l {labels.FARM}={self.farm}"
                )
            stop.wait(LOOK_EVERY_S)

    def _obstacle(self, deployment: Object) -> str:
        """Return why the new pod does not run, in Kubernetes' words; empty where it says nothing."""
        for condition in (deployment.get("status") or {}).get("conditions") or []:
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                return f"{condition.get('reason')}: {condition.get('message')}"
        ours = {**labels.of_farm(self.farm), **deployment["spec"]["selector"]["matchLabels"]}
        pods = [Pod.read(item) for item in self.cluster.list(kinds.POD, ours)]
        troubled = (pod for pod in pods if pod.trouble and not pod.deleting)
        return next((f"{pod.trouble}: pod {pod.name}{f': {pod.why}' if pod.why else ''}" for pod in troubled), "")

    def commands(self) -> Sequence[Sequence[str]]:
        """Return what does the same by hand."""
        path = self.config or Path("cluster.yaml")
        where = ["kubectl", "-n", self.cluster.namespace]
        return [
            ["kubectl", "apply", "-k", "deploy"],
            [*where, "create", "configmap", self.name, f"--from-file=cluster.yaml={path}"],
            [*where, "rollout", "status", f"deployment/{self.name}"],
        ]


def _mark(live: Object | None) -> str:
    return str(((live or {"metadata": {}})["metadata"].get("annotations") or {}).get(MADE, ""))


def _is_available(deployment: Object) -> bool:
    status = deployment.get("status") or {}
    current = int(status.get("observedGeneration") or 0) >= int(deployment["metadata"]["generation"])
    return (
        current and int(status.get("updatedReplicas") or 0) >= 1 and not int(status.get("unavailableReplicas") or 0)
    )
