"""Classes that were measured: written by one program, read by another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from posture.errors import UserError
from posture.simulator.measured import MeasuredClass, read_classes, write_class

ORIN = MeasuredClass(streams=24, cores=6, processor=0.21, rss_mb=290, pss_mb=180, measured="2026-11-26")
NANO = MeasuredClass(streams=5, cores=4, processor=0.7, rss_mb=300, pss_mb=190, measured="2026-11-27")


def test_a_class_is_read_as_it_was_written_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    assert read_classes(path) == {}
    write_class("orin", NANO, path)
    write_class("nano", NANO, path)
    write_class("orin", ORIN, path)
    assert read_classes(path) == {"orin": ORIN, "nano": NANO}
    assert ORIN.speed == 2.4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "- orin\n", "is not accepted; accepted: what bench/capacity.py --write-class writes", id="list"
        ),
        pytest.param("orin: 2.4\n", "orin: 2.4 is not accepted; accepted: streams, cores", id="number"),
        pytest.param(
            "orin: {streams: 0}\n", "orin: streams: 0 is not accepted; accepted: a whole number", id="none"
        ),
        pytest.param("orin: {streams: 1.5}\n", "orin: streams: 1.5 is not accepted", id="a half"),
        pytest.param("orin: {cores: yes}\n", "orin: cores: True is not accepted", id="boolean"),
        pytest.param("orin: {cores: 4}\n", "orin: streams: is missing", id="missing"),
        pytest.param("orin: {sped: 4}\n", "orin: sped: is not known", id="unknown"),
        pytest.param("orin: {processor: .nan}\n", "orin: processor: nan is not accepted", id="nan"),
        pytest.param("a: [\n", "is not YAML", id="yaml"),
    ],
)
def test_a_file_that_is_otherwise_is_refused_and_left_as_it_is(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(str(path))) as refused:
        write_class("nano", NANO, path)
    assert message in str(refused.value)
    assert path.read_text() == text
