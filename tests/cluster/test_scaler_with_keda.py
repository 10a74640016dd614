"""cpu_monitor_and_offload.py as KEDA sees it: fifty streams on a real control plane, plaintext and mutual TLS."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from control_plane import Cluster, ScaledJob
from driven_exporter import GpuExporter, gpu_queries
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod
from nodes import Kubelets
from scaled_jobs import is_finished, is_ready, labels_of_jobs, scaled_job
from scaler_process import Certificates, ScalerProcess
from servers import PrometheusServer
from watching import wait_for

JOB_NAME = "batch.kubernetes.io/job-name"
NODES = ("a", "b", "c", "d")
STREAMS = tuple(f"pi{number}" for number in range(1, 51))
POLLING_S = 3
STABILIZE_S = 8.0
REFRESH_S = 0.5
SCRAPE_S = 0.5


class FiftyStreams:
    """Fifty streams that run, one Job each, and what KEDA and the scaler know of them."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        kubelets: Kubelets,
        scaler: ScalerProcess,
        prometheus: PrometheusServer,
        exporter: GpuExporter,
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.kubelets = kubelets
        self.scaler = scaler
        self.prometheus = prometheus
        self.since = 0
        """The place in KEDA's log where the streams began."""
        self._exporter = exporter

    def use(self, percent: float) -> None:
        """Set every node's usage, and wait until Prometheus has it."""
        for node in NODES:
            self._exporter.set(node, percent)
        self._exporter.wait_for_scrapes(NODES[-1])

    def until_all_run(self) -> dict[str, str]:
        """Wait until every stream has one unfinished Job with a Ready pod; return the Jobs' uid by name."""
        self.cluster.until(Pod, self.namespace, lambda pods: sum(map(is_ready, pods)) == len(STREAMS))
        return self.running_jobs()

    def running_jobs(self) -> dict[str, str]:
        jobs = self.cluster.client.list(Job, namespace=self.namespace)
        return {
            job.metadata.name: job.metadata.uid
            for job in jobs
            if not is_finished(job) and job.metadata.deletionTimestamp is None
        }

    def until_active_is(self, status: str) -> None:
        """Wait until KEDA shows all streams as Active or not: "True" or "False"."""
        self.cluster.until(ScaledJob, self.namespace, lambda found: set(map(active, found)) == {status})

    def end_the_job_of(self, stream: str) -> str:
        """Let the stream's program fail for good, and return the name of its Job, which is over then."""
        labels = labels_of_jobs(stream)
        (job,) = (one for one in self.jobs_of(stream) if not is_finished(one))
        job_over = {"spec": {"backoffLimit": 0}}
        self.cluster.client.patch(Job, job.metadata.name, job_over, namespace=self.namespace)
        (pod,) = self.cluster.client.list(Pod, namespace=self.namespace, labels=labels)
        self.kubelets.end_pod(self.namespace, pod.metadata.name, 1)
        return str(job.metadata.name)

    def jobs_of(self, stream: str) -> list[Any]:
        return list(self.cluster.client.list(Job, namespace=self.namespace, labels=labels_of_jobs(stream)))

    def until_restarted(self, stream: str, ended: str) -> None:
        """Wait until the stream runs again, in another Job than the one that has ended."""

        def runs_anew(pods: list[Any]) -> bool:
            # the old pod may still be shown as Ready
            return any(is_ready(pod) and pod.metadata.labels[JOB_NAME] != ended for pod in pods)

        self.cluster.until(Pod, self.namespace, runs_anew, labels_of_jobs(stream))
        (job,) = (one for one in self.jobs_of(stream) if not is_finished(one))
        assert job.metadata.name != ended

    def polls(self) -> float:
        """How often KEDA has asked the scaler for Active, for all streams together."""
        return self.scaler.figures().get('posture_scaler_rpc_seconds_count{method="IsActive"}', 0)


def active(scaled_job: Any) -> str:
    conditions = (scaled_job.get("status") or {}).get("conditions") or []
    return next((str(condition["status"]) for condition in conditions if condition["type"] == "Active"), "Unknown")


@pytest.fixture(scope="module", params=["plaintext", "mutual TLS"])
def streams(
    running_cluster: Cluster,
    kubelets: Kubelets,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[FiftyStreams]:
    """The farm, started once for the tests of this module, and once more with mutual TLS."""
    running_cluster.start()
    folder = tmp_path_factory.mktemp("scaler")
    exporter = GpuExporter()
    prometheus = PrometheusServer(folder / "prometheus", exporter.targets(*NODES), scrape_interval_s=SCRAPE_S)
    certificates = Certificates(folder / "tls") if request.param == "mutual TLS" else None
    scaler = ScalerProcess(
        folder / "scaler", gpu_queries(*NODES), prometheus.url, "--no-balancer", *tls_flags(certificates),
        prometheus={"scrape_interval_s": SCRAPE_S}, scaler={"refresh_s": REFRESH_S, "stabilize_s": STABILIZE_S},
    )  # fmt: skip
    try:
        prometheus.start()
        with running_cluster.fresh_namespace() as namespace:
            made = FiftyStreams(running_cluster, namespace, kubelets, scaler, prometheus, exporter)
            made.use(20)
            scaler.start()
            for node in NODES:
                kubelets.add(node)
            made.since = running_cluster.keda.log_size()
            start_streams(made, certificates)
            made.until_all_run()
            yield made
    finally:
        kubelets.remove_all()
        scaler.stop()
        prometheus.stop()
        exporter.close()


def tls_flags(certificates: Certificates | None) -> Sequence[str]:
    if certificates is None:
        return ()
    cert, key = certificates.issue("scaler")
    return "--tls-cert", str(cert), "--tls-key", str(key), "--client-ca", str(certificates.ca)


def start_streams(farm: FiftyStreams, certificates: Certificates | None) -> None:
    """Create the ScaledJobs; with certificates KEDA gets one of its own by a TriggerAuthentication."""
    authentication = None
    if certificates is not None:
        authentication = "posture-scaler-tls"
        farm.cluster.create(farm.namespace, *keda_certificate(authentication, certificates))
    for number, stream in enumerate(STREAMS):
        node = NODES[number % len(NODES)]
        manifest = scaled_job(stream, node, farm.scaler.address, POLLING_S)
        if authentication is not None:
            (trigger,) = manifest["spec"]["triggers"]
            trigger["metadata"]["enableTLS"] = "true"
            trigger["authenticationRef"] = {"name": authentication}
        farm.cluster.create(farm.namespace, manifest)


def keda_certificate(name: str, certificates: Certificates) -> tuple[dict[str, Any], dict[str, Any]]:
    cert, key = certificates.issue("keda", of="keda-operator")
    data = {"caCert": certificates.ca, "tlsClientCert": cert, "tlsClientKey": key}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "data": {part: base64.b64encode(path.read_bytes()).decode() for part, path in data.items()},
    }
    references = [{"parameter": part, "name": name, "key": part} for part in data]
    authentication = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": {"name": name},
        "spec": {"secretTargetRef": references},
    }
    return secret, authentication


def test_each_of_fifty_streams_runs_in_one_job_and_keda_logs_no_error(streams: FiftyStreams) -> None:
    streams.until_active_is("True")
    jobs = streams.running_jobs()
    asked = streams.polls()
    wait_for(lambda: streams.polls() >= asked + 2 * len(STREAMS))
    assert len(jobs) == len(STREAMS)
    assert streams.running_jobs() == jobs
    assert streams.cluster.keda.errors(streams.since, streams.namespace) == []


def test_a_job_that_dies_while_active_comes_back(streams: FiftyStreams) -> None:
    before = streams.until_all_run()
    ended = streams.end_the_job_of("pi7")
    streams.until_restarted("pi7", ended)
    after = streams.running_jobs()
    assert len(after) == len(STREAMS)
    assert before.items() - after.items() == {(ended, before[ended])}


def test_when_all_nodes_are_overloaded_active_holds_for_the_window_and_no_running_job_is_deleted(
    streams: FiftyStreams,
) -> None:
    before = streams.until_all_run()
    streams.until_active_is("True")
    # of a reading with room, which is not the last one for certain
    seen_at = time.monotonic() - streams.scaler.figures()["posture_scaler_snapshot_age_seconds"]
    streams.use(90)
    streams.cluster.until(ScaledJob, streams.namespace, lambda found: "False" in map(active, found))
    assert time.monotonic() - seen_at > STABILIZE_S
    streams.until_active_is("False")
    assert streams.running_jobs() == before

    streams.use(20)
    streams.until_active_is("True")
    assert streams.running_jobs() == before


def test_keda_goes_on_by_itself_after_the_scaler_was_killed_and_no_job_is_lost_or_doubled(
    streams: FiftyStreams,
) -> None:
    before = streams.until_all_run()
    since = streams.cluster.keda.log_size()
    streams.scaler.kill()
    ended = streams.end_the_job_of("pi3")
    wait_for(lambda: any("Unavailable" in str(line) for line in streams.cluster.keda.errors(since)))
    assert before.items() - streams.running_jobs().items() <= {(ended, before[ended])}

    streams.scaler.start()
    streams.until_restarted("pi3", ended)
    after = streams.until_all_run()
    assert len(after) == len(STREAMS)
    assert before.items() - after.items() == {(ended, before[ended])}


def test_prometheus_gone_for_longer_than_the_window_changes_nothing(streams: FiftyStreams) -> None:
    before = streams.until_all_run()
    streams.until_active_is("True")
    streams.prometheus.kill()
    gone = time.monotonic()
    asked = streams.polls()
    wait_for(lambda: time.monotonic() - gone > STABILIZE_S + POLLING_S and streams.polls() >= asked + len(STREAMS))
    streams.until_active_is("True")
    assert streams.running_jobs() == before
    ended = streams.end_the_job_of("pi5")
    streams.until_restarted("pi5", ended)
    streams.prometheus.start()
