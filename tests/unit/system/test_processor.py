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


@pytest.mark.parametrize(
    ("text", "model"),
    [
        pytest.param(RASPBERRY_PI_4, "Cortex-A72", id="ARM"),
        pytest.param(
            "CPU implementer\t: 0x41\nCPU part\t: 0xd05\n\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n",
            "Cortex-A55 + Cortex-A76",
            id="two kinds of cores",
        ),
        pytest.param("CPU implementer\t: 0x4e\nCPU part\t: 0x004\n", "Carmel", id="NVIDIA's core of Xavier"),
        pytest.param("model name\t: ARMv8 Processor rev 3 (v8l)\n" + RASPBERRY_PI_4, "Cortex-A72", id="ARM, both"),
        pytest.param("CPU implementer\t: 0x61\nCPU part\t: 0x022\n", "implementer 0x61, part 0x022", id="unknown"),
        pytest.param("model name\t: AMD EPYC\nflags\t: avx\n" * 2, "AMD EPYC", id="x86"),
        pytest.param("", "", id="nothing told"),
    ],
)
def test_a_processor_has_the_name_that_people_know_it_by(tmp_path: Path, text: str, model: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert processor.name(path) == model


def test_a_board_is_named_by_its_device_tree(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"NVIDIA Jetson Nano Developer Kit\0")
    assert processor.board(path) == "NVIDIA Jetson Nano Developer Kit"
    assert processor.board(tmp_path / "absent") == ""
