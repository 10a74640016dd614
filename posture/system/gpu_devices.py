"""Whether this machine, or this container, has a GPU at all."""

from __future__ import annotations

from pathlib import Path

PATTERNS = ("dri/renderD*", "nvidia[0-9]*", "nvmap", "mali[0-9]*")
"""Below /dev: the kernel's graphics drivers, NVIDIA's own, that of a Jetson, and ARM's own."""


def gpu_devices(dev: Path = Path("/dev")) -> list[Path]:
    """Return the GPUs' device files; whether this user may open them, and a program can use them, is not said.

    Args:
        dev: where device files are.
    """
    return [path for pattern in PATTERNS for path in dev.glob(pattern)]
