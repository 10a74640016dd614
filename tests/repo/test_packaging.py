"""What is installed, and what the images get, has every package of the tree."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {"externalscaler_pb2", "externalscaler_pb2_grpc"}
WITHOUT_LIBRARIES = {
    "posture.errors",
    "posture.kube.labels",
    "posture.planning.offloads",
    "posture.verdict.backlog",
}
"""Modules that import the standard library alone; there are more."""

IMPORT_ALL = """\
import importlib, json, sys
found = {"imported": [], "failed": {}}
for name in sys.argv[1:]:
    try:
        found["imported"].append(importlib.import_module(name).__name__)
    except ImportError as error:
        found["failed"][name] = error.name
print(json.dumps(found))
"""
"""Prints which modules could be imported, and for each other one which import was missing."""


def modules_of_the_tree() -> set[str]:
    names = (path.relative_to(ROOT).with_suffix("").parts for path in (ROOT / "posture").rglob("*.py"))
    return {".".join(parts).removesuffix(".__init__") for parts in names}


def packages_of_the_tree() -> set[str]:
    return {path.parent.name for path in (ROOT / "posture").glob("*/__init__.py")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the checkout: setuptools leaves its build folder beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        [
            "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard",
            "--", "pyproject.toml", "README.md", "LICENSE", "*.py", "posture/dashboard/static",
        ],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.split("\0")):
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    source = str(folder / "source")
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), source)
    (built,) = folder.glob("*.whl")
    return built


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_wheel_has_every_module_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {Path(name) for name in archive.namelist() if name.endswith(".py")}
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    assert modules == modules_of_the_tree() | GENERATED
    assert {"analyzer", "balancer"} <= packages_of_the_tree()


def test_the_wheel_has_the_pages_files(wheel: Path) -> None:
    static = ROOT / "posture" / "dashboard" / "static"
    with zipfile.ZipFile(wheel) as archive:
        assert {str(path.relative_to(ROOT)) for path in static.rglob("*") if path.is_file()} <= set(
            archive.namelist()
        )


def test_every_module_of_the_wheel_is_importable_but_for_libraries(wheel: Path, tmp_path: Path) -> None:
    """In an environment that has nothing else, from a folder that has nothing either."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    (tmp_path / "elsewhere").mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), "-c", IMPORT_ALL, *sorted(modules_of_the_tree())],
        cwd=tmp_path / "elsewhere", env=environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["imported"]) >= WITHOUT_LIBRARIES
    assert packages_of_the_tree() <= {name.removeprefix("posture.") for name in found["imported"]}
    ours_or_pythons = {"posture", *GENERATED} | sys.stdlib_module_names
    broken = {name: missing for name, missing in found["failed"].items() if top(missing) in ours_or_pythons}
    assert broken == {}


def top(module: str | None) -> str:
    """The package that a failed import names; one that names none is a fault of our own."""
    return (module or "posture").partition(".")[0]


def test_the_images_get_every_module_and_script_that_they_run() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for path in (ROOT / "posture").rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        # Docker's ** stands for any number of folders, none included; fnmatch's * passes a slash
        assert any(fnmatch.fnmatch(name, pattern.replace("**/", "*")) for pattern in allowed), name
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", dockerfile, re.M | re.S))
    for image in ("analyzer", "scheduler"):
        assert "COPY posture posture\n" in stages[image]
    copied = {
        name for names in re.findall(r"^COPY ([\w. -]+) \./$", stages["scheduler"], re.M) for name in names.split()
    }
    assert copied == {f"{name}.py" for name in GENERATED} | {
        "cpu_monitor_and_offload.py", "gpu_balancer.py", "gpu_exporter.py",
    }  # fmt: skip
    assert copied <= set(allowed)
