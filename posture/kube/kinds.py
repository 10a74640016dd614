"""The kinds of objects that the farm reads and writes, and where the API has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of object and where the API has it."""

    name: str
    api: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str, name: str = "") -> str:
        """Return the path of one object, or of all of them without a name."""
        root = f"/api/{self.api}" if "/" not in self.api else f"/apis/{self.api}"
        place = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{root}{place}/{self.plural}" + (f"/{name}" if name else "")

    def __str__(self) -> str:
        group = self.api.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural


SCALED_JOB = Kind("ScaledJob", "keda.sh/v1alpha1", "scaledjobs")
JOB = Kind("Job", "batch/v1", "jobs")
POD = Kind("Pod", "v1", "pods")
NODE = Kind("Node", "v1", "nodes", namespaced=False)
EVENT = Kind("Event", "v1", "events")
LEASE = Kind("Lease", "coordination.k8s.io/v1", "leases")
DEPLOYMENT = Kind("Deployment", "apps/v1", "deployments")
DAEMON_SET = Kind("DaemonSet", "apps/v1", "daemonsets")
STATEFUL_SET = Kind("StatefulSet", "apps/v1", "statefulsets")
SECRET = Kind("Secret", "v1", "secrets")
NAMESPACE = Kind("Namespace", "v1", "namespaces", namespaced=False)
