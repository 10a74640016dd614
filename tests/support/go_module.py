"""Files of public Go modules, against which ours are checked; none of them is copied here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest


@cache
def folder_of(module: str, version: str) -> Path:
    """Where go keeps a module's files, fetched if need be; where they can't be, skip the test, or fail in CI."""
    go = shutil.which("go")
    if go is None:
        return _without(f"{module} is fetched by go, which is not installed")
    done = subprocess.run(
        [go, "mod", "download", "-json", f"{module}@{version}"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        return _without(f"{module}@{version}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return Path(json.loads(done.stdout)["Dir"])


def _without(reason: str) -> Path:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
