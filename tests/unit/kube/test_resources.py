"""How many pods find a place, by what they request."""

from __future__ import annotations

import pytest

from posture.kube.resources import fitting

SMALL = {"cpu": 0.2, "memory": 320.0, "pods": 1.0}


def node(cpu: float, memory: float, pods: float = 110) -> dict[str, float]:
    return {"cpu": cpu, "memory": memory, "pods": pods}


@pytest.mark.parametrize(
    ("nodes", "most"),
    [
        pytest.param([node(2, 32_000)], 10, id="processors"),
        pytest.param([node(64, 3_200)], 10, id="memory"),
        pytest.param([node(64, 64_000)], 110, id="pods"),
        pytest.param([node(1, 32_000), node(0.3, 32_000), node(0.1, 32_000)], 6, id="several nodes"),
        pytest.param([], 0, id="none"),
    ],
)
def test_pods_fit_as_far_as_what_is_scarce_reaches(nodes: list[dict[str, float]], most: int) -> None:
    assert fitting([SMALL] * 200, nodes) == most
    assert nodes == [dict(one) for one in nodes]


def test_a_large_pod_finds_its_place_before_the_small_ones_fill_it() -> None:
    large = {"cpu": 1.0, "memory": 320.0, "pods": 1.0}
    assert fitting([*[SMALL] * 5, large], [node(1, 32_000), node(1, 32_000)]) == 6
