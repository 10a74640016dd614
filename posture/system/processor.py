"""What this machine's processor is and is able to do, as its kernel tells."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
DEVICE_TREE = Path("/proc/device-tree/model")
"""Where ARM boards name themselves; PCs have none."""
CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd0e"): "Cortex-A76AE",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd83"): "Neoverse-V3AE",
    ("0x4e", "0x003"): "Denver 2",
    ("0x4e", "0x004"): "Carmel",
}
"""Implementer and part of ARM cores, as in Linux' arch/arm64/include/asm/cputype.h: 0x41 is Arm, 0x4e NVIDIA."""


def features(cpuinfo: Path = CPUINFO) -> frozenset[str] | None:
    """Return the names of the instruction sets that every core has: ``Features`` on ARM, ``flags`` on x86.

    None where the kernel doesn't tell: another operating system, or a container that hides the file.
    """
    pairs = [line.partition(":") for line in _lines(cpuinfo)]
    cores = [frozenset(names.split()) for key, _, names in pairs if key.strip() in {"Features", "flags"}]
    return frozenset.intersection(*cores) if cores else None


def _lines(cpuinfo: Path) -> list[str]:
    try:
        return cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def name(cpuinfo: Path = CPUINFO) -> str:
    """Return the processor's model, such as ``Cortex-A72``, of several kinds of cores all; empty if unknown."""
    fields: dict[str, list[str]] = {}
    for key, _, value in (line.partition(":") for line in _lines(cpuinfo)):
        fields.setdefault(key.strip(), []).append(value.strip())
    parts = zip(fields.get("CPU implementer", []), fields.get("CPU part", []), strict=False)
    cores = [CORES.get(core, f"implementer {core[0]}, part {core[1]}") for core in parts]
    found = cores or fields.get("model name", [])  # which on ARM says no more than ARMv8
    return " + ".join(dict.fromkeys(found))


def board(device_tree: Path = DEVICE_TREE) -> str:
    """Return the board's name, such as ``Raspberry Pi 4 Model B Rev 1.4``; empty where no device tree is."""
    try:
        return device_tree.read_text(encoding="utf-8", errors="replace").rstrip("\0\n")
    except OSError:
        return ""
