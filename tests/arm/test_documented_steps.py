"""README's steps, typed on a bare Debian for 64-bit and 32-bit ARM, by emulation.

Such a machine is not booted: what systemd would start by the unit's own line is started here, as root types it. The
broker that the camera publishes to is this machine's, with the users that the other one has made: emulated for 32
bits, Debian's Mosquitto does not listen within half a minute.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import pytest
from bare_debian import CHECKOUT, entered
from documented_steps import (
    BROKER_STEPS,
    COUNT,
    PICTURES,
    PREPARATION,
    RUN,
    SERVICE_STEPS,
    analyzers_identity,
    eventually,
    prepare,
)
from emulation import mirror
from farm import Analyzer, ended
from identities import guarded_mosquitto
from servers import free_port
from typed import with_changes

UNIT = "etc/systemd/system/posture-camera.service"
PREPARE_SERVICE = "set -a; . /etc/posture-camera/environment; install -d -o nobody /var/lib/posture-camera"
EMULATED_S = 3600.0
AS_NOBODY = "setpriv --reuid nobody --clear-groups --no-new-privs"


def started_as(unit: str) -> str:
    """The command that a unit starts, with systemd's variables as the shell knows them."""
    (command,) = re.findall(r"^ExecStart=(.*)$", unit.replace("\\\n", " "), re.M)
    return command.replace("%S", "/var/lib")


@pytest.mark.long
@pytest.mark.parametrize("architecture", ["arm64", "armhf"])
def test_readmes_steps_make_a_camera_whose_frames_leave_the_spool_when_they_are_confirmed(
    emulated: None, architecture: str, tmp_path: Path
) -> None:
    (tmp_path / "machine").mkdir()
    with entered(architecture, tmp_path / "machine", mirror()) as machine:
        prepare(machine, free_port())
        machine.run(BROKER_STEPS, user="root")
        broker = guarded_mosquitto(tmp_path, machine.root / CHECKOUT.lstrip("/") / "broker")
        analyzer = Analyzer(tmp_path, broker.port, **analyzers_identity(machine))
        with contextlib.ExitStack() as stack:
            stack.callback(broker.stop)
            broker.start()
            stack.enter_context(ended(analyzer))
            analyzer.start().wait_for_log("connected to")
            changes = {"192.0.2.10:1883": f"127.0.0.1:{broker.port}", " picamera ": f" {PICTURES} "}
            machine.run(with_changes(SERVICE_STEPS, changes), user="root")
            start = f"{started_as((machine.root / UNIT).read_text())} --drain 300"
            said = machine.run(f"{PREPARE_SERVICE}\nexec {AS_NOBODY} sh -c {shlex.quote(start)}", user="root")
            assert f"confirmed {COUNT}, waiting 0, dropped 0" in said
            eventually(lambda: len(analyzer.rows()) == COUNT)


@pytest.mark.long
def test_make_run_judges_frames_on_a_machine_that_had_nothing(emulated: None, tmp_path: Path) -> None:
    """Nothing is said about the frames that wait: emulation is too slow for ten a second."""
    with entered("arm64", tmp_path, mirror()) as machine:
        machine.run(PREPARATION, user="root", timeout_s=EMULATED_S)
        # OpenBLAS: its idle threads spin, which costs nothing but under emulation
        settings = "export QEMU_CPU=cortex-a76 OPENBLAS_NUM_THREADS=1"
        done = machine.try_to_run(f"{settings}\n{RUN}", user="root", timeout_s=EMULATED_S)
        print(done.stdout[done.stdout.find("Summary") :])
        judged = re.findall(r"pi\d: published \d+, rows (\d+) ", done.stdout)
        assert len(judged) == 2, done.stdout + done.stderr
        assert all(int(rows) > 0 for rows in judged), done.stdout + done.stderr
