"""A pod gets the GPU by one setting and loses it by the same; what its file says itself stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from posture.kube.annotations import GPU
from posture.manifests.gpu_pod import set_gpu
from posture.manifests.scaled_job import Manifest
from posture.settings import loading
from posture.settings.table import Settings

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(ROOT.glob("posture-job-*.yaml"))
TEXT = SHIPPED[0].read_text()
ENV = "            env:\n"


def settings(**environ: str) -> Settings:
    return loading.load(environ=environ)


WITH_GPU = {"POSTURE_KUBERNETES_GPU": "nvidia"}


def given(text: str, **environ: str) -> dict[str, Any]:
    """The ScaledJob of a file, with the GPU."""
    one = Manifest(SHIPPED[0], text)
    set_gpu(one, settings(**WITH_GPU, **environ))
    data: dict[str, Any] = yaml.safe_load(one.text())
    return data


def pod_of(data: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = data["spec"]["jobTargetRef"]["template"]["spec"]
    return pod


def variables(data: dict[str, Any]) -> dict[str, str]:
    entries = pod_of(data)["containers"][0]["env"]
    return {entry["name"]: entry["value"] for entry in entries if "value" in entry}


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in SHIPPED])
def test_what_was_given_is_taken_away_to_the_letter(path: Path) -> None:
    one = Manifest(path, path.read_text())
    without = one.text()
    for _ in range(2):
        set_gpu(one, settings(**WITH_GPU))
        assert pod_of(one.data())["runtimeClassName"] == "nvidia"
    once = Manifest(path, path.read_text())
    set_gpu(once, settings(**WITH_GPU))
    assert one.text() == once.text(), "twice is as once"
    set_gpu(one, settings())
    assert one.text() == without


def test_without_the_setting_a_file_that_asks_for_the_gpu_itself_stays_as_it_is() -> None:
    text = TEXT.replace(
        "      spec:\n        restart", "      spec:\n        runtimeClassName: nvidia\n        restart"
    )
    text = text.replace("fsGroup: 10001", "fsGroup: 10001\n          supplementalGroups: [44]")
    text = text.replace(ENV, ENV + "              - {name: NVIDIA_VISIBLE_DEVICES, value: all}\n")
    one = Manifest(SHIPPED[0], text)
    before = one.text()
    set_gpu(one, settings())
    assert one.text() == before


def test_what_the_file_says_itself_wins_and_outlives_the_setting() -> None:
    text = TEXT.replace(
        "      spec:\n        restart", "      spec:\n        runtimeClassName: tegra\n        restart"
    )
    text = text.replace("fsGroup: 10001", "fsGroup: 10001\n          supplementalGroups: [993]")
    text = text.replace(ENV, ENV + '              - {name: NVIDIA_VISIBLE_DEVICES, value: "1"}\n')
    one = Manifest(SHIPPED[0], text)
    before = one.text()
    set_gpu(one, settings(**WITH_GPU))
    pod = pod_of(one.data())
    assert pod["runtimeClassName"] == "tegra"
    assert pod["securityContext"]["supplementalGroups"] == [993, 44]
    assert variables(one.data())["NVIDIA_VISIBLE_DEVICES"] == "1"
    set_gpu(one, settings())
    assert one.text() == before


@pytest.mark.parametrize("limit", ["nvidia.com/gpu", "nvidia.com/gpu.shared"])
def test_where_the_device_plugin_chooses_the_gpu_not_all_are_shown(limit: str) -> None:
    given_by_plugin = given(TEXT.replace('# nvidia.com/gpu: "1" ', f'{limit}: "1" #'))
    assert pod_of(given_by_plugin)["containers"][0]["resources"]["limits"][limit] == "1"
    assert "NVIDIA_VISIBLE_DEVICES" not in variables(given_by_plugin)
    assert variables(given_by_plugin)["NVIDIA_DRIVER_CAPABILITIES"] == "all"


def test_a_stream_that_is_to_run_on_the_cpu_gets_none() -> None:
    by_settings = given(TEXT, POSTURE_ANALYZER_DELEGATE="cpu")
    by_file = given(TEXT.replace(ENV, ENV + "              - {name: POSTURE_ANALYZER_DELEGATE, value: cpu}\n"))
    for data in (by_settings, by_file):
        assert "runtimeClassName" not in pod_of(data)
        assert GPU not in data["metadata"].get("annotations", {})


def test_a_stream_that_changes_to_the_cpu_loses_what_was_written_for_it() -> None:
    one = Manifest(SHIPPED[0], TEXT)
    before = one.text()
    set_gpu(one, settings(**WITH_GPU))
    set_gpu(one, settings(**WITH_GPU, POSTURE_ANALYZER_DELEGATE="cpu"))
    assert one.text() == before
