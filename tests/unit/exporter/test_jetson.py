"""The load of a Jetson's GPU is found on every board, and looked for again when it vanishes."""

from __future__ import annotations

from pathlib import Path

import pytest
from boards import DEVFREQ, FIXED, devfreq

from posture.exporter.jetson import JetsonGpu
from posture.exporter.source import UnreadableError


@pytest.mark.parametrize("hidden", [False, True], ids=["on the node", "in a container"])
@pytest.mark.parametrize(("entry", "name"), DEVFREQ.values(), ids=DEVFREQ.keys())
def test_the_entry_of_devfreq_that_is_a_gpu_is_read(tmp_path: Path, entry: str, name: str, hidden: bool) -> None:
    devfreq(tmp_path, "15340000.vic", "vic", hidden=hidden).write_text("999\n")  # other engines have a load, too
    devfreq(tmp_path, entry, name, hidden=hidden).write_text("437\n")
    gpu = JetsonGpu(tmp_path)
    assert gpu.read() == pytest.approx(43.7)
    assert entry in gpu.about


@pytest.mark.parametrize("place", FIXED.values(), ids=FIXED.keys())
def test_without_devfreq_the_boards_own_path_is_read(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text("1000\n")
    assert JetsonGpu(tmp_path).read() == 100.0


def test_a_file_that_comes_late_vanishes_and_comes_back_elsewhere_is_found_each_time(tmp_path: Path) -> None:
    gpu = JetsonGpu(tmp_path)
    with pytest.raises(UnreadableError, match=r"devices/gpu\.0/load: No such file"):
        gpu.read()
    load = devfreq(tmp_path, *DEVFREQ["Xavier"])
    load.write_text("10\n")
    assert gpu.read() == 1.0
    load.unlink()
    with pytest.raises(UnreadableError, match="gv11b/device/load: No such file"):
        gpu.read()
    elsewhere = tmp_path / FIXED["Nano"]
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text("20\n")
    assert gpu.read() == 2.0


@pytest.mark.parametrize("text", ["", "busy", "-1", "1001", "12.5", "\ufeff5"])
def test_what_is_no_load_is_never_taken_for_one(tmp_path: Path, text: str) -> None:
    load = devfreq(tmp_path, *DEVFREQ["TX2"])
    load.write_text(text, encoding="utf-8")
    with pytest.raises(UnreadableError):
        JetsonGpu(tmp_path).read()
