"""What a pod requests follows the settings, unless its file says so itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from posture.errors import UserError
from posture.kube.annotations import REQUESTS
from posture.manifests.patching import write_settings
from posture.manifests.scaled_job import CONTAINER, Manifest
from posture.settings import loading

ROOT = Path(__file__).resolve().parents[3]
PATH = ROOT / "posture-job-pi1.yaml"
OWN = "              requests: {cpu: 900m}\n              limits:\n"
MORE = {"POSTURE_KUBERNETES_REQUESTS_CPU": "0.5", "POSTURE_KUBERNETES_REQUESTS_MEMORY": "1Gi"}


def requests_of(one: Manifest, **environ: str) -> Any:
    write_settings(one, loading.load(environ=environ))
    return one.get(*CONTAINER, "resources", "requests")


def test_a_shipped_pod_requests_what_was_measured_and_may_use_more() -> None:
    one = Manifest(PATH, PATH.read_text())
    assert requests_of(one) == {"cpu": "200m", "memory": "320Mi"}
    assert one.get(*CONTAINER, "resources", "limits") == {"cpu": "2", "memory": "1536Mi"}


def test_a_file_that_was_written_before_follows_the_setting_of_now() -> None:
    one = Manifest(PATH, PATH.read_text())
    requests_of(one, **MORE)
    again = Manifest(PATH, one.text())
    assert requests_of(again, **MORE) == {"cpu": "0.5", "memory": "1Gi"}
    assert again.text() == one.text(), "twice is as once"
    assert requests_of(again) == {"cpu": "200m", "memory": "320Mi"}


def test_what_the_file_requests_itself_wins_for_that_resource_alone() -> None:
    one = Manifest(PATH, PATH.read_text().replace("              limits:\n", OWN))
    for _ in range(2):
        assert requests_of(one, **MORE) == {"cpu": "900m", "memory": "1Gi"}
    both = Manifest(
        PATH, PATH.read_text().replace("              limits:\n", OWN.replace("900m", "1, memory: 1Gi"))
    )
    requests_of(both)
    assert both.get("metadata", "annotations", REQUESTS) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in MORE for value in ("0", "-1", "much", "", "1 Gi", "1e3", "0.0", "5Ti", "٣m")],
)
def test_an_amount_that_kubernetes_would_not_take_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{name}: .* is not accepted; accepted: "):
        loading.load(environ={name: value})
