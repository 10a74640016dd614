"""Programs of ARM processors on this machine: qemu, registered with the kernel for as long as the tests run.

qemu 7, which Debian 12 has, crashes in mediapipe's threads. Where no newer one is installed, it is fetched from
Debian's backports and unpacked under the cache; nothing is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posture-farm" / "arm"
OLDEST_QEMU = 10
SUITE = "bookworm"
DEBIANS_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
# what an ELF file begins with: 64-bit or 32-bit, little-endian, a program or library, and the machine
MACHINES = {"aarch64": (r"\x02", r"\xb7"), "arm": (r"\x01", r"\x28")}


class EmulationMissingError(Exception):
    """ARM can't be emulated here; the message says why."""


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """Let this machine run programs for 64-bit and 32-bit ARM.

    The names hold our process id: test runs beside each other don't take each other's away.

    Raises:
        EmulationMissingError: qemu can't be had, or the kernel takes no registration.
    """
    if os.geteuid() != 0:
        raise EmulationMissingError("only root can register an emulator with the kernel")
    with tempfile.TemporaryDirectory(prefix="posture-binfmt-") as folder:
        binfmt = Path(folder)
        mounted = subprocess.run(
            ["mount", "-t", "binfmt_misc", "binfmt_misc", folder], capture_output=True, text=True, check=False
        )
        if mounted.returncode != 0:
            raise EmulationMissingError(f"the kernel registers no emulators: {mounted.stderr.strip()}")
        entries: list[Path] = []
        try:
            for machine, (bits, number) in MACHINES.items():
                name = f"posture-{machine}-{os.getpid()}"
                magic = r"\x7fELF" + bits + r"\x01\x01" + r"\x00" * 9 + r"\x02\x00" + number + r"\x00"
                mask = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"
                # P: it is told the name that the program was called by; F: it is opened now, so chroot finds it
                line = f":{name}:M::{magic}:{mask}:{find_qemu(machine)}:PF"
                try:
                    (binfmt / "register").write_text(line)
                except OSError as error:
                    raise EmulationMissingError(f"the kernel does not register qemu: {error}") from None
                entries.append(binfmt / name)
            yield
        finally:
            for entry in entries:
                entry.write_text("-1")
            subprocess.run(["umount", folder], check=True)


def find_qemu(machine: str) -> Path:
    """Return the emulator of a machine: this system's where it is new enough, or else the one from backports."""
    for name in (f"qemu-{machine}", f"qemu-{machine}-static"):
        if (found := shutil.which(name)) and _major_version(found) >= OLDEST_QEMU:
            return Path(found)
    folder = CACHE / "qemu"
    if not folder.is_dir():
        unfinished = CACHE / f"qemu.{os.getpid()}"
        try:
            _fetch_qemu(unfinished)
            with contextlib.suppress(OSError):  # another run was faster
                unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder / "usr" / "bin" / f"qemu-{machine}"


def _major_version(qemu: str) -> int:
    said = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)", said)
    return int(found[1]) if found else 0


def _fetch_qemu(folder: Path) -> None:
    """Unpack Debian's package, checked by apt as always; its own lists and settings stay as they are."""
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / "apt" / part).mkdir(parents=True)
    sources = folder / "apt" / "sources.list"
    sources.write_text(f"deb [signed-by={DEBIANS_KEYS}] {mirror()} {SUITE}-backports main\n")
    apt = [
        "apt-get", "-qq", "-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=/dev/null",
        "-o", f"Dir::State::Lists={folder}/apt/lists", "-o", f"Dir::Cache={folder}/apt/cache",
        "-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root",
    ]  # fmt: skip
    for command in (
        [*apt, "update"],
        [*apt, "download", "qemu-user"],
        ["sh", "-c", "dpkg-deb --extract qemu-user_*.deb . && rm -r apt qemu-user_*.deb"],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise EmulationMissingError(f"qemu {OLDEST_QEMU} can't be had: {done.stderr.strip()[-500:]}")


def mirror() -> str:
    """Return the address that this machine has Debian from.

    Raises:
        EmulationMissingError: it is no such Debian.
    """
    if shutil.which("apt-get") is None:
        raise EmulationMissingError(f"no qemu-user of version {OLDEST_QEMU} or newer is installed")
    # what it would fetch: that is known also where no lists are there yet
    command = ["apt-get", "update", "--print-uris"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(rf"^'(\S+)/dists/{SUITE}/InRelease'", told, re.M)
    if found is None:
        raise EmulationMissingError(f"apt has no source of Debian's {SUITE}; install qemu-user {OLDEST_QEMU}")
    return found[1]
