#!/usr/bin/env python3
"""SeaweedFS, the pictures' server of deploy/stack: built once from seaweedfs/go.mod and kept outside the checkout.

    python3 tests/support/seaweedfs.py     # builds it if it is missing (ten minutes), says where it is

That takes too long for every run of the tests: those that need it are skipped until somebody has built it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from go_tools import BinariesMissingError, GoTools

SEAWEEDFS = GoTools(
    Path(__file__).resolve().parent / "seaweedfs",
    "seaweedfs",
    "SeaweedFS: ten minutes on two cores, once",
    ("weed",),
)


def program() -> Path:
    """``weed``; where it is not built, skip the test."""
    if SEAWEEDFS.missing():
        pytest.skip("SeaweedFS is not built: python3 tests/support/seaweedfs.py")
    return SEAWEEDFS.folder() / "weed"


if __name__ == "__main__":
    try:
        print(SEAWEEDFS.ensure())
    except BinariesMissingError as error:
        sys.exit(f"error: {error}")
