"""The balancer's rights: those of the design and no more; a right that is missing is named."""

from __future__ import annotations

from typing import Any

import pytest
from balancing import MOVE, Farm, annotations
from deployed import BASE, objects_of

PINNED = {"posture-farm/pinned": "true"}
OBJECTS = {item["kind"]: item for item in objects_of(BASE / "rbac-scaler.yaml")}
RULES: list[dict[str, Any]] = OBJECTS["Role"]["rules"]
"""Of the design's verbs those that are used; it also lists get and watch, which paged lists do without."""
CLUSTER_RULES: list[dict[str, Any]] = OBJECTS["ClusterRole"]["rules"]

VERBS = [(rule["resources"][0], verb) for rule in RULES + CLUSTER_RULES for verb in rule["verbs"]]


def without(rules: list[dict[str, Any]], resource: str, verb: str) -> list[dict[str, Any]]:
    left = [
        {**rule, "verbs": [one for one in rule["verbs"] if (rule["resources"][0], one) != (resource, verb)]}
        for rule in rules
    ]
    return [rule for rule in left if rule["verbs"]]


def test_a_move_takes_no_more_rights_than_these(farm: Farm) -> None:
    busy, idle = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    kubeconfig = farm.cluster.role(farm.namespace, "balancer", RULES, CLUSTER_RULES)
    balancer = farm.balancer("--once", kubeconfig=kubeconfig)
    assert balancer.wait() == 0, balancer.said()
    farm.until_moved("pi1", idle)
    assert "403" not in balancer.said()
    assert [reason for reason, _ in farm.events("pi1")] == ["MoveBegun", "MoveFinished"]


def test_each_verb_that_is_taken_away_is_named_with_its_resource_and_nothing_is_touched(farm: Farm) -> None:
    busy, _ = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    before = farm.job_uids("pi1")
    balancers = {}
    for number, (resource, verb) in enumerate(VERBS):
        kubeconfig = farm.cluster.role(
            farm.namespace,
            f"balancer-{number}",
            without(RULES, resource, verb),
            without(CLUSTER_RULES, resource, verb),
        )
        balancers[resource, verb] = farm.balancer("--once", kubeconfig=kubeconfig)
    for (resource, verb), balancer in balancers.items():
        assert balancer.wait() == 2, balancer.said()
        (line,) = [line for line in balancer.said().splitlines() if line.startswith("error:")]
        assert f"lacks verb {verb!r} on resource '{resource}" in line
        assert "Traceback" not in balancer.said()
    assert farm.job_uids("pi1") == before
    assert MOVE not in annotations(farm.scaled_job("pi1"))


@pytest.mark.parametrize("flags", [("--dry-run",), ()], ids=["dry-run", "acting"])
def test_a_dry_run_needs_only_to_list(farm: Farm, flags: tuple[str, ...]) -> None:
    farm.add_nodes(80, 10)
    rules = [{**rule, "verbs": ["list"]} for rule in RULES[:4]]
    kubeconfig = farm.cluster.role(farm.namespace, "viewer", rules, CLUSTER_RULES)
    assert farm.balancer("--once", *flags, kubeconfig=kubeconfig).wait() == (0 if flags else 2)
