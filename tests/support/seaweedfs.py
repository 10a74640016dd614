#!/usr/bin/env python3
"""SeaweedFS, the pictures' server of deploy/stack: built once from seaweedfs/go.mod and kept outside the checkout.

python3 tests/support/seaweedfs.py     # builds it if it is missing (some minutes), says where it is
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from go_tools import BinariesMissingError, GoTools

SEAWEEDFS = GoTools(
    Path(__file__).resolve().parent / "seaweedfs",
    "seaweedfs",
    "SeaweedFS: some minutes on two cores, once",
    ("weed",),
)


def folder() -> Path:
    """Where the program is; where it can't be built, skip the test, or fail in CI."""
    try:
        return SEAWEEDFS.ensure()
    except BinariesMissingError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


if __name__ == "__main__":
    try:
        print(SEAWEEDFS.ensure())
    except BinariesMissingError as error:
        sys.exit(f"error: {error}")
