"""Each command in README's blocks is found by the tests that type it; what drifts is seen here in seconds."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import documented_steps
import pytest
from documented_steps import README, SERVICE_STEPS
from typed import blocks_of

from posture.lifecycle.setup.cameras import install_line

TESTS = Path(__file__).resolve().parents[1]
TYPED_BY = {
    "bare/test_two_commands.py": [
        *("PREPARATION", "RUN", "TEST", "PICTURE", "PROBE", "SIMULATION", "PART_OF_THE_TESTS"),
    ],
    "bare/test_documented_steps.py": ["BROKER_STEPS", "ANALYZER_STEPS", "SERVICE_STEPS", "BY_HAND", "REMOVAL"],
    "e2e/test_stack.py": ["STACK", "ENVIRONMENT", "SET_UP"],
    "e2e/stack.py": ["BRING_UP"],
    "repo/test_containers.py": ["COMPOSE_UP", "COMPOSE_SHOWS", "COMPOSE_DOWN"],
    "repo/test_stack_database.py": ["COPY_DATABASE", "PUT_COPY_BACK"],
}
NAMES = [name for names in TYPED_BY.values() for name in names]


def steps(name: str) -> list[str]:
    return str(getattr(documented_steps, name)).splitlines()


def test_each_line_of_readmes_blocks_is_typed_by_a_test() -> None:
    typed = {line for name in NAMES for line in steps(name)}
    blocks = [block for block in blocks_of(README, "# Posture Farm") if "+----" not in block]  # the drawing
    assert [line for block in blocks for line in block.splitlines() if line not in typed] == []


@pytest.mark.parametrize("test", TYPED_BY)
def test_what_is_said_to_type_a_command_has_it(test: str) -> None:
    source = (TESTS / test).read_text()
    assert [name for name in TYPED_BY[test] if name not in source] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_documented_step_is_something_that_a_shell_takes(name: str) -> None:
    done = subprocess.run(["bash", "-n"], input="\n".join(steps(name)), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_line_that_setup_farm_prints_for_a_camera_is_readmes() -> None:
    (line,) = SERVICE_STEPS.splitlines()
    assert shlex.join(install_line("pi1", "mqtt://192.0.2.10:1883")) == line
