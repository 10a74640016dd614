"""publish_images.py as a user runs it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from farm import ROOT


@contextlib.contextmanager
def publishing(
    tmp_path: Path, broker: int | str, *flags: str, python: Sequence[str] = (sys.executable,), **settings: str
) -> Iterator[subprocess.Popen[str]]:
    """publish_images.py as a process; ``broker`` is a port here, or an address."""
    command = [
        *python, str(ROOT / "publish_images.py"), "--pi-id", "pi1",
        "--broker", broker if isinstance(broker, str) else f"127.0.0.1:{broker}",
        "--spool", str(tmp_path / "spool"), "--json", *flags,
    ]  # fmt: skip
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")} | settings
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def result_of(process: subprocess.Popen[str], timeout_s: float = 300) -> tuple[int, dict[str, int], str]:
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, json.loads(out.splitlines()[-1]) if out else {}, err


def published(tmp_path: Path, broker: int | str, *flags: str, **settings: str) -> tuple[int, dict[str, int], str]:
    with publishing(tmp_path, broker, *flags, **settings) as camera:
        return result_of(camera)
