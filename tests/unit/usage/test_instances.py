"""Which of Prometheus' labels are a node's."""

from __future__ import annotations

import json
import re

import pytest

from posture.usage.instances import by_host, labels_of, matcher

SHOWN = ["orin:9100", "orin:9101", "orin2:9100", "nano", "[2001:db8::1]:9100", "10.0.0.1:9100", "farm:gpu:0"]


@pytest.mark.parametrize(
    ("instance", "labels"),
    [
        ("orin:9101", ["orin:9101"]),
        ("orin", ["orin:9100", "orin:9101"]),
        ("orin:9400", []),
        ("ori", []),
        ("nano", ["nano"]),
        ("nano:9100", []),
        ("[2001:db8::1]:9100", ["[2001:db8::1]:9100"]),
        ("[2001:db8::1]", ["[2001:db8::1]:9100"]),
        ("2001:db8::1", ["[2001:db8::1]:9100"]),
        ("10.0.0.1", ["10.0.0.1:9100"]),
        ("10x0.0.1", []),
        ("farm:gpu:0", ["farm:gpu:0"]),
        (".*", []),
    ],
)
def test_an_instance_finds_its_labels_and_the_query_lets_them_through(instance: str, labels: list[str]) -> None:
    assert labels_of(instance, SHOWN, by_host(SHOWN), {instance}) == labels
    pattern = json.loads(matcher([instance]).removeprefix("instance=~"))
    assert {label for label in SHOWN if re.fullmatch(pattern, label)} == set(labels)


def test_a_label_that_is_another_nodes_by_its_port_is_not_this_ones() -> None:
    assert labels_of("orin", SHOWN, by_host(SHOWN), {"orin", "orin:9100"}) == ["orin:9101"]


def test_very_many_instances_are_asked_for_as_all_of_them() -> None:
    assert matcher(f"node-{number}.example:9100" for number in range(1000)) == 'instance!=""'
    assert "node" in matcher(f"node-{number}" for number in range(100))
