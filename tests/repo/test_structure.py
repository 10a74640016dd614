"""The tree keeps its shape: arrows run one way, nothing forbidden is in a file."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_CHANCE = ("posture/planning", "posture/verdict", "posture/scaler/debounce.py")
"""Where randomness is passed in. The other rules for these modules are import-linter's, in pyproject.toml."""


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the rules of a folder's pyproject.toml on the package beside it."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"],
        cwd=folder, env={"COLUMNS": "300", "PATH": ""}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_who_imports_whom_follows_the_rules() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "rule"),
    [
        pytest.param("analyzer/app", "import posture.scaler.server", "Imports run one way", id="between programs"),
        pytest.param("settings/table", "import posture.kube.labels", "Imports run one way", id="upwards"),
        pytest.param("planning/model", "import time", "No input, output, clock or chance", id="clock in a plan"),
        pytest.param("verdict/backlog", "import os", "No input, output, clock or chance", id="system in a verdict"),
        pytest.param(
            "scaler/debounce", "import socket", "No input, output, clock or chance", id="network in debounce"
        ),
        pytest.param(
            "store/base", "import numpy", "Pictures only where pictures are handled", id="numpy in a store"
        ),
        pytest.param(
            "camera/spool", "import numpy", "A camera needs OpenCV and numpy only", id="numpy in a camera"
        ),
        pytest.param(
            "dashboard/words", "import numpy", "Pictures only where pictures are handled", id="numpy in the page"
        ),
        pytest.param("balancer/loop", "import grpc", "gRPC only in scaler", id="gRPC in the balancer"),
        pytest.param("kube/kinds", "import posture.kube.client", "No import cycle", id="cycle in a package"),
        pytest.param("new/__init__", "", "Imports run one way", id="package without a layer"),
    ],
)
def test_a_broken_rule_is_named(tmp_path: Path, module: str, line: str, rule: str) -> None:
    shutil.copytree(ROOT / "posture", tmp_path / "posture", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "posture" / f"{module}.py"
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [text for text in done.stdout.splitlines() if text.endswith(" BROKEN")]
    assert any(text.startswith(rule) for text in broken), done.stdout


def imports_of(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each module that a file imports, with the names that are taken from it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, tuple(alias.name for alias in node.names)


@pytest.mark.parametrize("place", WITHOUT_CHANCE)
def test_randomness_is_passed_in(place: str) -> None:
    """The type alone may be imported, and it is not instantiated."""
    found = ROOT / place
    for path in [found] if found.is_file() else sorted(found.rglob("*.py")):
        for module, names in imports_of(path):
            assert module.partition(".")[0] not in {"random", "secrets", "uuid"} or names == ("Random",), path
        calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        assert "Random" not in {function.id for function in calls if isinstance(function, ast.Name)}, path


def test_no_module_of_the_package_imports_a_script() -> None:
    # what is generated from KEDA's contract stands beside the scripts, and is none
    scripts = {path.stem for path in ROOT.glob("*.py") if "_pb2" not in path.stem}
    for path in (ROOT / "posture").rglob("*.py"):
        assert not {module.partition(".")[0] for module, _ in imports_of(path)} & scripts, path


def test_no_script_imports_a_script() -> None:
    scripts = {path.stem: path for path in ROOT.glob("*.py") if "_pb2" not in path.stem}
    for path in scripts.values():
        assert not {module.partition(".")[0] for module, _ in imports_of(path)} & scripts.keys(), path


def test_each_analyzer_script_names_its_own_stream() -> None:
    scripts = sorted(ROOT.glob("Images_From_Pi?*.py"))
    assert len(scripts) >= 2
    for script in scripts:
        number = script.stem.removeprefix("Images_From_Pi")
        assert f'PI_ID = "pi{number}"' in script.read_text()


def test_cv2_comes_from_one_package_only() -> None:
    for requirements in (ROOT / "requirements").glob("*.txt"):
        lines = requirements.read_text().splitlines()
        assert len([line for line in lines if line.startswith("opencv")]) <= 1, requirements.name
        assert not [line for line in lines if "://" in line], requirements.name


def test_no_credential_and_no_shell_is_in_a_tracked_file() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "Makefile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    for name in listed.stdout.split():
        text = (ROOT / name).read_text()
        if name != "tests/repo/test_structure.py":
            assert "shell=True" not in text, name
            assert "pkill" not in text, name


def test_a_file_that_the_package_speaks_of_is_there() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    there = {Path(name).name for name in listed.split()}
    for path in sorted((ROOT / "posture").rglob("*.py")):
        spoken_of = re.findall(r"(?<![\w/.*{-])(?:[\w-]+/)*([\w-]+\.(?:py|md))\b", path.read_text())
        assert set(spoken_of) <= there, path.relative_to(ROOT)
