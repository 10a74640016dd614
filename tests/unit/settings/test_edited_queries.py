"""GPU_QUERIES that are edited while a program runs."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import pytest

from posture.settings.flags import add_config_flag, edited_queries, settings_with_flags
from posture.settings.signals import Signal
from posture.settings.table import GpuQuery, SignalQuery

NODE = "  {0}: {{instance: '{0}:9100', metric: gpu}}\n"


def write(path: Path, *nodes: str, rest: str = "") -> None:
    path.with_suffix(".new").write_text("GPU_QUERIES:\n" + "".join(map(NODE.format, nodes)) + rest)
    path.with_suffix(".new").replace(path)


def test_added_changed_and_removed_nodes_are_taken_up_and_mistakes_change_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "cluster.yaml"
    write(file, "agx", "nano")
    parser = argparse.ArgumentParser()
    add_config_flag(parser)
    flags = parser.parse_args(["--config", str(file)])
    queries = edited_queries(flags, settings_with_flags(flags))
    assert set(queries()) == {"agx", "nano"}
    write(file, "agx", "orin")
    assert queries() == {"agx": GpuQuery("agx:9100", "gpu"), "orin": GpuQuery("orin:9100", "gpu")}
    assert "GPU_QUERIES: added orin, removed nano" in caplog.text
    write(file, "agx", rest="  orin: {instance: orin, signal: own}\nsignals: {own: {metric: gpu}}\n")
    assert queries()["orin"] == SignalQuery("orin", (Signal("own", metric="gpu"),))
    write(file, "agx", rest="  orin: {instance: orin, signal: own}\nsignals: {own: {metric: gpu, scale: 100}}\n")
    assert queries()["orin"] == SignalQuery("orin", (Signal("own", metric="gpu", scale=100),))
    for broken in ("  x: {instance: 1}\n", "other: {}\n"):
        caplog.clear()
        write(file, "agx", rest=broken)
        assert [set(queries()), set(queries())] == [{"agx", "orin"}] * 2
        assert caplog.text.count("GPU_QUERIES stay as they were") == 1
        assert str(file) in caplog.text
    for gone in (file.unlink, lambda: write(file)):
        gone()
        assert set(queries()) == {"agx", "orin"}
    write(file, "agx")
    assert set(queries()) == {"agx"}
