"""Fixtures: a real control plane with a real KEDA, one for each worker. README.md says how to use it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import binaries
import pytest
import yaml
from balancing import Farm, Usage, running_usage
from control_plane import Cluster, is_established
from go_module import folder_of
from kubectl import KINDS_OF_OTHERS, Kubectl
from lightkube.codecs import from_dict
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.core_v1 import ConfigMap, Namespace
from nodes import Kubelets
from stack_objects import DEPLOY
from stub_scaler import StubScaler

HERE = Path(__file__).resolve().parent
GROUPS = {
    "balancer": (
        *("balancer_on_cluster", "drift", "failover", "move", "refused_changes", "shared_nodes"),
        *("streams_that_do_not_run", "without_api_server"),
    ),
    "stack": ("admission_policy", "deploy", "prometheus_by_the_api_server", "rbac", "setup_farm", "stack"),
}
"""Files that one worker takes; all others are a third one's."""
GROUP_OF = {f"test_{name}.py": group for group, names in GROUPS.items() for name in names}


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests go to three workers, each with a control plane."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(f"cluster-{GROUP_OF.get(item.path.name, 'farm')}"))


@pytest.fixture(scope="package")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The control plane, started once a worker, for as long as it has such tests. Tests take ``cluster``."""
    try:
        programs = binaries.ensure()
    except binaries.BinariesMissingError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    plane = Cluster(programs, tmp_path_factory.mktemp("cluster"))
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    """The control plane, all of it running whatever the test before has stopped."""
    running_cluster.start()
    return running_cluster


@pytest.fixture(scope="package")
def kubelets(running_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelets]:
    """The thread that simulates nodes. Tests take ``nodes``."""
    simulated = Kubelets(running_cluster.kubeconfig, tmp_path_factory.mktemp("pods"))
    yield simulated
    simulated.stop()


@pytest.fixture
def nodes(cluster: Cluster, kubelets: Kubelets) -> Iterator[Kubelets]:
    """No nodes yet: ``nodes.add(name)`` adds one. They and their pods go with the test."""
    yield kubelets
    cluster.start()
    kubelets.remove_all()


@pytest.fixture
def namespace(nodes: Kubelets, cluster: Cluster) -> Iterator[str]:
    """A namespace of this test's own. Its ScaledJobs are gone when the next test starts."""
    with cluster.fresh_namespace() as name:
        yield name


@pytest.fixture
def stub_scaler() -> Iterator[StubScaler]:
    """An External Scaler that says what the test sets."""
    scaler = StubScaler()
    scaler.start()
    yield scaler
    scaler.stop()


@pytest.fixture(scope="package")
def usage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Usage]:
    """A real Prometheus with a fake exporter, whose nodes a test takes by ``farm.add_nodes``."""
    yield from running_usage(tmp_path_factory.mktemp("prometheus"))


@pytest.fixture
def farm(
    cluster: Cluster, namespace: str, nodes: Kubelets, stub_scaler: StubScaler, usage: Usage, tmp_path: Path
) -> Iterator[Farm]:
    """A farm of this test's own, for tests of gpu_balancer.py; balancing.py says what it can do."""
    farm = Farm(cluster, namespace, nodes, stub_scaler, usage, tmp_path)
    yield farm
    farm.close()


@pytest.fixture(scope="module")
def kubectl(running_cluster: Cluster) -> Iterator[Kubectl]:
    """On a cluster that has the kinds of K3s' Helm controller and Prometheus' operator; KEDA's are there, too."""
    running_cluster.start()
    found = []
    for file, (module, version, folder) in KINDS_OF_OTHERS.items():
        crd = from_dict(yaml.safe_load((folder_of(module, version) / folder / file).read_text()))
        running_cluster.client.create(crd)
        found.append(crd.metadata.name)
    running_cluster.until(CustomResourceDefinition, None, lambda crds: all(map(is_established, crds)))
    yield Kubectl(running_cluster)
    for name in found:
        running_cluster.client.delete(CustomResourceDefinition, name)
    running_cluster.until(
        CustomResourceDefinition, None, lambda left: not {one.metadata.name for one in left} & set(found)
    )


@pytest.fixture(scope="module")
def stack(running_cluster: Cluster, kubectl: Kubectl) -> Iterator[str]:
    """What kubectl has said to deploy/stack; afterwards it is gone."""
    said = kubectl.run("apply", "-k", str(DEPLOY / "stack"))
    namespaces = {"posture-farm", "monitoring", "keda"}
    for name in namespaces:
        # a controller makes it in each, by and by
        running_cluster.until(
            ConfigMap, name, lambda made: "kube-root-ca.crt" in {one.metadata.name for one in made}
        )
    yield said
    kubectl.run("delete", "--wait=false", "-k", str(DEPLOY / "stack"))
    running_cluster.until(Namespace, None, lambda left: not namespaces & {one.metadata.name for one in left})
    running_cluster.create(None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "keda"}})
