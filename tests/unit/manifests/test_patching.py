"""What the settings say in a ScaledJob: once written, it follows the settings; what the file says itself wins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from posture.manifests import files
from posture.manifests.patching import write_settings
from posture.manifests.scaled_job import CONTAINER, Manifest
from posture.settings.table import Analyzer, Kubernetes, Mqtt, Settings

PRIVATE = Settings(analyzer=Analyzer(pictures="none", jpeg_quality=70))


def variables(manifest: Manifest) -> dict[str, str]:
    return {one["name"]: one["value"] for one in manifest.get(*CONTAINER, "env") if "value" in one}


def patched(stream: str, settings: Settings, before: Manifest | None = None) -> Manifest:
    (manifest,) = files.of_streams([stream]) if before is None else [Manifest(before.path, before.text())]
    write_settings(manifest, settings)
    return manifest


def test_a_stream_that_runs_the_common_image_is_told_its_name_and_one_with_a_script_of_its_own_is_not() -> None:
    assert variables(patched("hall-1", Settings())) == {"POSTURE_STREAM": "hall-1"}
    assert variables(patched("pi1", Settings())) == {}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(
            replace(PRIVATE, analyzer=Analyzer(pictures="skeleton", jpeg_quality=70)),
            {"POSTURE_ANALYZER_PICTURES": "skeleton", "POSTURE_ANALYZER_JPEG_QUALITY": "70"},
            id="another value",
        ),
        pytest.param(Settings(), {}, id="the default again"),
        pytest.param(Settings(mqtt=Mqtt(prefix="lab")), {"POSTURE_MQTT_PREFIX": "lab"}, id="another variable"),
    ],
)
def test_a_file_that_was_patched_before_follows_the_settings(settings: Settings, expected: dict[str, str]) -> None:
    before = patched("pi1", PRIVATE)
    after = patched("pi1", settings, before)
    assert variables(after) == expected
    assert after.data() == patched("pi1", settings).data(), "as if it had been made of the source"


def test_what_a_file_says_itself_wins_each_time() -> None:
    (own,) = files.of_streams(["pi1"])
    own.set(
        {"name": "POSTURE_ANALYZER_PICTURES", "value": "photo"}, *CONTAINER, "env", len(own.get(*CONTAINER, "env"))
    )
    once = patched("pi1", PRIVATE, own)
    assert variables(once) == {"POSTURE_ANALYZER_PICTURES": "photo", "POSTURE_ANALYZER_JPEG_QUALITY": "70"}
    assert variables(patched("pi1", Settings(), once)) == {"POSTURE_ANALYZER_PICTURES": "photo"}


@pytest.mark.parametrize(("first", "then"), [("cpu", "gpu"), ("gpu", "cpu"), ("auto", "cpu"), ("cpu", "auto")])
def test_what_a_stream_computes_on_follows_the_settings_with_a_gpu(first: str, then: str) -> None:
    def settings(delegate: str) -> Settings:
        return Settings(kubernetes=Kubernetes(gpu="nvidia"), analyzer=Analyzer(delegate=delegate))

    after = patched("pi1", settings(then), patched("pi1", settings(first)))
    assert after.data() == patched("pi1", settings(then)).data()


def test_writing_the_same_settings_again_changes_not_a_byte() -> None:
    once = patched("hall-1", PRIVATE)
    assert patched("hall-1", PRIVATE, once).text() == once.text()


def test_a_patched_file_keeps_its_path_for_messages() -> None:
    assert patched("hall-1", Settings()).path.name == Path("posture-job.yaml").name
