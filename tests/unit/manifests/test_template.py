"""deploy/posture-job.yaml: the ScaledJob of every stream that has none of its own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from posture.errors import UserError
from posture.manifests import files, template
from posture.manifests.scaled_job import CONTAINER, Manifest

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(ROOT.glob("posture-job-*.yaml"))
FIRST_FIELD = "apiVersion"


def comments(text: str) -> list[str]:
    """Those behind the head."""
    return re.findall(r"(?:^|\s)(#.*)", text[text.index(FIRST_FIELD) :], re.M)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in SHIPPED])
def test_the_template_and_the_shipped_files_differ_in_name_and_image_alone(path: Path) -> None:
    stream = path.stem.removeprefix("posture-job-")
    text = template.rendered(stream).replace("posture-analyzer:latest", f"posture-{stream}:latest")
    own = path.read_text()
    assert yaml.safe_load(text) == yaml.safe_load(own)
    assert comments(text) == comments(own)


@pytest.mark.parametrize("name", ["hall-1", "7", "007", "1e3", "on", "null", "a" * 32])
def test_any_name_can_be_a_streams(name: str) -> None:
    (one,) = files.of_streams([name])
    data: dict[str, Any] = one.data()
    assert one.stream == name
    for metadata in (data["metadata"], data["spec"]["jobTargetRef"]["template"]["metadata"]):
        assert metadata["labels"]["posture-farm/stream"] == name
    assert data["metadata"]["name"] == f"posture-analyzer-scaledjob-{name}"
    secrets = {
        (entry.get("valueFrom") or {}).get("secretKeyRef", {}).get("name") for entry in one.get(*CONTAINER, "env")
    }
    assert f"posture-mqtt-{name}" in secrets
    assert not re.search(r"\bSTREAM\b", one.text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / template.NAME, tmp_path / template.NAME)
    return tmp_path


def test_a_streams_own_file_wins(folder: Path) -> None:
    own = folder / "posture-job-hall-2.yaml"
    own.write_text(template.of_its_own("hall-2", folder).replace("pollingInterval: 10", "pollingInterval: 20"))
    assert "Stream hall-2 for KEDA" in own.read_text().splitlines()[0]
    common, other = files.of_streams(["hall-1", "hall-2"], folder)
    assert (common.path, common.polling_interval_s) == (folder / template.NAME, 10)
    assert (other.path, other.polling_interval_s) == (own, 20)


def test_a_mistake_in_the_template_is_told_once_with_its_line_however_many_streams_there_are(folder: Path) -> None:
    path = folder / template.NAME
    path.write_text(path.read_text().replace("strategy: gradual", "strategy: immediate"))
    number = 1 + path.read_text().splitlines().index("    strategy: immediate")
    with pytest.raises(UserError) as caught:
        files.of_streams(["hall-1", "hall-2", "hall-3"], folder)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}:{number}: spec.rollout.strategy: 'immediate' is not accepted")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param(
            'stream: "STREAM"', "stream: hall-1", "'hall-1' is not accepted; accepted: STREAM", id="label"
        ),
        pytest.param(
            "scaledjob-STREAM", "scaledjob", "metadata.name: 'posture-analyzer-scaledjob' is in", id="name"
        ),
    ],
)
def test_a_template_that_does_not_leave_a_name_open_is_refused(folder: Path, old: str, new: str, said: str) -> None:
    path = folder / template.NAME
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=re.escape(said)):
        files.of_streams(["hall-1", "hall-2"], folder)


def test_a_template_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"deploy/posture-job\.yaml: can't be read, and hall-1 has no file of its own"
    ):
        files.of_streams(["hall-1"], tmp_path)


def test_a_template_is_a_manifest_like_any_other(folder: Path) -> None:
    assert Manifest(folder / template.NAME, template.rendered("hall-1", folder)).pinned is False
