#!/usr/bin/env python3
"""A large farm on a real control plane with KEDA: what scaler and balancer need, and how far KEDA keeps up.

    .venv/bin/python bench/farm.py                    # 300 nodes, 1,000 streams
    .venv/bin/python bench/farm.py --nodes 30 --streams 100 --seconds 60

Nodes and pods are simulated (tests/cluster/nodes.py); API server, scheduler, KEDA, Prometheus, scaler and balancer
are real. Scaler and balancer act under a service account of their own, so that the API server's audit log counts
their requests. Figures are of the time after all streams run: --seconds of it with KEDA's API rate raised
(--kube-api-qps=200), then as long with KEDA started again as it is shipped (20 requests a second).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "cluster")]

import binaries
import httpx2
import requests
import yaml
from control_plane import Cluster
from driven_exporter import GpuExporter, gpu_queries
from lightkube import Client, KubeConfig
from lightkube.codecs import from_dict
from lightkube.resources.core_v1 import Pod
from nodes import Kubelets
from processes import children_of, cpu_seconds, resident_kib
from scaled_jobs import is_ready, scaled_job
from servers import PrometheusServer, die_with_parent, free_port
from watching import wait_for

from posture.settings.flags import positive, whole

NAMESPACE = "posture-farm"
SCRAPE_S = 5.0
UP_S = 3600.0
SHIPPED_S = 600.0
"""For KEDA at the rate with which it is shipped, which may be too low for it ever to ask about all streams."""
PATIENCE_S = 120.0
"""For one request: the first minutes are crowded."""


class Bench:
    """The farm, and what is measured of it."""

    def __init__(self, flags: argparse.Namespace, folder: Path) -> None:
        self.flags = flags
        self.folder = folder
        self.names = [f"node-{number}" for number in range(1, flags.nodes + 1)]
        self.cluster = Cluster(binaries.ensure(), folder)
        # what is measured is the farm, not how fast a thousand Jobs are made
        for component in (self.cluster.controller_manager, self.cluster.scheduler):
            component.command += ["--kube-api-qps=300", "--kube-api-burst=400"]
        # their heartbeats are simulated too, and late where the machine is small
        self.cluster.controller_manager.command += ["--node-monitor-period=60s", "--node-monitor-grace-period=2h"]
        self.exporter = GpuExporter()
        self.prometheus = PrometheusServer(
            folder / "prometheus", self.exporter.targets(*self.names), scrape_interval_s=SCRAPE_S
        )
        self.port, self.metrics_port = free_port(), free_port()
        self.log = folder / "scaler.log"
        self.scaler: subprocess.Popen[bytes] | None = None
        self.kubelets: Kubelets | None = None

    def run(self) -> None:
        """Bring it up, measure, print."""
        try:
            self._up()
            say("KEDA's API rate raised to 200 requests a second:")
            self._measure()
            self._ship_keda()
            say("KEDA's API rate as shipped, 20 requests a second:")
            self._measure()
        finally:
            if self.scaler is not None and self.scaler.poll() is None:
                self.scaler.terminate()
                self.scaler.wait(30)
            if self.kubelets is not None:
                self.kubelets.stop()
            self.cluster.stop()
            self.prometheus.stop()
            self.exporter.close()

    # up

    def _up(self) -> None:
        began = time.monotonic()
        self.cluster.start()
        for name in self.names:
            self.exporter.set(name, 30)
        self.prometheus.start()
        self.cluster.create(None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        config = KubeConfig.from_file(self.cluster.kubeconfig).get()
        self.client = Client(config, trust_env=False, timeout=httpx2.Timeout(PATIENCE_S))
        self.kubelets = Kubelets(self.cluster.kubeconfig, self.folder)
        for name in self.names:
            self.kubelets.add(name)
        kubeconfig = self._account()
        self._start_scaler(kubeconfig)
        for number in range(self.flags.streams):
            node = self.names[number % len(self.names)]
            manifest = scaled_job(f"pi{number + 1}", node, f"127.0.0.1:{self.port}", self.flags.polling)
            self.client.create(from_dict(manifest), namespace=NAMESPACE)
        say(f"{len(self.names)} nodes, {self.flags.streams} ScaledJobs made in {time.monotonic() - began:.0f} s")
        wait_for(self._all_run, UP_S, look_s=5)
        say(f"all streams run {time.monotonic() - began:.0f} s after the beginning")

    def _all_run(self) -> bool:
        ready = sum(map(is_ready, self.client.list(Pod, namespace=NAMESPACE)))
        say(f"  {ready} of {self.flags.streams} streams run")
        return ready == self.flags.streams

    def _account(self) -> Path:
        """The rights of deploy/base/rbac-scaler.yaml, under which requests are counted."""
        rules: dict[str, list[Mapping[str, Any]]] = {"Role": [], "ClusterRole": []}
        for item in yaml.safe_load_all((ROOT / "deploy" / "base" / "rbac-scaler.yaml").read_text()):
            if item and item["kind"] in rules:
                rules[item["kind"]] += item["rules"]
        return self.cluster.role(NAMESPACE, "scaler", rules["Role"], rules["ClusterRole"])

    def _start_scaler(self, kubeconfig: Path) -> None:
        queries = gpu_queries(*self.names)
        settings = {
            "GPU_QUERIES": {
                name: {"instance": one.instance, "metric": one.metric} for name, one in queries.items()
            },
            "prometheus": {"url": self.prometheus.url, "scrape_interval_s": SCRAPE_S},
            "kubernetes": {"namespace": NAMESPACE},
            "balancer": {"last_node_file": str(self.folder / "last_node.txt")},
            "scaler": {"listen": f"127.0.0.1:{self.port}", "metrics_port": self.metrics_port},
        }
        config = self.folder / "cluster.yaml"
        config.write_text(yaml.safe_dump(settings))
        with self.log.open("wb") as log:
            self.scaler = subprocess.Popen(
                [sys.executable, str(ROOT / "cpu_monitor_and_offload.py"), "--config", str(config)],
                env={**os.environ, "KUBECONFIG": str(kubeconfig)}, stdout=log, stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it only calls prctl
            )  # fmt: skip

    def _ship_keda(self) -> None:
        """Start KEDA again with its own API rate, and let it look at everything once, if it ever comes so far."""
        keda = self.cluster.keda
        keda.stop()
        keda.command = [part for part in keda.command if not part.startswith("--kube-api-")]
        began = time.monotonic()
        keda.start()
        asked, passed_s = 0, 0.0
        while asked < self.flags.streams and passed_s < SHIPPED_S:
            time.sleep(1)
            passed_s = time.monotonic() - began
            asked = sum(age < passed_s for age in self._ages())
        say(f"KEDA started again: {passed_s:.0f} s later {asked} of {self.flags.streams} streams were asked about")

    # measured

    def _measure(self) -> None:
        assert self.scaler is not None
        pids = {"scaler": self.scaler.pid, "balancer": self._balancer()}
        self._await_loops(1)
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        audit_from = self.cluster.api_server.audit.stat().st_size
        loops_before, began = self._loops(), time.monotonic()
        ages: list[float] = []
        while time.monotonic() - began < self.flags.seconds:
            time.sleep(1)
            ages += self._ages()
        self._await_loops(1)
        took_s, loops = time.monotonic() - began, self._loops() - loops_before
        for name, pid in pids.items():
            share = 100 * (cpu_seconds(pid) - before[name]) / took_s
            say(f"{name}: {share:.1f} % of a core, {resident_kib(pid) * 1.024e-3:.0f} MB")
        self._report_requests(audit_from, loops)
        say(f"KEDA asks about each stream every {2 * median(ages):.1f} s (median; wanted {self.flags.polling} s), "
            f"the longest silence was {max(ages):.0f} s")  # fmt: skip

    def _report_requests(self, audit_from: int, loops: int) -> None:
        with self.cluster.api_server.audit.open() as log:
            log.seek(audit_from)
            events = [json.loads(line) for line in log if line.endswith("\n")]
        user = f"system:serviceaccount:{NAMESPACE}:scaler"
        ours = [event for event in events if event["user"]["username"] == user]
        kinds = Counter((event["verb"], event.get("objectRef", {}).get("resource", "?")) for event in ours)
        told = ", ".join(f"{count / loops:.1f} {verb} {what}" for (verb, what), count in kinds.most_common())
        say(f"requests of a balancer's loop ({loops} loops): {len(ours) / loops:.1f}: {told}")
        reading = [seconds_of(event) for event in ours if event["verb"] == "list"]
        say(f"the API server takes {sum(reading) / loops:.2f} s of a loop for its lists")
        times = [line for line in self._lines() if " overloaded; " in line]
        say(f"one loop: {self._loop_time(times):.1f} s, of which window and pause are 60 s by settings")

    def _loop_time(self, lines: list[str]) -> float:
        stamps = [time.mktime(time.strptime(line[:20], "%Y-%m-%dT%H:%M:%SZ")) for line in lines[-5:]]
        return (stamps[-1] - stamps[0]) / (len(stamps) - 1)

    def _lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()

    def _loops(self) -> int:
        return sum(" overloaded; " in line for line in self._lines())

    def _await_loops(self, count: int) -> None:
        wanted = self._loops() + count
        wait_for(lambda: self._loops() >= wanted, 900, look_s=0.2)

    def _balancer(self) -> int:
        assert self.scaler is not None
        children = children_of(self.scaler.pid)
        return next(pid for pid in children if "gpu_balancer" in Path(f"/proc/{pid}/cmdline").read_text())

    def _ages(self) -> list[float]:
        """For each ScaledJob, how long ago KEDA last asked about it."""
        page = requests.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10).text
        return [
            float(value) for value in re.findall(r"^posture_scaler_scaledjob_age_seconds{.*} (\S+)$", page, re.M)
        ]


def seconds_of(event: Mapping[str, Any]) -> float:
    """How long the API server took for a request."""
    received, done = (event[key].replace("Z", "+00:00") for key in ("requestReceivedTimestamp", "stageTimestamp"))
    return (parsed(done) - parsed(received)).total_seconds()


def parsed(stamp: str) -> Any:
    """A time of the audit log."""
    from datetime import datetime  # noqa: PLC0415

    return datetime.fromisoformat(stamp)


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description="Measure a large farm on a real control plane.")
    parser.add_argument("--nodes", type=whole, default=300)
    parser.add_argument("--streams", type=whole, default=1000)
    parser.add_argument("--polling", type=whole, default=10, help="pollingInterval of each ScaledJob (10 s)")
    parser.add_argument("--seconds", type=positive, default=240, help="how long is measured (240 s)")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="posture-bench-") as folder:
        Bench(flags, Path(folder)).run()


if __name__ == "__main__":
    main()
