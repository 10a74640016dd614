"""stop.py without a cluster: what runs on this machine, and only that."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import is_running
from watching import wait_for

from posture.errors import UserError
from posture.system import recorded_processes

ROOT = Path(__file__).resolve().parents[2]
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Starts a program that stays, recorded as the scaler; returns its pid."""
    started = []

    def start(*command: str) -> int:
        child = recorded_processes.start("scaler", command or ("sleep", "600"), tmp_path)
        started.append(child)
        return child.pid

    yield start
    for child in started:
        child.stop(0)


def test_a_recorded_program_is_found_again_and_stopped(tmp_path: Path, sleeper: Callable[..., int]) -> None:
    pid = sleeper()
    record = recorded_processes.find("scaler", tmp_path)
    assert record is not None
    assert (record.pid, record.command) == (pid, "sleep 600")
    assert recorded_processes.stop("scaler", tmp_path, 10)
    assert recorded_processes.identity(pid) is None
    assert not (tmp_path / "scaler.json").exists()


def test_stopping_twice_is_no_error(tmp_path: Path, sleeper: Callable[..., int]) -> None:
    sleeper()
    assert recorded_processes.stop("scaler", tmp_path, 10)
    assert not recorded_processes.stop("scaler", tmp_path, 10)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"started": "before the machine was restarted"}, id="another start"),
        pytest.param({"command": "python3 cpu_monitor_and_offload.py"}, id="another program"),
    ],
)
def test_another_program_that_has_the_recorded_id_is_left_alone(
    tmp_path: Path, sleeper: Callable[..., int], changed: dict[str, str]
) -> None:
    pid = sleeper()
    path = tmp_path / "scaler.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    assert recorded_processes.find("scaler", tmp_path) is None
    assert not recorded_processes.stop("scaler", tmp_path, 10)
    assert recorded_processes.identity(pid) is not None
    assert not path.exists()


def test_a_program_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    child = recorded_processes.start("scaler", [sys.executable, "-c", STUBBORN], tmp_path)
    while not child.output.read_text():
        assert child.status is None
    assert recorded_processes.stop("scaler", tmp_path, 0.2)
    wait_for(lambda: not is_running(child.pid))  # it may take longer than the 0.2 s that it is given then, too
    assert child.status == -signal.SIGKILL


def test_a_program_that_has_ended_and_was_not_waited_for_counts_as_ended(tmp_path: Path) -> None:
    ending = tmp_path / "ending"
    os.mkfifo(ending)
    child = recorded_processes.start("scaler", ["cat", str(ending)], tmp_path)
    ending.open("w").close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert recorded_processes.find("scaler", tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_record_that_is_not_whole_names_no_program(tmp_path: Path, content: str) -> None:
    (tmp_path / "scaler.json").write_text(content)
    assert recorded_processes.find("scaler", tmp_path) is None
    assert not recorded_processes.stop("scaler", tmp_path, 1)


def test_the_program_outlives_the_script_that_started_it(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\nfrom posture.system import recorded_processes\n"
        f"recorded_processes.start('scaler', ['sleep', '600'], Path({str(tmp_path)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert recorded_processes.find("scaler", tmp_path) is not None
    assert recorded_processes.stop("scaler", tmp_path, 10)


def test_a_program_that_records_itself_is_found_while_it_works_and_not_after(tmp_path: Path) -> None:
    folder = tmp_path / "farm"
    with recorded_processes.recorded("balancer", folder):
        record = recorded_processes.find("balancer", folder)
        assert record is not None
        assert record.pid == os.getpid()
    assert not folder.exists()


def test_a_program_that_cant_record_itself_works_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with recorded_processes.recorded("balancer", tmp_path / "file" / "farm"):
        pass


def test_two_scripts_do_not_work_on_one_farm_at_the_same_time(tmp_path: Path) -> None:
    at_work = pytest.raises(UserError, match=f"process {os.getpid()} is at work")
    with recorded_processes.only_one(tmp_path), at_work, recorded_processes.only_one(tmp_path):
        pass
    with recorded_processes.only_one(tmp_path):
        pass


class Farm:
    """A farm of this machine alone: no cluster is in reach, and nothing of it exists but what a test starts."""

    def __init__(self) -> None:
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self.folder = recorded_processes.folder_of("posture-farm", self.name)

    def stop(self, *flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run stop.py."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("POSTURE_")}
        return subprocess.run(
            [sys.executable, str(ROOT / "stop.py"), *flags],
            env={**clean, "POSTURE_KUBERNETES_FARM": self.name, "KUBECONFIG": "/nonexistent", **environ},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture
def farm() -> Iterator[Farm]:
    made = Farm()
    yield made
    recorded_processes.stop("scaler", made.folder, 0)
    shutil.rmtree(made.folder, ignore_errors=True)


def test_without_a_cluster_it_says_so_and_stops_what_runs_here(farm: Farm) -> None:
    child = recorded_processes.start("scaler", ["sleep", "600"], farm.folder)
    done = farm.stop()
    assert f"stop the scaler, pid {child.pid}" in done.stdout
    assert child.status == -signal.SIGTERM
    assert done.returncode == 1
    assert "no Kubernetes credentials" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_stops_nothing(farm: Farm) -> None:
    child = recorded_processes.start("scaler", ["sleep", "600"], farm.folder)
    done = farm.stop("--dry-run")
    assert f"would stop the scaler, pid {child.pid}" in done.stdout
    assert child.status is None
    child.stop(0)


DOCKER = """#!/bin/sh
echo "$(basename "$0") $*" >> "$LOG"
case "$1" in ps) echo "$CONTAINERS" ;; esac
"""
"""A docker and a docker-compose that write down what they are asked."""


@pytest.mark.parametrize("containers", ["farm-pi1-1 farm-pi2-1", ""])
def test_composes_containers_of_this_folder_are_taken_down_where_there_are_some(
    farm: Farm, tmp_path: Path, containers: str
) -> None:
    for name in ("docker", "docker-compose"):
        (tmp_path / name).write_text(DOCKER)
        (tmp_path / name).chmod(0o755)
    done = farm.stop(
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}", LOG=str(tmp_path / "log"), CONTAINERS=containers
    )
    asked = (tmp_path / "log").read_text()
    assert f"--filter label=com.docker.compose.project.working_dir={ROOT}" in asked
    assert (f"docker-compose --file {ROOT / 'docker-compose.yml'} down" in asked) == bool(containers)
    assert ("docker-compose down (farm-pi1-1, farm-pi2-1)" in done.stdout) == bool(containers)


def test_a_wrong_setting_is_named(farm: Farm) -> None:
    done = farm.stop(POSTURE_KUBERNETES_STOP_TIMEOUT_S="soon")
    assert done.returncode == 2
    assert "POSTURE_KUBERNETES_STOP_TIMEOUT_S: 'soon' is not accepted" in done.stderr
