"""The commands of README, CONTRIBUTING.md, docs/camera.md and docs/stack.md, and a machine to type them on.

Only the broker's address, its port, the picture source, and how long the camera's service waits at its end are
changed: the machine is in this one's network, and as busy. Each block of README has a name here, and
tests/repo/test_documented_steps.py knows which test types it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from bare_debian import CHECKOUT, BareDebian
from farm import ROOT, clip_jpegs
from typed import blocks_of, with_changes

README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
CAMERA, STACK_PAGE = ROOT / "docs" / "camera.md", ROOT / "docs" / "stack.md"
PREPARATION, RUN, TEST = blocks_of(README, "# Posture Farm")[0].splitlines()
"""On a machine that has nothing yet."""
PICTURE, PROBE, SIMULATION = re.findall(r"`(\.venv/bin/python [^`]+)`", README.read_text())
"""In the environment that ``make run`` has set up."""
PART_OF_THE_TESTS = blocks_of(CONTRIBUTING, "## Run and test")[1]
STACK, ENVIRONMENT, SET_UP, BRING_UP = blocks_of(README, "## A farm in a cluster")[0].splitlines()
COPY_DATABASE, PUT_COPY_BACK = blocks_of(STACK_PAGE, "## Backup and restore")[2].splitlines()
COMPOSE_UP, COMPOSE_SHOWS, COMPOSE_DOWN = blocks_of(README, "## Analyzers without a cluster")[0].splitlines()
BROKER_STEPS, ANALYZER_STEPS, SERVICE_STEPS = blocks_of(
    README, "### Broker, analyzers and cameras on machines of their own"
)
BY_HAND = blocks_of(CAMERA, "## By hand")[0]
REMOVAL = blocks_of(CAMERA, "## As a service")[1]
PICTURES = "/srv/pictures"
COUNT = 10
"""Pictures in that folder."""


def give_pictures(machine: BareDebian) -> None:
    """Put a folder of pictures on a machine, which its camera has as its source; a slow analyzer is waited for."""
    folder = machine.root / PICTURES.lstrip("/")
    folder.mkdir()
    for number, jpeg in enumerate(clip_jpegs(COUNT)):
        (folder / f"{number}.jpg").write_bytes(jpeg)
    unit = machine.root / CHECKOUT.lstrip("/") / "deploy" / "camera" / "posture-camera.service"
    unit.write_text(with_changes(unit.read_text(), {"--drain 5 ": "--drain 60 "}))


def prepare(machine: BareDebian, port: int) -> None:
    """Put a folder of pictures on a machine, and the broker's port into the file that README has copied."""
    give_pictures(machine)
    settings = machine.root / CHECKOUT.lstrip("/") / "deploy" / "mosquitto-debian.conf"
    settings.write_text(with_changes(settings.read_text(), {"listener 1883\n": f"listener {port} 127.0.0.1\n"}))


def analyzers_identity(machine: BareDebian) -> dict[str, str]:
    """Return who the analyzer of stream pi1 is to the machine's broker, as its variables."""
    folder = machine.root / CHECKOUT.lstrip("/") / "broker" / "analyzer-pi1"
    return {name: (folder / name).read_text() for name in ("POSTURE_MQTT_USERNAME", "POSTURE_MQTT_PASSWORD")}


def eventually(what: Callable[[], bool], seconds: float = 180) -> None:
    """Wait for what is seen in another machine, where there is no event to wait for."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)
