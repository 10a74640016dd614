"""ARM machines: a Debian, our Python packages, this checkout, and the name of a processor.

A machine's file system is a stack of folders that are made once and kept by the hash of what they are made of:
Debian's packages below, unpacked by mmdebstrap and not configured, which needs no emulation; above it what pip
installs from here for that architecture. What a program writes is in memory, and gone when it ends, but for the
test's own folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulation import CACHE, SUITE, mirror
from locks import locked
from servers import find_program

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
PYTHON_VERSION = "3.11"
"""Debian 12's."""
VENV = "/opt/venv"
PYTHON = f"{VENV}/bin/python3"
SITE = f"{VENV}/lib/python{PYTHON_VERSION}/site-packages"
KEPT_S = 14 * 86_400
"""Folders that no test has used for so long are removed."""
LIBRARIES = ("libegl1", "libgl1", "libgles2", "libglib2.0-0")
WHEELS = {
    "amd64": [f"manylinux{glibc}_x86_64" for glibc in ("2014", "_2_17", "_2_24", "_2_27", "_2_28")],
    "arm64": [f"manylinux{glibc}_aarch64" for glibc in ("2014", "_2_17", "_2_24", "_2_27", "_2_28")],
    "armhf": [f"manylinux{glibc}_armv7l" for glibc in ("2014", "_2_17", "_2_31")],
}

_MOUNT = """\
set -e
place=$1 layers=$2 shared=$3
shift 3
mount -t tmpfs tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay overlay -o "lowerdir=$layers,upperdir=$place/upper,workdir=$place/work" "$place/root"
cd "$place/root"
mkdir -p proc sys dev tmp
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount --rbind /dev dev
IFS=:
for folder in $shared; do
    mkdir -p ".$folder"
    mount --bind "$folder" ".$folder"
done
unset IFS
exec chroot . "$@"
"""
# mediapipe ends without /proc and /sys; the name of a folder is the same inside and outside.


@dataclass(frozen=True)
class Machine:
    """A processor and a file system.

    Attributes:
        processor: as qemu names it: cortex-a72 is a Raspberry Pi 4's.
        layers: folders of its file system, the uppermost first.
        place: an empty folder, where processes mount their file system, each for itself alone.
        shared: folders that it has from here, beside the checkout.
    """

    processor: str
    layers: Sequence[Path]
    place: Path
    shared: Sequence[Path] = ()

    def command(self, *command: str | Path) -> list[str]:
        """Return the command that runs a command there, in the process that it is started as."""
        # OpenBLAS: its idle threads spin, which costs nothing but under emulation
        chosen = ["env", "-u", "LD_LIBRARY_PATH", f"QEMU_CPU={self.processor}", "OPENBLAS_NUM_THREADS=1"]
        return [
            *chosen, "unshare", "--mount", "sh", "-c", _MOUNT, "sh",
            str(self.place), ":".join(map(str, self.layers)), ":".join(map(str, (ROOT, *self.shared))),
            *map(str, command),
        ]  # fmt: skip

    def run(self, *command: str | Path, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")}
        return subprocess.run(
            self.command(*command), env=env, capture_output=True, text=True, timeout=timeout_s, check=False
        )


def debian(architecture: str, *packages: str) -> Path:
    """Return Debian with Python and some packages."""
    include = ",".join(("python3", *packages))

    def make(folder: Path) -> None:
        _run(
            find_program("mmdebstrap", "mmdebstrap"), f"--arch={architecture}", "--variant=extract",
            f"--include={include}", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            "--aptopt=Acquire::Languages none", "--dpkgopt=path-exclude=/usr/share/doc/*", SUITE, folder, mirror(),
        )  # fmt: skip
        if sys.version_info[:2] == tuple(map(int, PYTHON_VERSION.split("."))):
            library = f"/usr/lib/python{PYTHON_VERSION}"
            _run(sys.executable, "-m", "compileall", "-qq", "-s", folder, f"{folder}{library}", status=(0, 1))

    return _layer(f"debian-{architecture}", [SUITE, include], make)


def packages(architecture: str, role: str, folder: str = SITE) -> Path:
    """Return what pip installs of ``requirements/<role>.txt`` into a folder of a virtual environment."""
    pins = REQUIREMENTS / f"{role}.txt"

    def make(layer: Path) -> None:
        venv = layer / VENV.lstrip("/")
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python3").symlink_to("/usr/bin/python3")
        # on 32-bit ARM PyYAML is Debian's
        theirs = "true" if architecture == "armhf" else "false"
        (venv / "pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = {theirs}\n")
        _run(*pip_install(architecture), "--target", layer / folder.lstrip("/"), "-r", pins)

    return _layer(f"{role}-{architecture}", [pins.read_text(), folder], make)


def pip_install(architecture: str) -> list[str]:
    """Return the command that installs pinned packages for another architecture."""
    tags = [f"--platform={platform}" for platform in WHEELS[architecture]]
    tags += [f"--abi={abi}" for abi in (f"cp{PYTHON_VERSION.replace('.', '')}", "abi3", "none")]
    return [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--require-hashes",
        "--no-deps", "--only-binary=:all:", f"--python-version={PYTHON_VERSION}", "--implementation=cp", *tags,
    ]  # fmt: skip


def _layer(name: str, made_of: list[str], make: Callable[[Path], None]) -> Path:
    """Return a folder that is made if there is none of these ingredients yet."""
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
    folder = CACHE / "layers" / f"{name}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / f"{name}.lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE, prefix=f"{name}-") as unfinished:
                made = Path(unfinished) / "layer"
                make(made)
                os.utime(made)  # its own is that of Debian's release, too old for the run beside it
                made.rename(folder)
        os.utime(folder)
    for old in filter(_is_old, folder.parent.iterdir()):
        with locked(CACHE / f"{old.name.rpartition('-')[0]}.lock"):
            if _is_old(old):  # nobody has begun to use it while we waited for the lock
                shutil.rmtree(old, ignore_errors=True)
    return folder


def _is_old(folder: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # the run beside has removed it
        return time.time() - folder.stat().st_mtime > KEPT_S
    return False


def _run(*command: str | Path, status: Sequence[int] = (0,)) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode in status, f"{command}: {done.stderr[-3000:]}"
