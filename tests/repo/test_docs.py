"""The documentation against the code: settings, flags, files, commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from posture.settings import gpu_queries
from posture.settings import table as config
from posture.verdict.rule_sets import RULE_SETS

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
README = (ROOT / "README.md").read_text()
SCRIPTS = [
    "Images_From_Pi1.py",
    "Images_From_Pi2.py",
    "publish_images.py",
    "run_local.py",
    "build_and_push.py",
    "stop.py",
    "cpu_monitor_and_offload.py",
    "gpu_balancer.py",
    "simulate.py",
]
MADE = {"last_node.txt", "docker-compose.override.yml"}
"""Files that running the farm, or its operator, makes."""
MINE = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return '"3.1.1"' if value == "3.1.1" else str(value)


@pytest.mark.parametrize(
    ("section", "name", "entry"),
    [pytest.param(*setting, id=f"{setting[0]}.{setting[1]}") for setting in config.all_settings()],
)
def test_a_setting_is_documented_as_the_code_has_it(section: str, name: str, entry) -> None:  # type: ignore[no-untyped-def]
    key = f"`{section}.{name}`"
    if entry.metadata["secret"]:
        key += " (secret: environment only)"
    default = "empty" if entry.default == "" else f"`{shown(entry.default)}`"
    about = entry.metadata
    row = (
        f"| {key} | `{config.environment_name(section, name)}` | {default} | {about['unit'] or '-'} "
        f"| {about['accepted']} | "
    )
    (why,) = (line.removeprefix(row) for line in OPERATIONS.splitlines() if line.startswith(row))
    assert len(why) > len("|  |")


def test_no_documented_setting_is_invented() -> None:
    keys = set(re.findall(r"^\| `(\w+\.\w+)`", OPERATIONS, flags=re.MULTILINE))
    assert keys == {f"{section}.{name}" for section, name, _ in config.all_settings()}
    known = {config.environment_name(section, name) for section, name, _ in config.all_settings()}
    known.add(gpu_queries.GPU_QUERIES_VARIABLE)
    for page in MINE:
        mentioned = re.findall(r"POSTURE_[A-Z][A-Z_]*[A-Z]", page.read_text())
        assert {name for name in mentioned if name.removesuffix("_FILE") not in known} <= known, page


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_flags_of_a_script_are_documented_and_none_is_invented(script: str) -> None:
    command = [sys.executable, str(ROOT / script), "--help"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd="/").stdout
    options = text[text.index("options:") :]
    actual = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", "\n".join(re.findall(r"^ {2}(-.*)$", options, re.M))))
    part = next(part for part in OPERATIONS.split("\n### ") if f"`{script}`" in part.splitlines()[0])
    rows = re.findall(r"^\| (`-[^|]*)\|", part.split("\n## ")[0], re.M)
    documented = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", "\n".join(rows)))
    assert documented == actual


def test_the_rule_sets_are_documented() -> None:
    part = OPERATIONS.split("## Rule sets")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([\w-]+)`[^|]*\| ([^|]+?) \|", part, re.M))
    assert set(rows) == set(RULE_SETS) == set(config.RULE_SET_NAMES)
    for name in ("upright", "tutorial", "first-deployment"):
        assert rows[name] == RULE_SETS[name].good_when


def test_the_architecture_page_has_a_place_for_every_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page[page.index("| For |") : page.index("\n\n", page.index("| For |"))]
    named = sorted(re.findall(r"`(\w+\.py)`", table))
    assert named == sorted(path.name for path in (ROOT / "posture").glob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in MINE])
def test_a_file_that_is_named_is_there(page: Path) -> None:
    named = set(re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|md|txt|sql|yaml|toml))`", page.read_text()))
    folders = (ROOT, ROOT / "posture")
    missing = {name for name in named - MADE if not any((folder / name).exists() for folder in folders)}
    assert not missing
    for target in re.findall(r"\]\(([^)#:]+)", page.read_text()):
        assert (page.parent / target).exists()


def test_the_readmes_file_table_has_every_script() -> None:
    table = README[README.index("| File |") :]
    for script in sorted(path.name for path in ROOT.glob("*.py")):
        assert f"`{script}`" in table


def test_the_readmes_make_commands_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(r"^make (\w+)", README, re.M)
    assert commands == ["run", "test"]
    for target in commands:
        assert re.search(rf"^{target}:", makefile, re.M)


@pytest.mark.parametrize("role", ["analyzer", "camera", "scheduler", "scheduler-image", "local", "dev"])
def test_requirements_are_pinned_with_hashes_and_name_no_host(role: str) -> None:
    text = (ROOT / "requirements" / f"{role}.txt").read_text()
    packages = re.split(r"\n(?=[A-Za-z0-9])", text.split("\n", 1)[1])
    assert len(packages) > 5
    assert all("==" in package and "--hash=sha256:" in package for package in packages)
    assert not re.search(r"https?://|--(?:extra-)?index-url|--find-links|--trusted-host", text)


@pytest.mark.parametrize("role", ["analyzer", "camera", "local", "dev"])
def test_cv2_comes_from_one_package_only(role: str) -> None:
    text = (ROOT / "requirements" / f"{role}.txt").read_text()
    assert re.findall(r"^opencv[\w-]*", text, re.M) == ["opencv-contrib-python"]
