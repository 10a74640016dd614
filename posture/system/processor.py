"""What this machine's processor is able to do, as its kernel tells."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def features(cpuinfo: Path = CPUINFO) -> frozenset[str] | None:
    """Return the names of the instruction sets that every core has: ``Features`` on ARM, ``flags`` on x86.

    None where the kernel doesn't tell: another operating system, or a container that hides the file.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    pairs = [line.partition(":") for line in lines]
    cores = [frozenset(names.split()) for key, _, names in pairs if key.strip() in {"Features", "flags"}]
    return frozenset.intersection(*cores) if cores else None
