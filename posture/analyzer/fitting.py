"""The mediapipe that this machine's processor can run.

Since 1.0 its packages are compiled for newer processors, and look for what they need when they are loaded: on an
older one they end the process with SIGILL. So it is looked for here, before. Processors of ARMv8.0 get the last
version that runs there, from a folder of its own that lies beside the other packages; docs/arm.md.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from pathlib import Path

from posture.errors import UserError
from posture.system import processor

NEEDS = {
    "aarch64": ("aes", "asimddp", "asimdrdm", "atomics", "crc32", "fphp", "lrcpc", "sha2"),
    "x86_64": ("aes", "avx", "cx16", "pclmulqdq", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"),
}
"""Machine -> what mediapipe 1.x looks for, by the kernel's names; tests/arm compares them with its library."""
FIRST_WITH_NEEDS = 1
"""The first major version that was compiled so."""
BOARDS = {
    "aarch64": "Raspberry Pi 5, Jetson Orin and newer ones have it. On Raspberry Pi 3 and 4, Jetson Nano, TX2 and "
    "Xavier install the older mediapipe beside it: python3 packages.py mediapipe (docs/arm.md)",
    "x86_64": "Intel's Core and Xeon since 2013 and AMD's Ryzen have it (docs/arm.md)",
}


def lacking(cpuinfo: Path = processor.CPUINFO, machine: str = "") -> list[str]:
    """Return what mediapipe 1.x needs and this processor has not; nothing where the kernel doesn't tell."""
    has = processor.features(cpuinfo)
    return [] if has is None else [name for name in NEEDS.get(machine or platform.machine(), ()) if name not in has]


def folder_of_older_packages() -> Path:
    """Where the older mediapipe, and what it needs beside it, is installed for processors of ARMv8.0."""
    return Path(sys.prefix) / "armv8.0"


def prefer_fitting_packages() -> None:
    """Let the older mediapipe be found first where the processor needs it; call it before numpy is imported."""
    older = str(folder_of_older_packages())
    if older not in sys.path and Path(older).is_dir() and lacking():
        sys.path.insert(0, older)


def check_that_mediapipe_runs_here() -> None:
    """Look before it is loaded whether it can be.

    Raises:
        UserError: with what this processor lacks, and which boards have it.
    """
    if not (names := lacking()):
        return
    try:
        version = importlib.metadata.version("mediapipe")
    except importlib.metadata.PackageNotFoundError:
        return
    if int(version.partition(".")[0]) >= FIRST_WITH_NEEDS:
        raise UserError(
            f"mediapipe {version} can't run on this processor, which lacks {', '.join(names)}. "
            f"{BOARDS[platform.machine()]}"
        )
