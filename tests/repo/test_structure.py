"""The tree keeps its shape: arrows run one way, nothing forbidden is in a file."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PURE = {"rules", "state", "lateness", "planner", "learning", "debounce"}
ALLOWED_IN_PURE = {"errors", "rules", "fleet", "planner"}
STANDARD_IO = {"os", "socket", "subprocess", "requests", "sqlite3", "paho", "cv2", "psycopg", "time", "random"}


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "random" and {alias.name for alias in node.names} == {"Random"}:
                continue  # the type alone: randomness is passed in
            names |= {
                f"{node.module}.{alias.name}" if node.module == "posture" else node.module for alias in node.names
            }
    return names


@pytest.mark.parametrize("module", sorted(PURE))
def test_a_pure_module_imports_no_input_or_output(module: str) -> None:
    imported = imports_of(ROOT / "posture" / f"{module}.py")
    ours = {name.split(".")[1] for name in imported if name.startswith("posture.")}
    assert ours <= ALLOWED_IN_PURE
    assert not {name.split(".")[0] for name in imported} & STANDARD_IO


def test_no_module_of_the_package_imports_a_script() -> None:
    # what is generated from KEDA's contract stands beside the scripts, and is none
    scripts = {path.stem for path in ROOT.glob("*.py") if "_pb2" not in path.stem}
    for path in (ROOT / "posture").glob("*.py"):
        assert not {name.split(".")[0] for name in imports_of(path)} & scripts, path.name


def test_each_analyzer_script_names_its_own_stream() -> None:
    scripts = sorted(ROOT.glob("Images_From_Pi*.py"))
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
