"""A bare Debian 12, as Raspberry Pi OS Lite is one: real systemd, sudo, a user pi, and nothing of ours.

Root file systems are made by mmdebstrap and kept under ~/.cache/posture-farm/bare; a test writes above one.
systemd-nspawn boots it on this machine's network, since apt and pip have to reach their packages.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pty
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from locks import locked
from servers import die_with_parent, find_program

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path.home() / ".cache" / "posture-farm" / "bare"
SUITE = "bookworm"
PACKAGES = ("ca-certificates", "dbus", "python3", "sudo", "systemd-sysv")
PI = (
    'chroot "$1" useradd --create-home --shell /bin/bash pi',
    'echo "pi ALL=(ALL) NOPASSWD: ALL" > "$1/etc/sudoers.d/010_pi-nopasswd"',
    'echo raspberrypi > "$1/etc/hostname"; echo "127.0.0.1 localhost raspberrypi" > "$1/etc/hosts"',
)
"""The user that Raspberry Pi OS has."""
OURS = (Path("/etc/resolv.conf"), Path("/etc/pip.conf"), Path("/etc/ssl/certs/ca-certificates.crt"))
"""How this machine reaches its packages."""
BOOT_S = 180.0
CHECKOUT = "/home/pi/posture-farm"


def root_file_system(architecture: str, *mirrors: str) -> Path:
    """Return a bare root file system; it is made if there is none of these packages yet.

    Args:
        architecture: Debian's name of it; its programs can be run here.
        mirrors: where its packages come from; mmdebstrap's own, if none is named.
    """
    made_of = "\n".join((SUITE, *PACKAGES, *PI))
    folder = CACHE / f"{architecture}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    with locked(CACHE / f"{folder.name}.lock"):
        if folder.exists():
            return folder
        command = [
            find_program("mmdebstrap", "mmdebstrap"), f"--arch={architecture}", "--variant=minbase",
            f"--include={','.join(PACKAGES)}", *(f"--customize-hook={hook}" for hook in PI), "--skip=check/qemu",
            SUITE, str(unfinished), *mirrors,
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


class BareDebian:
    """One machine.

    Attributes:
        root: its file system, as this machine sees it.
    """

    def __init__(self, init: int) -> None:
        self._init = init
        self.root = Path(f"/proc/{init}/root")

    def run(self, commands: str, *, user: str = "pi", folder: str = CHECKOUT, timeout_s: float = 1800) -> str:
        """Type commands, and return what they print; the first one that fails ends the test."""
        done = self.try_to_run(commands, user=user, folder=folder, timeout_s=timeout_s)
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{commands}\nended with status {done.returncode}:\n{said[-4000:]}"
        return said

    def try_to_run(
        self, commands: str, *, user: str = "pi", folder: str = CHECKOUT, timeout_s: float = 1800
    ) -> subprocess.CompletedProcess[str]:
        """Type commands that may fail."""
        inside = ["nsenter", "--target", str(self._init), "--all", "--root"]
        return subprocess.run(
            [*inside, "runuser", "--login", user, "--command", f"set -e; cd {folder}\n{commands}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def copy_checkout(self) -> None:
        """Give user pi what ``git clone`` gives, with what is not committed yet."""
        where = self.root / CHECKOUT.lstrip("/")
        with tempfile.TemporaryDirectory() as folder:  # git can't write to another machine's root
            clone = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), f"{folder}/clone"]
            done = subprocess.run(clone, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            shutil.copytree(f"{folder}/clone", where, symlinks=True)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name in filter(lambda name: (ROOT / name).is_file(), listed.split("\0")):
                archive.add(ROOT / name, name)
        packed.seek(0)
        with tarfile.open(fileobj=packed) as archive:
            archive.extractall(where, filter="data")
        self.run(f"chown -R pi:pi {CHECKOUT}", user="root", folder="/")


@contextlib.contextmanager
def booted(architecture: str, folder: Path) -> Iterator[BareDebian]:
    """A machine of this one's architecture, booted, with the checkout of user pi on it."""
    nspawn = find_program("systemd-nspawn", "systemd-container")
    start = (
        f"exec {nspawn} --directory=. --machine=posture-bare-{os.getpid()} --register=no --keep-unit "
        "--resolv-conf=off --console=interactive /lib/systemd/systemd"
    )
    with _started(root_file_system(architecture), folder, start, "run/systemd/private") as machine:
        machine.try_to_run("systemctl is-system-running --wait", user="root", folder="/", timeout_s=BOOT_S)
        machine.copy_checkout()
        yield machine


@contextlib.contextmanager
def entered(architecture: str, folder: Path, mirror: str) -> Iterator[BareDebian]:
    """A machine that this one can at most emulate; it is not booted: systemctl enables, and starts nothing."""
    mounts = "mount -t sysfs -o ro sysfs sys; mount --rbind /dev dev; mount -t proc proc proc"
    # chroot is a child of process 1: by another root than that one's systemctl knows where it is
    start = f"{mounts}; chroot . sleep infinity; :"
    with _started(root_file_system(architecture, mirror), folder, start, "home/pi/.profile") as machine:
        machine.copy_checkout()
        yield machine


@contextlib.contextmanager
def _started(base: Path, folder: Path, start: str, marker: str) -> Iterator[BareDebian]:
    """Start something in a root file system that takes what is written to it into a folder.

    Args:
        base: the root file system.
        folder: an empty one.
        start: a shell's commands, given in the root of that file system.
        marker: a file that only the machine's own root has.
    """
    for name in ("upper", "work", "merged"):
        (folder / name).mkdir()
    for path in filter(Path.exists, OURS):
        target = folder / "upper" / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    overlay = f"lowerdir={base},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    # in namespaces of its own: the overlay goes with the machine, and all of it ends with unshare
    command = [
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-e", "-c",
        f'mount -t overlay overlay -o "$0" "$1"; cd "$1"; {start}', overlay, str(folder / "merged"),
    ]  # fmt: skip
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=die_with_parent
    ) as process:
        os.close(theirs)
        threading.Thread(target=_drain, args=(ours,), daemon=True).start()
        try:
            yield BareDebian(_inside(process, marker))
        finally:
            process.kill()


def _inside(unshare: subprocess.Popen[bytes], marker: str) -> int:
    """Return the process, two below unshare, that has the machine's root."""
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline and unshare.poll() is None:
        for below in _children(unshare.pid):
            for child in _children(below):
                if Path(f"/proc/{child}/root/{marker}").exists():
                    return child
        time.sleep(0.05)
    raise AssertionError(f"the machine has not started; unshare's status is {unshare.poll()}")


def _children(process: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def _drain(console: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(console, 65_536):
            pass
    os.close(console)
