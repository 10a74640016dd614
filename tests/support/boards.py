"""Trees of files as the kernel of each board shows them, for the exporter's --sys and --proc."""

from __future__ import annotations

from pathlib import Path

DEVFREQ = {
    "TX2": ("17000000.gp10b", "gp10b"),
    "Xavier": ("17000000.gv11b", "gv11b"),
    "Orin, JetPack 5": ("17000000.ga10b", "ga10b"),
    "Orin, JetPack 6": ("17000000.gpu", "gpu"),
}
"""Board -> the name of its entry of /sys/class/devfreq, and of its node in the device tree."""
FIXED = {
    "Nano": "devices/gpu.0/load",
    "Xavier and Orin by their platform device": "devices/platform/gpu.0/load",
    "Orin, JetPack 6, by its bus": "devices/platform/bus@0/17000000.gpu/load",
}
"""Board -> where its load lies when devfreq does not name it."""


def devfreq(sys: Path, entry: str, name: str, *, hidden: bool = False) -> Path:
    """Make an entry of devfreq as the kernel does, with links; return the file of the load.

    Args:
        sys: where sysfs is to be.
        entry: the device's name.
        name: of its node in the device tree.
        hidden: as in a container, where /sys/firmware is masked.
    """
    device = sys / "devices" / "platform" / entry
    (device / "devfreq" / entry).mkdir(parents=True)
    node = sys / "firmware" / "devicetree" / entry
    if not hidden:
        node.mkdir(parents=True)
        (node / "name").write_text(f"{name}\0")
    (device / "of_node").symlink_to(node)
    (device / "devfreq" / entry / "device").symlink_to("../..")
    (sys / "class" / "devfreq").mkdir(parents=True, exist_ok=True)
    (sys / "class" / "devfreq" / entry).symlink_to(device / "devfreq" / entry)
    return device / "load"


def proc(folder: Path, busy: int, idle: int, *, iowait: int = 0, guest: int = 0) -> None:
    """Write /proc/stat of a machine with one processor that has been busy and idle for so many ticks."""
    folder.mkdir(exist_ok=True)
    times = f"{busy} 0 0 {idle} {iowait} 0 0 0 {guest} 0"
    (folder / "stat").write_text(f"cpu  {times}\ncpu0 {times}\nintr 1 2 3\nctxt 5\n")
