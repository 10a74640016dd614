"""What preflight says of pictures that would not outlive their pod; the rest of it: tests/cluster."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from posture.kube import kinds
from posture.kube.client import Object
from posture.kube.kinds import Kind
from posture.lifecycle.preflight.findings import Finding, Intent
from posture.lifecycle.preflight.pods import check_pictures
from posture.manifests import files
from posture.manifests.patching import write_settings
from posture.settings import loading

ROOT = Path(__file__).resolve().parents[4]
STREAMS = [f"hall-{number}" for number in range(1, 8)]
URL = {"POSTURE_PICTURES_URL": "s3+http://posture-pictures:8333/posture"}
KEYS = {"POSTURE_PICTURES_KEY_ID": "farm", "POSTURE_PICTURES_SECRET_KEY": "hidden"}


def found(
    environ: Mapping[str, str], secret: Mapping[str, str] = {}, text: tuple[str, str] = ("", "")
) -> list[Finding]:
    settings = loading.load(environ=environ)
    manifests: dict[str, Any] = {}
    for one in files.of_streams(STREAMS):
        write_settings(one, settings)
        manifests[one.stream] = type(one)(one.path, one.text().replace(*text)).data()
    held = {name: base64.b64encode(value.encode()).decode() for name, value in secret.items()}

    def read(kind: Kind, name: str) -> Object | None:
        found = kind is kinds.SECRET and name == "posture-farm"
        return {"kind": "Secret", "data": held} if found else None

    return list(check_pictures(Intent(settings, manifests), read))


def test_pictures_that_end_with_their_pods_are_told_of_once() -> None:
    (finding,) = found({})
    assert finding.warning
    assert finding.what == (
        "pictures of hall-1, hall-2, hall-3, hall-4, hall-5 and 2 more end with the pods that made them"
    )
    assert "analyzer.pictures_url" in finding.mend


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"POSTURE_ANALYZER_PICTURES": "none"}, id="no pictures"),
        pytest.param({"POSTURE_ANALYZER_KEEP": "none"}, id="none kept"),
        pytest.param({"POSTURE_KUBERNETES_PICTURES_HOST_PATH": "/data"}, id="on the node"),
        pytest.param(URL, id="bucket"),
    ],
)
def test_pictures_that_are_kept_elsewhere_or_not_at_all_are_fine(environ: dict[str, str]) -> None:
    assert found(environ, KEYS) == []


def test_a_claim_keeps_them_too() -> None:
    claim = "- name: pictures\n            persistentVolumeClaim: {claimName: all}"
    assert found({}, text=("- name: pictures\n            emptyDir: {}", claim)) == []


def test_a_bucket_without_its_key_is_an_error_that_names_the_key() -> None:
    (finding,) = found(URL, {"POSTURE_PICTURES_KEY_ID": "farm"})
    assert not finding.warning
    assert finding.what.startswith("secret posture-farm has no key POSTURE_PICTURES_SECRET_KEY")
