"""ARM by emulation: `make arm`, and the part of it that is in the gate. A plain run of the tests leaves it out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import emulation
import long_tests
import machines
import pytest
from machines import LIBRARIES, Machine

HERE = Path(__file__).resolve().parent
WHICH = os.environ.get("ARM", "")
collect_ignore_glob = [] if WHICH else ["test_*.py"]
MakeMachine = Callable[..., Machine]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: only in a run of everything, ARM=all")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if WHICH != "all":
        long_tests.leave_out(config, items, HERE)


@pytest.fixture(scope="session")
def emulated() -> Iterator[None]:
    """The kernel runs ARM's programs."""
    try:
        with emulation.registered():
            yield
    except emulation.EmulationMissingError as error:
        pytest.fail(str(error)) if os.environ.get("CI") == "true" else pytest.skip(str(error))


@pytest.fixture
def analyzer_machine(emulated: None, tmp_path: Path) -> MakeMachine:
    """Makes a machine with what the analyzers' arm64 image has."""

    def make(processor: str, *, older_mediapipe: bool = True) -> Machine:
        layers = [machines.packages("arm64", "analyzer"), machines.debian("arm64", *LIBRARIES)]
        if older_mediapipe:
            layers.insert(0, machines.packages("arm64", "analyzer-armv8.0", f"{machines.VENV}/armv8.0"))
        return machine(processor, layers, tmp_path)

    return make


@pytest.fixture
def small_machine(emulated: None, tmp_path: Path) -> MakeMachine:
    """Makes a machine with a role's packages, without the libraries of pictures."""

    def make(processor: str, architecture: str, role: str, *debian: str) -> Machine:
        layers = [machines.packages(architecture, role), machines.debian(architecture, *debian)]
        return machine(processor, layers, tmp_path)

    return make


def machine(processor: str, layers: list[Path], tmp_path: Path) -> Machine:
    place = tmp_path / "machine"
    place.mkdir(exist_ok=True)
    return Machine(processor, layers, place, shared=(tmp_path,))
