#!/usr/bin/env python3
"""The programs of the control plane, built once from go.mod and kept outside the checkout.

    python3 tests/cluster/binaries.py      # builds what is missing (about ten minutes, once), says where it is

tests/support/go_tools.py says where they are kept. ``POSTURE_CLUSTER_BIN`` names a folder that has them already.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

from go_tools import BinariesMissingError, GoTools  # noqa: E402 - found beside us first

__all__ = ["BinariesMissingError", "ensure", "folder", "missing"]

PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "etcd", "keda-operator")
BUILT_AS = {"server": "etcd", "operator": "keda-operator"}
"""go names a program after the last part of its path."""
CRDS = "crds"


def folder() -> Path:
    """Where the programs are kept, whether they are there or not."""
    given = os.environ.get("POSTURE_CLUSTER_BIN")
    return Path(given) if given else tools().folder()


def missing() -> list[str]:
    """The programs, and KEDA's CRDs, that the folder lacks."""
    here = folder()
    return [name for name in (*PROGRAMS, CRDS) if not (here / name).exists()]


def ensure() -> Path:
    """Return the folder with all of them; build them first if need be.

    Raises:
        BinariesMissingError: they are missing and can't be built here.
    """
    if "POSTURE_CLUSTER_BIN" not in os.environ:
        return tools().ensure()
    if missing():
        raise BinariesMissingError(f"POSTURE_CLUSTER_BIN={folder()} lacks {', '.join(missing())}")
    return folder()


def tools() -> GoTools:
    about = "the control plane and KEDA: about ten minutes on two cores, once"
    return GoTools(HERE, "cluster", about, (*PROGRAMS, CRDS), flags=linker_flags(), finish=finish)


def finish(go: str, built: Path) -> None:
    """Give the programs the names that people know, and put KEDA's CRDs beside them."""
    for name, better in BUILT_AS.items():
        (built / name).rename(built / better)
    shutil.copytree(module_folder(go, "github.com/kedacore/keda/v2") / "config/crd/bases", built / CRDS)


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


if __name__ == "__main__":
    try:
        print(ensure())
    except BinariesMissingError as error:
        sys.exit(f"error: {error}")
