"""JSON Patches for annotations. What the API server makes of them: tests/cluster."""

from __future__ import annotations

import pytest

from posture.kube import annotations as subject


@pytest.mark.parametrize(
    ("name", "path"),
    [
        pytest.param(subject.MOVE, "/metadata/annotations/posture-farm~1move", id="slash"),
        pytest.param("a~/b", "/metadata/annotations/a~0~1b", id="tilde"),
    ],
)
def test_a_name_is_escaped_in_its_path(name: str, path: str) -> None:
    assert subject.path_of(name) == path
    assert subject.remove_operation(name) == {"op": "remove", "path": path}


def test_annotations_are_set_beside_those_that_are_there() -> None:
    assert subject.set_operations({"other": "1"}, {subject.HISTORY: "{}"}) == [
        {"op": "add", "path": "/metadata/annotations/posture-farm~1history", "value": "{}"}
    ]


def test_an_object_without_annotations_gets_them_only_if_it_still_has_none() -> None:
    assert subject.set_operations(None, {subject.HISTORY: "{}"}) == [
        {"op": "test", "path": "/metadata/annotations", "value": None},
        {"op": "add", "path": "/metadata/annotations", "value": {subject.HISTORY: "{}"}},
    ]
