"""README's first commands, typed by somebody who has a bare Debian and a clone of the repository.

`make test` is typed in full by `make bare BARE=all` alone: it takes the better part of an hour. Otherwise a part of
the tests is, as CONTRIBUTING.md names it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from bare_debian import BareDebian, booted
from documented_steps import ENVIRONMENT, PART_OF_THE_TESTS, PICTURE, PREPARATION, PROBE, RUN, SIMULATION, TEST

ALL_TESTS_S = 3 * 3600.0
NO_PASSWORD = Path("/etc/sudoers.d/010_pi-nopasswd")
ACCOUNT = re.compile(
    r"(pi\d): published (\d+), rows (\d+) \(Good (\d+), Bad (\d+), Unknown (\d+)\), pictures (\d+), lost (\d+)"
)

pytestmark = [
    pytest.mark.xdist_group("bare"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may boot a machine"),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareDebian]:
    """One that has nothing but Debian and a clone."""
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    with booted(architecture.stdout.strip(), tmp_path_factory.mktemp("bare")) as machine:
        yield machine


@pytest.fixture(scope="module")
def ready(machine: BareDebian) -> BareDebian:
    """The machine, as README's first line makes it."""
    machine.run(PREPARATION)
    return machine


def test_without_debians_venv_make_says_what_to_install(machine: BareDebian) -> None:
    machine.run("sudo apt-get update && sudo apt-get install -y make")
    # leaves half an environment behind, which make must not take for a whole one
    assert machine.try_to_run(ENVIRONMENT).returncode != 0
    done = machine.try_to_run(RUN)
    assert done.returncode != 0
    assert "Type: sudo apt-get install python3-venv\n" in done.stderr


def test_where_sudo_asks_for_a_password_make_prints_the_line_to_type_and_begins_nothing_long(
    ready: BareDebian,
) -> None:
    ready.run(f"mv {NO_PASSWORD} /root", user="root", folder="/")
    try:
        done = ready.try_to_run(RUN, timeout_s=300)
    finally:
        ready.run(f"mv /root/{NO_PASSWORD.name} {NO_PASSWORD.parent}", user="root", folder="/")
    assert done.returncode != 0
    assert "Type: sudo apt-get install libegl1 " in done.stderr
    assert "installing" not in done.stdout


def test_make_run_publishes_frames_that_all_become_rows_and_keeps_pictures(
    ready: BareDebian, tmp_path: Path
) -> None:
    said = ready.run(RUN)
    accounts = ACCOUNT.findall(said)
    assert [account[0] for account in accounts] == ["pi1", "pi2"], said
    (folder,) = {Path(path).parent for path in re.findall(r"^  (?:rows|summary) +(\S+)$", said, re.M)}
    # SQLite can't open what lies below another machine's root
    run = shutil.copytree(ready.root / folder.relative_to("/"), tmp_path / "run")
    with contextlib.closing(sqlite3.connect(run / "posture.db")) as db:
        rows = db.execute("SELECT pi_id, frame_id, filename FROM posture_log").fetchall()
    for stream, *figures in accounts:
        published, counted, *states, pictures, lost = map(int, figures)
        frames = [frame for pi_id, frame, _ in rows if pi_id == stream]
        assert published == counted == sum(states) == len(frames) == len(set(frames))
        assert published > 0
        assert lost == 0
        kept = {name for pi_id, _, name in rows if pi_id == stream and name}
        files = list(run.glob(f"analyzed_images/analyzed_images_from_{stream}/*.jpg"))
        assert {path.name for path in files} == kept
        assert len(files) == pictures > 0
        assert all(cv2.imread(str(path)) is not None for path in files)
    assert cv2.imread(str(run / "summary.png")) is not None


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(SIMULATION, id="simulate.py"),
        pytest.param(PROBE, id="probe", marks=pytest.mark.long),
        pytest.param(PICTURE, id="picture.py", marks=pytest.mark.long),
    ],
)
def test_what_readme_names_besides_runs_in_the_environment_of_make_run(ready: BareDebian, command: str) -> None:
    assert "error" not in ready.run(command)


def test_a_part_of_the_tests_runs_as_contributing_says(ready: BareDebian) -> None:
    said = ready.run(PART_OF_THE_TESTS)
    assert re.search(r"^=+ \d+ passed", said, re.M), said


@pytest.mark.long
def test_make_test_passes_for_somebody_who_is_not_root(ready: BareDebian) -> None:
    done = ready.try_to_run(TEST, timeout_s=ALL_TESTS_S)
    print("\n".join(re.findall(r"^(?:(?:SKIPPED|FAILED|ERROR) .*|=+ .* passed.*)$", done.stdout, re.M)))
    assert done.returncode == 0, done.stdout[-100_000:]
