#!/usr/bin/env python3
"""What K3s brings and a bare control plane lacks: Services, names, kubectl, and a Prometheus that finds pods.

    python3 tests/support/node_services.py     # builds what is missing (three minutes), says where it is

Built once from node_services/go.mod and kept outside the checkout. Debian has a Prometheus, but one without
Kubernetes' discovery.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from go_tools import BinariesMissingError, GoTools

PROGRAMS = ("kube-proxy", "kubectl", "coredns", "prometheus")


def _name_coredns(_: str, built: Path) -> None:
    """Give it its name: go calls a program by the folder of its source."""
    (built / "node_services").rename(built / "coredns")


NODE_SERVICES = GoTools(
    Path(__file__).resolve().parent / "node_services",
    "node-services",
    "kube-proxy, kubectl, CoreDNS and Prometheus: three minutes on two cores, once",
    PROGRAMS,
    tags="remove_all_sd,enable_kubernetes_sd",
    finish=_name_coredns,
)


def folder() -> Path:
    """Where the programs are; where they can't be built, skip the test, or fail in CI."""
    try:
        return NODE_SERVICES.ensure()
    except BinariesMissingError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


if __name__ == "__main__":
    try:
        print(NODE_SERVICES.ensure())
    except BinariesMissingError as error:
        sys.exit(f"error: {error}")
