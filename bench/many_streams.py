#!/usr/bin/env python3
"""200 streams on a real control plane: how long they take to go up, to be changed, to be upgraded, to go down.

    .venv/bin/python bench/many_streams.py
    .venv/bin/python bench/many_streams.py --streams 40 --nodes 5 --keda-qps 20

The scripts are run as an operator runs them, without image builds, with the streams as names in cluster.yaml.
Nodes and pods are simulated (tests/cluster/nodes.py): a pod is Ready --start seconds after it was bound, and
gone --end seconds after it was deleted. API server, scheduler, KEDA, Prometheus and the scaler, which the first
script starts here, are real. Requests are counted by the API server's audit log; those of the balancer, which
runs meanwhile, are among them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "cluster")]

import binaries
from control_plane import Cluster
from deployed import account
from driven_exporter import GpuExporter
from life import SECRET, Checkout
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace, Secret
from nodes import Kubelets
from servers import PrometheusServer
from watching import unready_streams

from posture.settings.flags import at_least_0, whole

NAMESPACE = "posture-farm"
OPERATOR = "posture-operator"
SCRIPT_S = 3600.0
POLLING = "pollingInterval: 10"
"""As the template has it."""


class Bench:
    """The farm, and what its scripts take."""

    def __init__(self, flags: argparse.Namespace, folder: Path) -> None:
        self.flags = flags
        self.folder = folder
        self.streams = [f"hall-{number}" for number in range(1, flags.streams + 1)]
        self.nodes = [f"node-{number}" for number in range(1, flags.nodes + 1)]
        self.cluster = Cluster(binaries.ensure(), folder)
        keda = self.cluster.keda
        keda.command = [part for part in keda.command if not part.startswith("--kube-api-")]
        keda.command += [f"--kube-api-qps={flags.keda_qps}", f"--kube-api-burst={flags.keda_qps * 3 // 2}"]
        self.exporter = GpuExporter()
        self.prometheus = PrometheusServer(folder / "prometheus", self.exporter.targets(*self.nodes))

    def run(self) -> None:
        """Bring the streams up, change them, upgrade them, and take them down; print what each took."""
        kubelets: Kubelets | None = None
        checkout: Checkout | None = None
        try:
            self.cluster.start()
            for name in self.nodes:
                self.exporter.set(name, 20)
            self.prometheus.start()
            kubelets = Kubelets(self.cluster.kubeconfig, self.folder)
            for name in self.nodes:
                node = kubelets.add(name, cpu="16", memory="32Gi")
                node.start_delay_s, node.termination_delay_s = self.flags.start, self.flags.end
            checkout = self._checkout()
            up = ("build_and_push.py", "--skip-build")
            self._measure(checkout, "up", *up)
            checkout.settings["analyzer"] = {"pictures": "skeleton"}
            checkout.write_settings()
            self._measure(checkout, "changed", *up)
            self._measure(checkout, "upgraded", *up, "--tag", "v2")
            self._measure(checkout, "nothing to do", *up, "--tag", "v2")
            self._measure(checkout, "down", "stop.py", "--delete-scaledjobs")
        finally:
            if checkout is not None:
                checkout.close()
            if kubelets is not None:
                kubelets.stop()
            self.cluster.stop()
            self.prometheus.stop()
            self.exporter.close()

    def _checkout(self) -> Checkout:
        self.cluster.client.create(Namespace(metadata=ObjectMeta(name=NAMESPACE)))
        secret = Secret(metadata=ObjectMeta(name="posture-farm", namespace=NAMESPACE), stringData=SECRET)
        self.cluster.client.create(secret)
        checkout = Checkout(self.folder / "farm", self.cluster, NAMESPACE, self.nodes, self.prometheus)
        checkout.settings["streams"] = self.streams
        checkout.settings["kubernetes"] |= {"start_timeout_s": 900, "stop_timeout_s": 600, "timeout_s": 60}
        checkout.write_settings()
        for path in checkout.manifests():
            path.write_text(path.read_text().replace("pollingInterval: 1\n", f"{POLLING}\n"))
        checkout.environ["KUBECONFIG"] = str(account(self.cluster, NAMESPACE, OPERATOR))
        return checkout

    def _measure(self, checkout: Checkout, what: str, script: str, *flags: str) -> None:
        audit_from, began = self.cluster.api_server.audit.stat().st_size, time.monotonic()
        with unready_streams(self.cluster, NAMESPACE) as away:
            running = checkout.start(script, *flags)
            running.close_stdin()
            status = running.wait(SCRIPT_S)
        took_s = time.monotonic() - began
        (self.folder / f"{what}.txt").write_text(running.said)
        assert status == 0, running.said
        requests = self._requests(audit_from)
        told = ", ".join(f"{count} {verb} {resource}" for (verb, resource), count in requests.most_common(6))
        most = max(map(len, away), default=0)
        print(
            f"{what}: {took_s:.0f} s, at most {most} streams away at once, {len(running.said.splitlines())} lines, "
            f"{requests.total()} requests: {told}",
            flush=True,
        )

    def _requests(self, audit_from: int) -> Counter[tuple[str, str]]:
        with self.cluster.api_server.audit.open() as log:
            log.seek(audit_from)
            events = [json.loads(line) for line in log if line.endswith("\n")]
        user = f"system:serviceaccount:{NAMESPACE}:{OPERATOR}"
        ours = [event for event in events if event["user"]["username"] == user]
        return Counter((event["verb"], event.get("objectRef", {}).get("resource", "?")) for event in ours)


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description="Measure the scripts with many streams on a real control plane.")
    parser.add_argument("--streams", type=whole, default=200)
    parser.add_argument("--nodes", type=whole, default=25)
    parser.add_argument("--start", type=at_least_0, default=5, help="a pod's start takes so long (5 s)")
    parser.add_argument("--end", type=at_least_0, default=2, help="a pod's end takes so long (2 s)")
    parser.add_argument(
        "--keda-qps", type=whole, default=100, help="KEDA's requests a second (100; it ships with 20)"
    )
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="posture-bench-") as folder:
        Bench(flags, Path(folder)).run()


if __name__ == "__main__":
    main()
