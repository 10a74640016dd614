"""Pausing a ScaledJob. What KEDA makes of it: tests/cluster."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_api import Answer, PatientClient, ScriptedServer

from posture.kube.pausing import is_paused, set_paused

PATH = "/metadata/annotations/autoscaling.keda.sh~1paused"


def scaled_job(annotations: dict[str, str] | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "sj", "uid": "u", "generation": 1}
    if annotations is not None:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": {}}


@pytest.mark.parametrize(
    ("annotations", "paused", "operations"),
    [
        pytest.param({"a": "b"}, True, [{"op": "add", "path": PATH, "value": "true"}], id="pause"),
        pytest.param(
            None,
            True,
            [
                {"op": "add", "path": "/metadata/annotations", "value": {}},
                {"op": "add", "path": PATH, "value": "true"},
            ],
            id="pause one without annotations",
        ),
        pytest.param({"autoscaling.keda.sh/paused": "true"}, False, [{"op": "remove", "path": PATH}], id="resume"),
        pytest.param(
            {"autoscaling.keda.sh/paused": "true", "posture-farm/cleared": "true"},
            False,
            [
                {"op": "remove", "path": PATH},
                {"op": "remove", "path": "/metadata/annotations/posture-farm~1cleared"},
            ],
            id="resume one that was to be taken down",
        ),
    ],
)
def test_the_annotation_is_set_and_removed_and_nothing_else(
    server: ScriptedServer,
    farm: PatientClient,
    annotations: dict[str, str] | None,
    paused: bool,
    operations: list[dict[str, Any]],
) -> None:
    server.answers = [Answer(200, {})]
    set_paused(farm.client, scaled_job(annotations), paused)
    same = {"op": "test", "path": "/metadata/uid", "value": "u"}
    assert [request.body for request in server.requests] == [[same, *operations]]


def test_one_that_is_not_paused_is_not_changed(server: ScriptedServer, farm: PatientClient) -> None:
    set_paused(farm.client, scaled_job({"a": "b"}), False)
    assert server.requests == []


@pytest.mark.parametrize(
    ("value", "paused"),
    [
        pytest.param("true", True, id="true"),
        pytest.param("ture", True, id="misspelled"),
        pytest.param("False", False, id="false"),
    ],
)
def test_keda_takes_any_value_but_false_for_paused(value: str, paused: bool) -> None:
    assert is_paused(scaled_job({"autoscaling.keda.sh/paused": value})) is paused
