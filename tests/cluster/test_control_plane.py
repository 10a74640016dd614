"""What the farm relies on, seen on the real control plane: placement, scaling, moves, and what a dead node does."""

from __future__ import annotations

from typing import Any

from control_plane import Cluster, ScaledJob
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod
from lightkube.types import CascadeType, PatchType
from nodes import Kubelets
from scaled_jobs import affinity, is_finished, labels_of_jobs, name_of, ready_on, scaled_job
from stub_scaler import StubScaler
from watching import wait_for

AFFINITY = "/spec/jobTargetRef/template/spec/affinity"


def start_stream(cluster: Cluster, namespace: str, scaler: StubScaler, stream: str, node: str) -> Any:
    """Create a stream's ScaledJob, wait until its pod is Ready on the node, and return its Job."""
    cluster.create(namespace, scaled_job(stream, node, scaler.address))
    cluster.until(Pod, namespace, ready_on(node), labels_of_jobs(stream))
    (job,) = cluster.client.list(Job, namespace=namespace, labels=labels_of_jobs(stream))
    return job


def patch_affinity(cluster: Cluster, namespace: str, stream: str, node: str) -> None:
    current = cluster.client.get(ScaledJob, name_of(stream), namespace=namespace)
    patch = [
        {"op": "test", "path": "/metadata/generation", "value": current.metadata.generation},
        {"op": "replace", "path": AFFINITY, "value": affinity(node)},
    ]
    cluster.client.patch(ScaledJob, name_of(stream), patch, namespace=namespace, patch_type=PatchType.JSON)


def delete_job(cluster: Cluster, namespace: str, job: Any, cascade: CascadeType) -> None:
    cluster.client.delete(Job, job.metadata.name, namespace=namespace, cascade=cascade)


def test_a_scaledjob_gets_one_job_and_its_pod_runs_on_the_node_of_its_affinity(
    cluster: Cluster, namespace: str, nodes: Kubelets, stub_scaler: StubScaler
) -> None:
    for name in ("agx", "orin", "nano"):
        nodes.add(name)
    for stream, node in (("pi1", "nano"), ("pi2", "agx"), ("pi3", "orin")):
        cluster.create(namespace, scaled_job(stream, node, stub_scaler.address))
    for stream, node in (("pi1", "nano"), ("pi2", "agx"), ("pi3", "orin")):
        cluster.until(Pod, namespace, ready_on(node), labels_of_jobs(stream))
    since = cluster.keda.log_size()
    stub_scaler.wait_for_polls(name_of("pi1"), 1)
    assert len(list(cluster.client.list(Job, namespace=namespace))) == 3
    assert cluster.keda.errors(since, namespace) == []


def test_keda_takes_up_a_new_scaledjob_once_and_without_an_error(
    cluster: Cluster, namespace: str, nodes: Kubelets, stub_scaler: StubScaler
) -> None:
    nodes.add("agx")
    since = cluster.keda.log_size()
    start_stream(cluster, namespace, stub_scaler, "pi1", "agx")
    stub_scaler.wait_for_polls(name_of("pi1"), 1)
    lines = cluster.keda.log_lines(since, namespace)
    assert [line["msg"] for line in lines].count("Reconciling ScaledJob") == 1
    assert cluster.keda.errors(since, namespace) == []


def test_the_label_of_pi1_does_not_select_the_job_of_pi1_1(
    cluster: Cluster, namespace: str, nodes: Kubelets, stub_scaler: StubScaler
) -> None:
    nodes.add("agx")
    longer = start_stream(cluster, namespace, stub_scaler, "pi1-1", "agx")
    shorter = start_stream(cluster, namespace, stub_scaler, "pi1", "agx")
    assert longer.metadata.name.startswith(name_of("pi1"))
    assert shorter.metadata.name != longer.metadata.name
    selected = cluster.client.list(Job, namespace=namespace, labels=labels_of_jobs("pi1"))
    assert [job.metadata.name for job in selected] == [shorter.metadata.name]


def test_keda_6440_an_edited_affinity_leaves_the_running_job_alone_under_gradual_rollout(
    cluster: Cluster, namespace: str, nodes: Kubelets, stub_scaler: StubScaler
) -> None:
    nodes.add("agx")
    nodes.add("nano")
    job = start_stream(cluster, namespace, stub_scaler, "pi1", "agx")
    patch_affinity(cluster, namespace, "pi1", "nano")
    stub_scaler.wait_for_polls(name_of("pi1"), 1)
    (now,) = cluster.client.list(Job, namespace=namespace)
    assert (now.metadata.uid, now.metadata.deletionTimestamp) == (job.metadata.uid, None)


def test_after_a_foreground_deletion_the_successor_starts_on_the_new_node_once_the_old_pod_is_gone(
    cluster: Cluster, namespace: str, nodes: Kubelets, stub_scaler: StubScaler
) -> None:
    nodes.add("agx").termination_delay_s = 1.5
    nodes.add("nano")
    job = start_stream(cluster, namespace, stub_scaler, "pi1", "agx")
    patch_affinity(cluster, namespace, "pi1", "nano")
    delete_job(cluster, namespace, job, CascadeType.FOREGROUND)
    seen = set()

    def moved(pods: Any) -> bool:
        seen.add(tuple(sorted(pod.spec.nodeName or "" for pod in pods)))
        return ready_on("nano")(pods)

    cluster.until(Pod, namespace, moved)
    assert not any("agx" in nodes_of and len(nodes_of) > 1 for nodes_of in seen), seen
    (successor,) = cluster.client.list(Job, namespace=namespace)
    assert successor.metadata.uid != job.metadata.uid


def test_the_generation_of_a_scaledjob_stands_still_while_keda_polls(
    cluster: Cluster, namespace: str, nodes: Kubelets, stub_scaler: StubScaler
) -> None:
    nodes.add("agx")
    start_stream(cluster, namespace, stub_scaler, "pi1", "agx")
    before = cluster.client.get(ScaledJob, name_of("pi1"), namespace=namespace)
    cluster.until(
        ScaledJob,
        namespace,
        lambda all_of_them: int(all_of_them[0].metadata.resourceVersion) > int(before.metadata.resourceVersion),
    )
    stub_scaler.wait_for_polls(name_of("pi1"), 1)
    after = cluster.client.get(ScaledJob, name_of("pi1"), namespace=namespace)
    assert after.metadata.generation == before.metadata.generation


def test_an_inactive_scaler_deletes_no_running_job_and_starts_none(
    cluster: Cluster, namespace: str, nodes: Kubelets, stub_scaler: StubScaler
) -> None:
    nodes.add("agx")
    job = start_stream(cluster, namespace, stub_scaler, "pi1", "agx")
    stub_scaler.active, stub_scaler.value = False, 0
    stub_scaler.wait_for_polls(name_of("pi1"), 1)
    (same,) = cluster.client.list(Job, namespace=namespace)
    assert (same.metadata.uid, same.metadata.deletionTimestamp) == (job.metadata.uid, None)

    (pod,) = cluster.client.list(Pod, namespace=namespace)
    nodes.end_pod(namespace, pod.metadata.name, 0)
    cluster.until(Job, namespace, lambda jobs: all(map(is_finished, jobs)))
    stub_scaler.wait_for_polls(name_of("pi1"), 1)
    assert all(map(is_finished, cluster.client.list(Job, namespace=namespace)))

    stub_scaler.active, stub_scaler.value = True, 300
    cluster.until(Job, namespace, lambda jobs: [is_finished(job) for job in jobs].count(False) == 1)


def test_a_dead_node_keeps_its_pod_until_the_job_is_deleted_with_background_propagation(
    cluster: Cluster, namespace: str, nodes: Kubelets, stub_scaler: StubScaler
) -> None:
    dead = nodes.add("agx")
    nodes.add("nano")
    job = start_stream(cluster, namespace, stub_scaler, "pi1", "agx")
    patch_affinity(cluster, namespace, "pi1", "nano")
    dead.die()
    delete_job(cluster, namespace, job, CascadeType.FOREGROUND)
    cluster.until(Pod, namespace, lambda pods: all(pod.metadata.deletionTimestamp for pod in pods))
    stub_scaler.wait_for_polls(name_of("pi1"), 1)
    (hanging,) = cluster.client.list(Job, namespace=namespace)
    assert hanging.metadata.uid == job.metadata.uid, "KEDA made a successor although the old Job hangs"

    delete_job(cluster, namespace, job, CascadeType.BACKGROUND)
    pods = cluster.until(
        Pod, namespace, lambda pods: ready_on("nano")([pod for pod in pods if not pod.metadata.deletionTimestamp])
    )
    assert sorted(pod.spec.nodeName for pod in pods) == ["agx", "nano"], "the dead node's pod is still Terminating"

    dead.revive()
    cluster.until(Pod, namespace, ready_on("nano"))


def test_keda_starts_nothing_for_a_stream_whose_secret_is_missing_until_it_is_there(
    cluster: Cluster, namespace: str, nodes: Kubelets, stub_scaler: StubScaler
) -> None:
    nodes.add("agx")
    manifest = scaled_job("pi1", "agx", stub_scaler.address)
    (container,) = manifest["spec"]["jobTargetRef"]["template"]["spec"]["containers"]
    container["env"] = [
        {"name": "POSTURE_MQTT_URL", "valueFrom": {"secretKeyRef": {"name": "posture-farm", "key": "url"}}}
    ]
    since = cluster.keda.log_size()
    cluster.create(namespace, manifest)
    wait_for(lambda: any("error resolving secret" in str(line) for line in cluster.keda.errors(since, namespace)))
    assert list(cluster.client.list(Job, namespace=namespace)) == []
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "posture-farm"}}
    cluster.create(namespace, {**secret, "stringData": {"url": "mqtt://broker.test"}})
    cluster.until(Pod, namespace, ready_on("agx"))


def test_keda_goes_on_by_itself_after_the_api_server_and_after_its_own_restart(
    cluster: Cluster, namespace: str, nodes: Kubelets, stub_scaler: StubScaler
) -> None:
    nodes.add("agx")
    job = start_stream(cluster, namespace, stub_scaler, "pi1", "agx")
    cluster.api_server.kill()
    cluster.api_server.start()
    cluster.keda.kill()
    cluster.keda.start()
    stub_scaler.wait_for_polls(name_of("pi1"), 1)
    (same,) = cluster.client.list(Job, namespace=namespace)
    assert same.metadata.uid == job.metadata.uid
    delete_job(cluster, namespace, job, CascadeType.FOREGROUND)
    cluster.until(Job, namespace, lambda jobs: [one.metadata.uid for one in jobs] not in ([], [job.metadata.uid]))
    cluster.until(Pod, namespace, ready_on("agx"))
