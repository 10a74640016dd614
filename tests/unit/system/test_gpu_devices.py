"""Which device files are a GPU's."""

from __future__ import annotations

from pathlib import Path

import pytest

from posture.system.gpu_devices import gpu_devices


@pytest.mark.parametrize("name", ["dri/renderD128", "nvidia0", "nvmap", "mali0"])
def test_each_drivers_device_is_a_gpu(tmp_path: Path, name: str) -> None:
    device = tmp_path / name
    device.parent.mkdir(exist_ok=True)
    device.touch()
    assert gpu_devices(tmp_path) == [device]


def test_a_screen_or_a_driver_without_a_gpu_is_none(tmp_path: Path) -> None:
    (tmp_path / "dri").mkdir()
    for name in ("dri/card0", "nvidiactl", "fb0", "null"):
        (tmp_path / name).touch()
    assert gpu_devices(tmp_path) == []
    assert gpu_devices(tmp_path / "absent") == []
