from __future__ import annotations

from typing import Any

import pytest

from posture.lifecycle.setup import nodes
from posture.lifecycle.setup.nodes import Machine


def machine(
    name: str, *, kernel: str = "6.1", gpu: str = "", addresses: tuple[str, ...] = (), **labels: str
) -> Machine:
    body: dict[str, Any] = {
        "metadata": {"name": name, "labels": {key.replace("_", "-"): value for key, value in labels.items()}},
        "spec": {},
        "status": {
            "addresses": [{"type": "InternalIP", "address": one} for one in addresses],
            "nodeInfo": {"kernelVersion": kernel},
            "allocatable": {"nvidia.com/gpu": gpu} if gpu else {},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }  # fmt: skip
    return Machine.read(body)


def control_plane(name: str, **more: Any) -> Machine:
    found = machine(name, **more)
    found.node.labels["node-role.kubernetes.io/control-plane"] = "true"
    return Machine(found.node, found.gpu, False, found.addresses, found.annotations)


def names(*machines: Machine, master: str = "") -> list[str]:
    return [one.name for one in nodes.chosen(machines, master)]


@pytest.mark.parametrize(
    "with_gpu",
    [
        machine("orin", gpu="1"),
        machine("orin", kernel="5.15.148-tegra"),
        machine("orin", feature="jetson-orin"),
    ],
    ids=["the device plugin's resource", "a Jetson's kernel", "a Jetson's label"],
)
def test_where_one_node_has_a_gpu_those_with_one_are_taken(with_gpu: Machine) -> None:
    assert names(control_plane("server"), with_gpu, machine("pi")) == ["orin"]
    assert with_gpu.query == '{instance: "orin:9101", signal: [gpu, cpu]}'


def test_without_a_gpu_all_workers_are_taken_in_natural_order() -> None:
    assert names(control_plane("server"), machine("pi-10"), machine("pi-9")) == ["pi-9", "pi-10"]
    assert machine("pi-9").query == '{instance: "pi-9:9101", signal: cpu}'


def test_of_control_planes_alone_all_are_taken() -> None:
    assert names(control_plane("b"), control_plane("a")) == ["a", "b"]


def test_a_node_with_the_label_is_the_farms_under_that_name_whatever_it_is() -> None:
    assert names(control_plane("server", gpu_node="big"), machine("orin", gpu="1")) == ["big", "orin"]


def test_a_resource_of_none_is_no_gpu() -> None:
    assert not machine("pi", gpu="0").gpu


def test_the_master_and_processors_without_packages_are_left_out() -> None:
    old = machine("old")
    old.node.labels["kubernetes.io/arch"] = "arm"
    assert names(old, machine("pi"), machine("nano"), master="nano") == ["pi"]
