"""What a kernel tells about its processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from posture.system import processor

RASPBERRY_PI_4 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU part\t: 0xd08

processor\t: 1
Features\t: fp asimd evtstrm crc32 cpuid
"""


def told(tmp_path: Path, text: str) -> frozenset[str] | None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    return processor.features(path)


def test_the_features_of_an_arm_processor_are_read(tmp_path: Path) -> None:
    assert told(tmp_path, RASPBERRY_PI_4) == {"fp", "asimd", "evtstrm", "crc32", "cpuid"}


def test_what_one_kind_of_core_lacks_the_processor_lacks(tmp_path: Path) -> None:
    assert told(tmp_path, RASPBERRY_PI_4 + "\nFeatures\t: fp asimd crc32 atomics\n") == {"fp", "asimd", "crc32"}


def test_the_flags_of_an_x86_processor_are_read(tmp_path: Path) -> None:
    assert told(tmp_path, "model name\t: a\nflags\t\t: sse4_1 avx\nbugs\t\t: spectre_v1\n") == {"sse4_1", "avx"}


@pytest.mark.parametrize("text", ["", "processor\t: 0\n", "\x00\xff not a cpuinfo"])
def test_a_kernel_that_tells_nothing_is_not_taken_for_a_processor_without_features(
    tmp_path: Path, text: str
) -> None:
    assert told(tmp_path, text) is None


def test_a_file_that_is_hidden_tells_nothing(tmp_path: Path) -> None:
    assert processor.features(tmp_path / "absent") is None
