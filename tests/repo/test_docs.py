"""The documentation against the code: settings, flags, files, links, commands."""

from __future__ import annotations

import functools
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from posture import __version__
from posture.lifecycle.setup import kept
from posture.settings import loading, streams
from posture.settings import table as config
from posture.verdict.rule_sets import RULE_SETS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FLAGS = (DOCS / "flags.md").read_text()
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
SCRIPTS = [
    "Images_From_Pi.py",
    "Images_From_Pi1.py",
    "Images_From_Pi2.py",
    "publish_images.py",
    "run_local.py",
    "build_and_push.py",
    "stop.py",
    "broker_identities.py",
    "dashboard.py",
    "patch_scaledjob.py",
    "cpu_monitor_and_offload.py",
    "gpu_balancer.py",
    "report.py",
    "simulate.py",
]
MADE = {
    *("last_node.txt", "docker-compose.override.yml", "posture-job-hall-7.yaml"),
    "pictures-from-before-this-file-stay.txt",
    "classes.yaml",
}
"""Files that running the farm, its operator, or a documented command makes."""
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.glob("*.md")),
    *(path for folder in ("bench", "models", "samples", "tests") for path in sorted((ROOT / folder).rglob("*.md"))),
]
each_page = pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
PYTHON = re.compile(r"(?:\S*/)?python3?")
COMMAND = re.compile(r"(?:[A-Z_0-9]+=\S* )*(?:\S*/)?(?:python3?|make|kubectl|docker) ")


def test_the_page_of_settings_is_what_its_command_makes() -> None:
    made = runpy.run_path(str(DOCS / "settings.py"))["page"]()
    assert (DOCS / "settings.md").read_text() == made, "run: python3 docs/settings.py"
    for section, name, _ in config.all_settings():
        assert made.count(f"\n| `{section}.{name}`") == 1


def test_no_documented_variable_is_invented() -> None:
    known = {config.environment_name(section, name) for section, name, _ in config.all_settings()}
    known |= {*loading.MAPS.values(), streams.VARIABLE, kept.OPERATOR_PASSWORD, *kept.OF_DATABASE}
    for page in PAGES:
        mentioned = re.findall(r"POSTURE_[A-Z][A-Z_]*[A-Z]", page.read_text())
        assert {name for name in mentioned if name.removesuffix("_FILE") not in known} <= known, page


@functools.cache
def flags_of(script: str) -> frozenset[str]:
    """Return the flags that a script's ``--help`` shows."""
    command = [sys.executable, str(ROOT / script), "--help"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd="/").stdout
    options = text[text.index("options:") :]
    lines = "\n".join(re.findall(r"^ {2}(-.*)$", options, re.M))
    return frozenset(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", lines))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_flags_of_a_script_are_documented_and_none_is_invented(script: str) -> None:
    part = next(part for part in FLAGS.split("\n## ") if f"`{script}`" in part.splitlines()[0])
    rows = re.findall(r"^\| (`-[^|]*)\|", part, re.M)
    documented = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", "\n".join(rows)))
    assert documented == flags_of(script)


def test_the_rule_sets_are_documented() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)`[^|]*\| ([^|]+?) \|", (DOCS / "rule-sets.md").read_text(), re.M))
    assert set(rows) == set(RULE_SETS) == set(config.RULE_SET_NAMES)
    for name in ("upright", "tutorial", "first-deployment"):
        assert rows[name] == RULE_SETS[name].good_when


def test_the_architecture_page_has_a_place_for_every_package_and_module_at_the_top() -> None:
    page = (DOCS / "architecture.md").read_text()
    table = page[page.index("| For |") : page.index("\n\n", page.index("| For |"))]
    named = sorted(re.findall(r"`posture/(\w+(?:/|\.py))`", table))
    packages = [f"{path.parent.name}/" for path in (ROOT / "posture").glob("*/__init__.py")]
    modules = [path.name for path in (ROOT / "posture").glob("*.py") if path.name != "__init__.py"]
    assert named == sorted(packages + modules)


@each_page
def test_a_file_that_is_named_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    named = set(re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|md|txt|sql|ya?ml|toml|jpg|conf))`", text))
    named |= set(re.findall(r"`((?:posture|docs|deploy|tests|requirements|bench|samples|models)/[\w./-]*)`", text))
    assert not {name for name in named - MADE if not ((ROOT / name).exists() or (page.parent / name).exists())}


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_an_internal_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file), target


def test_the_index_of_the_docs_has_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "README.md").read_text()))
    assert linked == {page.name for page in DOCS.glob("*.md")} - {"README.md"}


def commands_of(page: Path) -> list[list[str]]:
    """Return the commands of a page's code blocks and inline code, in words, without variables and comments."""
    text = page.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.M | re.S) + re.findall(r"^ {4}(\S.*)$", text, re.M)
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines() + re.findall(r"`([^`\n]+ [^`\n]+)`", prose)
    found = []
    for line in lines:
        for command in re.split(r" && | \| |; ", line):
            if not re.match(
                r"(?:[A-Z_0-9]+=\S* )*(?:\S*/)?(?:python3?|make|kubectl|docker|lint-imports) ", command
            ):
                continue
            words = shlex.split(command, comments=True)
            while re.match(r"[A-Z_0-9]+=", words[0]):
                words.pop(0)
            found.append(words)
    return found


@each_page
def test_a_documented_command_can_be_given(page: Path) -> None:
    for words in commands_of(page):
        if PYTHON.fullmatch(words[0]):
            check_python(words[1:])
        elif words[0] == "make":
            targets = [word for word in words[1:] if "=" not in word and word != "..."]
            assert all(re.search(rf"^{target}:", MAKEFILE, re.M) for target in targets), words
        elif words[:3] == ["kubectl", "apply", "-k"]:
            assert (ROOT / words[3] / "kustomization.yaml").exists(), words
        elif words[:2] == ["docker", "build"]:
            target = words[words.index("--target") + 1]
            assert re.search(rf"^FROM .* AS {target}$", (ROOT / "Dockerfile").read_text(), re.M | re.I), words


def check_python(words: list[str]) -> None:
    """Assert that there is such a script or module, and that a script of ours knows its flags."""
    if words[0] == "-m":
        name = words[1].replace(".", "/")
        assert words[1] in {"venv", "pytest"} or (ROOT / f"{name}.py").exists(), words
        return
    script = words[0]
    assert (ROOT / script).exists(), words
    flags = {word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
    if flags:
        assert flags <= flags_of(script), words


def test_the_readme_begins_with_a_small_picture_made_by_a_named_command() -> None:
    first_screen = "\n".join(README.splitlines()[:10])
    (name,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", first_screen)
    assert (ROOT / name).stat().st_size <= 400_000
    assert "`.venv/bin/python docs/picture.py`" in README


def test_the_readmes_file_table_has_every_script() -> None:
    table = README[README.index("| File |") :]
    for script in sorted(path.name for path in ROOT.glob("*.py")):
        assert f"`{script}`" in table


def test_the_readmes_two_commands_come_first() -> None:
    assert re.findall(r"^make (\w+)", README, re.M) == ["run", "test"]


@pytest.mark.parametrize("role", sorted(path.stem for path in (ROOT / "requirements").glob("*.txt")))
def test_requirements_are_pinned_with_hashes_and_name_no_host(role: str) -> None:
    text = (ROOT / "requirements" / f"{role}.txt").read_text()
    packages = re.split(r"\n(?=[A-Za-z0-9])", text.split("\n", 1)[1])
    assert all("==" in package and "--hash=sha256:" in package for package in packages)
    assert not re.search(r"https?://|--(?:extra-)?index-url|--find-links|--trusted-host", text)


@pytest.mark.parametrize(
    ("role", "packages"),
    [
        *((role, ["opencv-contrib-python"]) for role in ("analyzer", "local", "dev")),
        ("camera-video", ["opencv-python-headless"]),
        ("camera", []),
        ("camera-debian", []),
    ],
)
def test_cv2_comes_from_one_package_only(role: str, packages: list[str]) -> None:
    text = (ROOT / "requirements" / f"{role}.txt").read_text()
    assert re.findall(r"^opencv[\w-]*", text, re.M) == packages


def test_a_camera_with_debians_packages_gets_the_same_versions_of_the_others() -> None:
    everywhere, debian = (
        (ROOT / "requirements" / f"{role}.txt").read_text() for role in ("camera", "camera-debian")
    )
    (only,) = re.findall(r"^([\w-]+)==", debian, re.M)
    assert only == "paho-mqtt"
    assert debian.partition("\n")[2] in everywhere


def test_the_newest_version_of_the_changelog_is_what_the_scripts_say() -> None:
    numbers = re.findall(r"^## (\d+\.\d+\.\d+)\b", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert numbers[0] == __version__
