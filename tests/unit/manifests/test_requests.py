"""What a pod requests follows the settings, unless its file says something else."""

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
SHIPPED = sorted(ROOT.glob("posture-job-*.yaml"))
MORE = {"POSTURE_KUBERNETES_REQUESTS_CPU": "0.5", "POSTURE_KUBERNETES_REQUESTS_MEMORY": "1Gi"}


def requests_of(one: Manifest, **environ: str) -> Any:
    write_settings(one, loading.load(environ=environ))
    return one.get(*CONTAINER, "resources", "requests")


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in SHIPPED])
def test_a_shipped_pod_requests_what_was_measured_patched_or_not_and_may_use_more(path: Path) -> None:
    one = Manifest(path, path.read_text())
    as_it_comes = one.get(*CONTAINER, "resources", "requests")
    assert as_it_comes == requests_of(one) == {"cpu": "200m", "memory": "320Mi"}
    assert one.get(*CONTAINER, "resources", "limits") == {"cpu": "2", "memory": "1536Mi"}


def test_a_file_that_was_written_before_follows_the_setting_of_now() -> None:
    one = Manifest(PATH, PATH.read_text())
    requests_of(one, **MORE)
    again = Manifest(PATH, one.text())
    assert requests_of(again, **MORE) == {"cpu": "0.5", "memory": "1Gi"}
    assert again.text() == one.text(), "twice is as once"
    assert requests_of(again) == {"cpu": "200m", "memory": "320Mi"}


def test_what_the_file_requests_itself_wins_for_that_resource_alone() -> None:
    one = Manifest(PATH, PATH.read_text().replace("cpu: 200m", "cpu: 900m"))
    for _ in range(2):
        assert requests_of(one, **MORE) == {"cpu": "900m", "memory": "1Gi"}
    both = Manifest(
        PATH, PATH.read_text().replace("cpu: 200m", "cpu: 900m").replace("memory: 320Mi", "memory: 1Gi")
    )
    requests_of(both)
    assert both.get("metadata", "annotations", REQUESTS) is None


def test_a_file_without_requests_gets_those_of_the_settings() -> None:
    one = Manifest(PATH, PATH.read_text())
    one.remove(*CONTAINER, "resources", "requests")
    assert requests_of(one, **MORE) == {"cpu": "0.5", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in MORE for value in ("0", "-1", "much", "", "1 Gi", "1e3", "0.0", "5Ti", "٣m")],
)
def test_an_amount_that_kubernetes_would_not_take_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{name}: .* is not accepted; accepted: "):
        loading.load(environ={name: value})
