"""The GPU of a Jetson: the kernel shows its load, 0 to 1000, as a file in sysfs.

Where it lies differs from board to board and from JetPack to JetPack. The portable way is the entry of
/sys/class/devfreq whose device tree node is a GPU; the fixed paths are those of JetPack 4 (Nano), 5 (Xavier, Orin)
and 6. NVML answers NotSupported on an Orin; on a Thor it is the only one that answers (posture/exporter/nvml.py).
"""

from __future__ import annotations

from pathlib import Path

from posture.exporter.source import UnreadableError

CHIPS = frozenset({"gv11b", "gp10b", "ga10b", "gb10b"})
"""Names of device tree nodes that don't have the word gpu in them: Xavier, TX2, Orin, Thor."""
FIXED = (
    "devices/gpu.0/load",
    "devices/platform/gpu.0/load",
    "devices/platform/bus@0/17000000.gpu/load",
)
FULL = 1000.0


class JetsonGpu:
    """The load in sysfs; the file may appear late, or vanish: it is looked for again.

    Args:
        sys: where sysfs is mounted.
    """

    def __init__(self, sys: Path) -> None:
        self._sys = sys
        self._file: Path | None = None

    @property
    def about(self) -> str:
        """The file."""
        return str(self._file or self._sys)

    def read(self) -> float:
        """Return percent, 0 to 100.

        Raises:
            UnreadableError: there is no such file, or what is in it is no load.
        """
        if self._file is not None:
            try:
                return _load(self._file)
            except UnreadableError:
                self._file = None
        problems = []
        for path in self._candidates():
            try:
                load = _load(path)
            except UnreadableError as error:
                problems.append(str(error))
                continue
            self._file = path
            return load
        raise UnreadableError("; ".join(problems))

    def _candidates(self) -> list[Path]:
        devices = sorted((self._sys / "class" / "devfreq").glob("*/device"))
        return [device / "load" for device in devices if _is_gpu(device)] + [self._sys / path for path in FIXED]


def _is_gpu(device: Path) -> bool:
    """Say whether a device is a GPU: by its device tree node, or where a container hides that, by its own name."""
    try:
        name = (device / "of_node" / "name").read_text(encoding="ascii").rstrip("\0\n")
    except (OSError, UnicodeDecodeError):
        name = device.resolve().name.rpartition(".")[2]  # 17000000.ga10b
    return name in CHIPS or "gpu" in name


def _load(path: Path) -> float:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not text.isdecimal() or int(text) > FULL:
        raise UnreadableError(f"{path}: {text[:20]!r} is no load; accepted: 0 to {FULL:.0f}")
    return int(text) / FULL * 100
