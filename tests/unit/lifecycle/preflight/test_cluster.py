"""What preflight says of nodes' machines; the rest of it: tests/scripts, tests/cluster."""

from __future__ import annotations

from posture.kube.objects import Node
from posture.lifecycle.preflight.cluster import check_platform, check_requests
from posture.lifecycle.preflight.findings import Finding, Intent, Survey
from posture.settings.table import GpuQuery, Images, Kubernetes, Settings


def found(machine: str, platforms: str) -> list[Finding]:
    node = Node.read({"metadata": {"name": "pi", "labels": {"gpu-node": "pi-3", "kubernetes.io/arch": machine}}})
    return list(check_platform(Settings(images=Images(platforms=platforms)), node))


def test_a_node_with_a_32_bit_system_is_out_and_no_image_is_asked_for() -> None:
    (finding,) = found("arm", "linux/amd64,linux/arm64")
    assert not finding.warning
    assert finding.what.startswith("node pi is linux/arm, for which mediapipe has no packages")
    assert "take pi-3 out of GPU_QUERIES" in finding.mend
    assert "--platforms" not in finding.mend


def test_a_node_that_no_image_is_built_for_needs_one_more_platform() -> None:
    (finding,) = found("arm64", "linux/amd64")
    assert finding.mend.startswith("python3 build_and_push.py --platforms linux/amd64,linux/arm64")


def test_one_that_an_image_is_built_for_is_fine() -> None:
    assert found("arm64", "linux/amd64,linux/arm64") == []


def requested(streams: int, cores: str) -> list[Finding]:
    """What is said of streams of the shipped size on two nodes, one of them the master."""
    sizes = {"cpu": cores, "memory": "8Gi", "pods": "110"}
    nodes = [
        Node.read({"metadata": {"name": name, "labels": {"gpu-node": name}}, "status": {"allocatable": sizes}})
        for name in ("orin-1", "master")
    ]
    queries = {name: GpuQuery(f"{name}:9100", "usage") for name in ("orin-1", "master")}
    pod = {"containers": [{"resources": {"requests": {"cpu": "200m", "memory": "320Mi"}}}]}
    settings = Settings(kubernetes=Kubernetes(master="master"), gpu_queries=queries)
    return list(check_requests(Intent(settings, {}), Survey(nodes=nodes, pods=[pod] * streams)))


def test_more_streams_than_their_requests_leave_room_for_are_told_with_the_figures() -> None:
    (finding,) = requested(40, "6")
    assert finding.warning
    assert finding.what == (
        "40 streams request 8.0 cores, 12.5 GiB and 40 pods; orin-1 can give 6.0 cores, 8.0 GiB and 110 pods: "
        "25 streams fit"
    )
    assert "kubernetes.requests_cpu" in finding.mend


def test_requests_that_fit_are_not_mentioned() -> None:
    assert requested(25, "6") == []
