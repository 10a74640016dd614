#!/usr/bin/env python3
"""kustomize, which renders deploy/: built once from kustomize/go.mod and kept outside the checkout.

python3 tests/support/kustomize_tool.py     # builds it if it is missing (half a minute), says where it is
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from go_tools import BinariesMissingError, GoTools

KUSTOMIZE = GoTools(
    Path(__file__).resolve().parent / "kustomize",
    "kustomize",
    "kustomize: half a minute on two cores, once",
    ("kustomize",),
)


def render(folder: Path) -> list[dict[str, Any]]:
    """Return the objects that ``kubectl apply -k`` would apply; without kustomize skip the test, or fail in CI."""
    try:
        program = KUSTOMIZE.ensure() / "kustomize"
    except BinariesMissingError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    done = subprocess.run(
        [str(program), "build", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns of what is deprecated"
    return list(yaml.safe_load_all(done.stdout))


if __name__ == "__main__":
    try:
        print(KUSTOMIZE.ensure())
    except BinariesMissingError as error:
        sys.exit(f"error: {error}")
