"""What preflight says of nodes' machines; the rest of it: tests/scripts, tests/cluster."""

from __future__ import annotations

from posture.kube.objects import Node
from posture.lifecycle.preflight.cluster import check_platform
from posture.lifecycle.preflight.findings import Finding
from posture.settings.table import Images, Settings


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
