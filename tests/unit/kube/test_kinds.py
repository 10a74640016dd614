"""Where the API has an object."""

from __future__ import annotations

import pytest

from posture.kube import kinds
from posture.kube.kinds import Kind


@pytest.mark.parametrize(
    ("kind", "name", "path", "shown"),
    [
        pytest.param(kinds.POD, "p", "/api/v1/namespaces/farm/pods/p", "pods", id="core"),
        pytest.param(
            kinds.SCALED_JOB,
            "",
            "/apis/keda.sh/v1alpha1/namespaces/farm/scaledjobs",
            "scaledjobs.keda.sh",
            id="list",
        ),
        pytest.param(kinds.NODE, "n", "/api/v1/nodes/n", "nodes", id="without a namespace"),
    ],
)
def test_a_kind_has_a_path_and_the_name_that_roles_use(kind: Kind, name: str, path: str, shown: str) -> None:
    assert kind.path("farm", name) == path
    assert str(kind) == shown
