"""Pictures stay on the node by one setting and leave it by the same; what the file says itself stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from posture.manifests.host_folders import set_host_folders
from posture.manifests.patching import write_settings
from posture.manifests.scaled_job import CONTAINER, POD, Manifest
from posture.settings import loading
from posture.settings.table import Settings

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(ROOT.glob("posture-job-*.yaml"))
TEXT = SHIPPED[0].read_text()


def settings(path: str = "", **environ: str) -> Settings:
    return loading.load(environ={"POSTURE_KUBERNETES_PICTURES_HOST_PATH": path, **environ})


def volumes(one: Manifest) -> dict[str, Any]:
    return {volume.pop("name"): volume for volume in one.get(*POD, "volumes")}


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in SHIPPED])
def test_a_folder_of_the_node_is_given_and_taken_away_to_the_letter(path: Path) -> None:
    one = Manifest(path, path.read_text())
    without = one.text()
    for root in ("/data/farm/", "/srv/other"):
        set_host_folders(one, settings(root))
        for name, folder in (("pictures", "analyzed_images"), ("quarantine", "quarantine")):
            place = {"path": f"{root.rstrip('/')}/{folder}", "type": "DirectoryOrCreate"}
            assert volumes(one)[name] == {"hostPath": place}
        (owner,) = one.get(*POD, "initContainers")
        assert owner["command"] == ["chown", "10001:10001", "/app/analyzed_images", "/app/quarantine"]
        assert owner["image"] == one.get(*CONTAINER, "image")
    set_host_folders(one, settings())
    assert one.text() == without


def test_the_folders_owner_runs_the_image_that_is_set_later() -> None:
    one = Manifest(SHIPPED[0], TEXT)
    write_settings(one, settings("/data"))
    one.set_image("registry.example/posture-pi1@sha256:1")
    assert one.get(*POD, "initContainers", 0, "image") == one.get(*CONTAINER, "image")


def test_two_farms_on_a_node_keep_their_pictures_apart() -> None:
    one = Manifest(SHIPPED[0], TEXT)
    write_settings(one, settings("/data", POSTURE_KUBERNETES_FARM="north"))
    write_settings(one, settings("/data", POSTURE_KUBERNETES_FARM="north"))
    assert volumes(one)["pictures"]["hostPath"]["path"] == "/data/north/analyzed_images"


def test_a_claim_and_an_init_container_of_the_file_stay() -> None:
    claim = "- name: pictures\n            persistentVolumeClaim: {claimName: all}"
    text = TEXT.replace("- name: pictures\n            emptyDir: {}", claim)
    own = "        initContainers:\n          - {name: own, image: own}\n"
    text = text.replace("        containers:\n", f"{own}        containers:\n")
    one = Manifest(SHIPPED[0], text)
    before = one.text()
    set_host_folders(one, settings("/data"))
    assert volumes(one)["pictures"] == {"persistentVolumeClaim": {"claimName": "all"}}
    assert [container["name"] for container in one.get(*POD, "initContainers")] == ["own", "folders"]
    assert one.get(*POD, "initContainers", 1, "volumeMounts") == [
        {"name": "quarantine", "mountPath": "/app/quarantine"}
    ]
    set_host_folders(one, settings())
    assert volumes(one) == volumes(Manifest(SHIPPED[0], before))
    assert one.get(*POD, "initContainers") == [{"name": "own", "image": "own"}]
