"""Which mediapipe a processor can run; tests/arm has it on emulated processors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from posture.analyzer import fitting

PI_3 = "fp asimd evtstrm crc32 cpuid"
JETSON_TX2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
JETSON_XAVIER = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm dcpop"
PI_5 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


def lacking(tmp_path: Path, features: str, machine: str = "aarch64") -> list[str]:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"Features\t: {features}\n")
    return fitting.lacking(cpuinfo, machine)


@pytest.mark.parametrize(
    ("features", "missing"),
    [
        (PI_3, ["aes", "asimddp", "asimdrdm", "atomics", "fphp", "lrcpc", "sha2"]),
        (JETSON_TX2, ["asimddp", "asimdrdm", "atomics", "fphp", "lrcpc"]),
        (JETSON_XAVIER, ["asimddp", "lrcpc"]),
        (PI_5, []),
    ],
    ids=["Raspberry Pi 3", "Jetson TX2", "Jetson Xavier", "Raspberry Pi 5"],
)
def test_what_a_board_lacks_is_known_from_what_its_kernel_tells(
    tmp_path: Path, features: str, missing: list[str]
) -> None:
    assert lacking(tmp_path, features) == missing


def test_an_x86_processor_without_avx_lacks_it_too(tmp_path: Path) -> None:
    goldmont = "sse sse2 pni pclmulqdq ssse3 cx16 sse4_1 sse4_2 popcnt aes"
    assert lacking(tmp_path, goldmont, "x86_64") == ["avx"]


def test_of_other_machines_and_hidden_processors_nothing_is_claimed(tmp_path: Path) -> None:
    assert lacking(tmp_path, "", "riscv64") == []
    assert fitting.lacking(tmp_path / "absent", "aarch64") == []


def test_this_machine_uses_the_mediapipe_that_is_pinned_for_newer_processors() -> None:
    if fitting.lacking():
        pytest.skip("this processor can't run it")
    fitting.prefer_fitting_packages()
    fitting.check_that_mediapipe_runs_here()
    assert str(fitting.folder_of_older_packages()) not in sys.path
