"""kubectl on the tests' control plane, and kinds that other programs bring to a real cluster."""

from __future__ import annotations

import subprocess

import node_services
from control_plane import Cluster

KINDS_OF_OTHERS = {
    "helm.cattle.io_helmcharts.yaml": ("github.com/k3s-io/helm-controller", "v0.17.9", "pkg/crds/yaml/generated"),
    **{
        f"monitoring.coreos.com_{name}.yaml": (
            *("github.com/prometheus-operator/prometheus-operator", "v0.85.0"),
            "example/prometheus-operator-crd",
        )
        for name in ("podmonitors", "prometheusrules")
    },
}
"""What K3s' Helm controller and Prometheus' operator bring: file -> module, version, folder."""


class Kubectl:
    """kubectl with the administrator's rights."""

    def __init__(self, cluster: Cluster) -> None:
        self._begin = [str(node_services.folder() / "kubectl"), f"--kubeconfig={cluster.kubeconfig}"]

    def run(self, *arguments: str) -> str:
        """Return what it prints; a warning is a failure, too."""
        done = subprocess.run([*self._begin, *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        # the namespace keda is there before, and any-kubernetes is another kind of apply
        warned = [line for line in done.stderr.splitlines() if "last-applied-configuration" not in line]
        assert warned == [], warned
        return done.stdout
