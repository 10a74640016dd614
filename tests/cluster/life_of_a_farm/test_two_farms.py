"""Two farms in one namespace: neither touches what is the other's, whatever it is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control_plane import Cluster, ScaledJob
from deployed import REVIEWS, account, granted
from life import NODES, Checkout, everything
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod
from scaled_jobs import is_ready, name_of
from servers import PrometheusServer
from stub_scaler import StubScaler

from posture.kube import errors, kinds, labels, ownership
from posture.kube.client import KubeClient, connect
from posture.manifests import files
from posture.settings.table import Kubernetes

UP = ("build_and_push.py", "--skip-build")


@pytest.fixture
def north(
    checkout: Checkout, tmp_path: Path, cluster: Cluster, namespace: str, usage: PrometheusServer
) -> Iterator[Checkout]:
    """A second farm, of another checkout, that could be brought up beside the first one."""
    made = Checkout(tmp_path / "north", cluster, namespace, NODES, usage, kubernetes={"farm": "north"})
    made.machines = checkout.machines
    yield made
    made.close()


def ready(cluster: Cluster, namespace: str, farm: str) -> set[str]:
    """The uids of a farm's Ready pods."""
    pods = cluster.client.list(Pod, namespace=namespace, labels={labels.FARM: farm})
    return {pod.metadata.uid for pod in pods if is_ready(pod)}


def of_farm(cluster: Cluster, farm: str) -> dict[str, Any]:
    """All objects that carry a farm's label, as somebody has decided them; a Lease is its holder's own."""
    own = {labels.FARM: farm}.items()
    return {
        path: item
        for path, item in everything(cluster).items()
        if own <= item["metadata"].get("labels", {}).items() and "/leases/" not in path
    }


def test_each_farm_is_brought_up_stopped_and_deleted_beside_the_other(
    checkout: Checkout, north: Checkout, cluster: Cluster, namespace: str
) -> None:
    for one in (checkout, north):
        # no balancer comes to the end of a window, where it writes notes
        one.settings["balancer"] = {"window_s": 600}
        one.write_settings()
    operator = str(account(cluster, namespace, "posture-operator"))
    checkout.environ["KUBECONFIG"] = north.environ["KUBECONFIG"] = operator
    first = checkout.start(*UP)
    first.until_it_says("press ENTER")
    ours, pods = of_farm(cluster, "default"), ready(cluster, namespace, "default")
    second = north.start(*UP)
    second.until_it_says("press ENTER")
    assert "warning: stream pi1 is farm default's, too, at the same broker" in second.said
    assert of_farm(cluster, "default") == ours
    assert ready(cluster, namespace, "default") == pods
    theirs, their_pods = of_farm(cluster, "north"), ready(cluster, namespace, "north")
    assert len(their_pods) == 2

    first.press_enter()
    assert first.wait() == 0, first.said
    assert not ready(cluster, namespace, "default")
    assert of_farm(cluster, "north") == theirs
    assert ready(cluster, namespace, "north") == their_pods

    checkout.run("stop.py", "--delete-scaledjobs", "--clean")
    assert ready(cluster, namespace, "north") == their_pods
    second.press_enter()
    assert second.wait() == 0, second.said
    north.run("stop.py", "--delete-scaledjobs", "--clean")
    assert not list(cluster.client.list(ScaledJob, namespace=namespace))
    assert cluster.asked_by(namespace, "posture-operator") - {REVIEWS} <= granted("posture-operator")


def test_a_name_that_is_another_farms_is_a_finding_that_names_the_owner_and_is_left_alone(
    checkout: Checkout, north: Checkout, cluster: Cluster, namespace: str
) -> None:
    (manifest, _) = files.load(sorted(north.folder.glob("posture-job-*.yaml")))
    manifest.set_owner(namespace, "default")
    body = manifest.data()
    body["metadata"]["name"] = ownership.named_for(name_of("pi1"), "north")
    cluster.create(namespace, body)
    # KEDA adds its finalizer by and by
    cluster.until(ScaledJob, namespace, lambda made: all(one.metadata.finalizers for one in made))
    before = everything(cluster)
    for flags in (("--dry-run",), ()):
        said = north.run(*UP, *flags, status=2)
        assert (
            f"error: scaledjob {body['metadata']['name']} in namespace {namespace} is farm default's, not" in said
        )
    assert everything(cluster) == before


def test_two_farms_have_each_a_scaler_in_the_cluster(
    checkout: Checkout, north: Checkout, cluster: Cluster, namespace: str, stub_scaler: StubScaler
) -> None:
    stub_scaler.active, stub_scaler.value = True, 1
    flags = ("--in-cluster", "--no-wait", "--scaler-address", stub_scaler.address)
    for one in (checkout, north):
        one.call_prometheus_by_another_name()
    checkout.run(*UP, *flags)
    cluster.until(Pod, namespace, lambda pods: sum(map(is_ready, pods)) == 3)
    ours = of_farm(cluster, "default")
    north.run(*UP, *flags)
    assert of_farm(cluster, "default") == ours
    kubeconfig = cluster.kubeconfig_of(namespace, "posture-scaler-north")
    assert len(list(cluster.client_for(kubeconfig).list(ScaledJob, namespace=namespace))) == 4
    north.run("stop.py", "--delete-scaledjobs", "--clean")
    assert of_farm(cluster, "default") == ours
    cluster.until(Job, namespace, lambda jobs: len(jobs) == 2)


# in the request itself


@pytest.fixture
def client(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeClient]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with connect(Kubernetes(namespace=namespace, timeout_s=30)) as opened:
        yield opened


def config_map(farm: str, value: str) -> dict[str, Any]:
    metadata = {"name": "shared", "labels": {labels.FARM: farm}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"of": value}}


CONFIG_MAP = kinds.Kind("ConfigMap", "v1", "configmaps")


def test_what_another_farm_makes_between_looking_and_writing_is_not_written(client: KubeClient) -> None:
    assert ownership.find(client, CONFIG_MAP, "shared", "north") is None
    made = ownership.apply(client, CONFIG_MAP, config_map("default", "ours"), "default")
    with pytest.raises(errors.ConflictError):
        ownership.apply_to(client, CONFIG_MAP, config_map("north", "theirs"), None, "north")
    with pytest.raises(ownership.ForeignError, match=r"configmap shared .* is farm default's, not farm north's"):
        ownership.apply(client, CONFIG_MAP, config_map("north", "theirs"), "north")
    assert client.get(CONFIG_MAP, "shared") == made


@pytest.mark.parametrize("change", ["deleted and made anew", "given away"])
def test_what_became_another_farms_between_looking_and_writing_is_not_written(
    client: KubeClient, change: str
) -> None:
    ours = ownership.apply(client, CONFIG_MAP, config_map("north", "ours"), "north")
    if change == "given away":
        path = f"/metadata/labels/{labels.FARM.replace('/', '~1')}"
        client.patch(CONFIG_MAP, "shared", [{"op": "replace", "path": path, "value": "default"}])
    else:
        client.delete(CONFIG_MAP, "shared", propagation="Background")
        ownership.apply(client, CONFIG_MAP, config_map("default", "theirs"), "default")
    theirs = client.get(CONFIG_MAP, "shared")
    with pytest.raises(errors.ConflictError):
        ownership.apply_to(client, CONFIG_MAP, config_map("north", "ours again"), ours, "north")
    assert client.get(CONFIG_MAP, "shared") == theirs


def test_what_was_deleted_between_looking_and_writing_does_not_come_back(client: KubeClient) -> None:
    ours = ownership.apply(client, CONFIG_MAP, config_map("north", "ours"), "north")
    client.delete(CONFIG_MAP, "shared", propagation="Background")
    with pytest.raises(errors.KubeError):
        ownership.apply_to(client, CONFIG_MAP, config_map("north", "ours again"), ours, "north")
    assert ownership.find(client, CONFIG_MAP, "shared", "north") is None
