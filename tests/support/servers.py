"""Real servers on free loopback ports, for the tests. They end with the test run, also when it is killed."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from processes import children_of, is_running

PR_SET_PDEATHSIG = 1
PRCTL = ctypes.CDLL(None).prctl
"""Found here, not between fork and exec: what other threads hold at the fork nobody frees there."""
START_S = 60.0
PORTS = range(20_000, 32_000)
"""Below the range that outgoing connections take theirs from: a server that is away finds its port free again."""
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
OURS = PORTS[WORKER :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
"""Each worker has its own: a port that is not bound yet, or not any more, is free for all who look."""
NEXT_PORTS = itertools.cycle(random.sample(OURS, len(OURS)))


def free_port() -> int:
    """Return a port that nobody listens on, and that was not returned for a long time."""
    while True:
        port = next(NEXT_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def find_program(name: str, package: str, *folders: str) -> str:
    """The program's path; without it the test is skipped with the reason, or fails in CI, and a benchmark ends."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *folders]))
    if found:
        return found
    reason = f"{name} is not installed: apt-get install {package}"
    if "PYTEST_CURRENT_TEST" not in os.environ:
        sys.exit(f"error: {reason}")
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def die_with_parent() -> None:
    """Run in the child: the kernel ends it when the test run ends, however that ends."""
    PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until_accepting(port: int, process: subprocess.Popen[bytes], log: Path, start_s: float = START_S) -> None:
    """Wait for a server's port. There is no event to wait for, so the port is asked."""
    deadline = time.monotonic() + start_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"no server on port {port}:\n{log.read_text(errors='replace')[-2000:]}")


class Server:
    """A process that can be stopped, killed and started again on the same port and data.

    Start it from a thread that stays: the kernel counts the thread that made a child as its parent.
    """

    command: list[str]
    log: Path
    port: int
    stop_signal = signal.SIGTERM
    start_s = START_S
    user: int | None = None

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # here, since the keeper of the Docker engine imports this file without the project on its path
        from posture.system.children import bound_to_us  # noqa: PLC0415

        with self.log.open("ab") as log:
            if self.user is None:
                # no function between fork and exec: beside gRPC's threads the child may never get as far as exec
                self.process = subprocess.Popen(bound_to_us(self.command), stdout=log, stderr=log)
            else:  # who may not run our Python
                self.process = subprocess.Popen(
                    self.command, stdout=log, stderr=log, preexec_fn=die_with_parent, user=self.user
                )
        wait_until_accepting(self.port, self.process, self.log, self.start_s)

    @property
    def pid(self) -> int:
        """Of its process.

        Raises:
            AssertionError: it has never been started.
        """
        assert self.process is not None
        return self.process.pid

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            self.process.wait(30)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


class Mosquitto(Server):
    """A broker with the settings that docs/broker.md asks for."""

    def __init__(self, folder: Path, **extra: str) -> None:
        super().__init__()
        program = find_program("mosquitto", "mosquitto", "/usr/sbin")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log = folder / "mosquitto.log"
        settings = {
            "listener": f"{self.port} 127.0.0.1",
            "allow_anonymous": "true",
            "persistence": "true",
            "persistence_location": f"{folder}/",
            "max_queued_messages": "1000000",
            "max_queued_bytes": "2000000000",
            "max_packet_size": "30000000",
            **({"user": "root"} if os.geteuid() == 0 else {}),
            **extra,
        }
        config = folder / "mosquitto.conf"
        config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        self.command = [program, "-c", str(config), "-v"]


class Postgres(Server):
    """A PostgreSQL of its own; schema.sql is applied by the fixture."""

    stop_signal = signal.SIGINT  # a fast shutdown

    def __init__(self, data: Path, binaries: str, user: int | None) -> None:
        super().__init__()
        self.user = user
        self.port = free_port()
        self.log = data.parent / f"{data.name}.log"
        self.command = [
            f"{binaries}/postgres", "-D", str(data), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
            "-c", "fsync=off",  # the tests kill processes, not machines
        ]  # fmt: skip
        self.url = f"postgresql://farm@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start, and wait until it takes queries: its port is open before that."""
        super().start()
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """Kill it with its sessions, which would otherwise hold its memory for a moment and prevent a start."""
        assert self.process is not None
        children = children_of(self.process.pid)
        super().kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + START_S
        while any(is_running(child) for child in children):
            assert time.monotonic() < deadline, "PostgreSQL's sessions outlive it"
            time.sleep(0.01)


class PrometheusServer(Server):
    """A Prometheus that scrapes ``targets`` (its ``static_configs``), by default twice a second.

    Args:
        folder: for its configuration, data and log; data are kept over a stop.
        targets: what to scrape; tests/support/driven_exporter.py makes some.
        scrape_interval_s: seconds.
        web: its ``--web.config.file``, for TLS and users.
        scrape_configs: what to scrape besides, each with its interval.
        rule_files: rules to evaluate.
    """

    def __init__(
        self,
        folder: Path,
        targets: list[dict[str, Any]],
        *,
        scrape_interval_s: float = 0.5,
        web: dict[str, Any] | None = None,
        scrape_configs: Sequence[Mapping[str, Any]] = (),
        rule_files: Sequence[Path] = (),
    ) -> None:
        super().__init__()
        program = find_program("prometheus", "prometheus")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log = folder / "prometheus.log"
        self.url = f"{'https' if (web or {}).get('tls_server_config') else 'http'}://127.0.0.1:{self.port}"
        interval = f"{round(scrape_interval_s * 1000)}ms"
        job = {"job_name": "gpu", "static_configs": targets}
        settings = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": [*([job] if targets else []), *scrape_configs],
            "rule_files": [str(path) for path in rule_files],
        }
        config = folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(settings))
        (folder / "web.yml").write_text(yaml.safe_dump(web or {}))
        self.command = [
            program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}", f"--web.config.file={folder / 'web.yml'}",
            "--log.level=info",
        ]  # fmt: skip

    def start(self) -> None:
        """Start, and wait until it takes queries: its port is open before that."""
        super().start()
        deadline = time.monotonic() + START_S
        while "Server is ready to receive web requests" not in self.log.read_text().rpartition("Starting Prom")[2]:
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.02)


class NodeExporter(Server):
    """Debian's node_exporter, which shows what the processors of this machine do."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        program = find_program("prometheus-node-exporter", "prometheus-node-exporter")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log = folder / "node_exporter.log"
        self.command = [
            program, f"--web.listen-address=127.0.0.1:{self.port}", "--collector.disable-defaults",
            "--collector.cpu",
        ]  # fmt: skip

    def targets(self, instance: str) -> list[dict[str, Any]]:
        """Prometheus' static_configs for it, under this label ``instance``."""
        return [{"targets": [f"127.0.0.1:{self.port}"], "labels": {"instance": instance}}]


def postgres_binaries() -> str:
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return str(Path(find_program("initdb", "postgresql", *(str(path) for path in reversed(newest)))).parent)


def server_user() -> int | None:
    """PostgreSQL refuses to run as root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def make_cluster(data: Path, binaries: str, user: int | None) -> None:
    data.mkdir(mode=0o700)
    if user is not None:
        os.chown(data, user, -1)
    command = [f"{binaries}/initdb", "-D", str(data), "-U", "farm", "-A", "trust", "--no-sync", "-E", "UTF8"]
    subprocess.run(command, check=True, capture_output=True, user=user)
    # the tests' own role needs no password; every other must give its own
    (data / "pg_hba.conf").write_text("host all farm 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
