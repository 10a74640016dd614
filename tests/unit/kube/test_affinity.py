"""The affinity that puts a stream on its node, and what else it may demand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture.kube import affinity

NAMES = st.sampled_from(["gpu-node", "zone", "disk"])
EXPRESSIONS = st.fixed_dictionaries(
    {
        "key": NAMES,
        "operator": st.sampled_from(["In", "NotIn"]),
        "values": st.lists(st.sampled_from("abc"), min_size=1),
    }
)
TERMS = st.fixed_dictionaries({}, optional={"matchExpressions": st.lists(EXPRESSIONS, max_size=3)})
AFFINITIES = st.fixed_dictionaries(
    {},
    optional={
        "podAntiAffinity": st.just({"x": 1}),
        "nodeAffinity": st.fixed_dictionaries(
            {},
            optional={
                "requiredDuringSchedulingIgnoredDuringExecution": st.fixed_dictionaries(
                    {"nodeSelectorTerms": st.lists(TERMS, min_size=1, max_size=3)}
                ),
                "preferredDuringSchedulingIgnoredDuringExecution": st.just([{"weight": 1}]),
            },
        ),
    },
)


@given(before=AFFINITIES)
def test_a_node_is_required_in_every_term_and_nothing_else_is_lost(before: dict[str, Any]) -> None:
    frozen = json.dumps(before)
    after = affinity.with_node(before, "nano")
    assert json.dumps(before) == frozen
    assert affinity.node_of(after) == "nano"
    assert affinity.with_node(after, "nano") == after
    old, new = terms(before) or [{}], terms(after)
    assert len(old) == len(new)
    for one, other in zip(old, new, strict=True):
        kept = [item for item in one.get("matchExpressions", []) if item["key"] != "gpu-node"]
        assert other["matchExpressions"][:-1] == kept
    assert {**after, "nodeAffinity": None} == {**before, "nodeAffinity": None}


@given(before=AFFINITIES)
def test_any_node_of_the_farm_will_do_and_nothing_else_is_lost(before: dict[str, Any]) -> None:
    after = affinity.with_any_node(affinity.with_node(before, "nano"))
    assert affinity.nodes_named(after) == []
    assert affinity.with_node(after, "nano") == affinity.with_node(before, "nano")


def terms(of: dict[str, Any]) -> list[dict[str, Any]]:
    required = of.get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", {})
    return list(required.get("nodeSelectorTerms", []))


def test_an_affinity_that_leaves_a_choice_names_no_node() -> None:
    both = {"key": "gpu-node", "operator": "In", "values": ["agx", "nano"]}
    required = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [both]}]}
    }
    assert affinity.node_of({"nodeAffinity": required}) is None
    assert affinity.node_of(None) is None


@pytest.mark.parametrize(
    ("operator", "limit", "label", "allowed"),
    [("Gt", "4", "5", True), ("Lt", "4", "5", False), ("Gt", "big", "5", False), ("Lt", "4", "--5", False)],
)
def test_a_limit_that_is_no_number_lets_no_node_in_and_stops_nothing(
    operator: str, limit: str, label: str, allowed: bool
) -> None:
    expression = {"key": "memory", "operator": operator, "values": [limit]}
    required = {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [expression]}]
        }
    }
    assert affinity.allows({"nodeAffinity": required}, None, {"memory": label}, "agx") is allowed
    assert not affinity.allows({"nodeAffinity": required}, None, {}, "agx")


@pytest.mark.parametrize(("operator", "allowed"), [("In", {"agx"}), ("NotIn", {"nano"})])
def test_a_field_that_names_the_node_rules_others_out(operator: str, allowed: set[str]) -> None:
    term = {"matchFields": [{"key": "metadata.name", "operator": operator, "values": ["agx"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    found = {host for host in ("agx", "nano") if affinity.allows({"nodeAffinity": required}, None, {}, host)}
    assert found == allowed


def test_only_what_stands_in_every_term_keeps_a_pod_off_a_node() -> None:
    off = {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["agx"]}]}
    for terms, kept_off in (([off], True), ([off, off], True), ([off, {}], False), ([], False)):
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        assert affinity.excludes({"nodeAffinity": required}, "agx") is kept_off
        assert not affinity.excludes({"nodeAffinity": required}, "nano")
