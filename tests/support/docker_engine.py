"""A Docker engine for the tests: this machine's own, or else one that ends with the last test run that uses it.

Our own engine is one for all test processes of a user. It keeps its layers outside the checkout, so that a second
run needs no build. ``python tests/support/docker_engine.py FOLDER`` is the process that holds it: each user has a
connection to that process; when the last one is closed, also by a kill, it removes containers and ends the engine.

Base images are pulled; where no registry can be reached, our own engine gets stand-ins: the same Debian made by
mmdebstrap, with this machine's certificates, and brokers and databases as Debian has them (tests/support/images).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from go_tools import BinariesMissingError, GoTools
from locks import locked

HERE = Path(__file__).resolve().parent
DEBIAN = "debian:bookworm-slim"
BUILDX = GoTools(
    HERE / "buildx",
    "buildx",
    "docker's buildx plugin: about two minutes on two cores, once",
    ("cli-plugins",),
    finish=lambda _, folder: _make_plugin(folder),
)
STAND_INS = {"eclipse-mosquitto:2": HERE / "images" / "mosquitto", "postgres:17": HERE / "images" / "postgres"}
READY, START_S, STOP_S = b"ready\n", 90.0, 60.0
BUILD_S = 1500.0
KEPT = "until=336h"
"""Layers that are older than this are built again."""


class EngineMissingError(Exception):
    """No engine can be had here; the message says why."""


def find_builder() -> dict[str, str]:
    """Have buildx: this machine's, or else ours; where that can't be, docker's classic builder does most things."""
    if subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode == 0:
        return {"DOCKER_BUILDKIT": "1"}
    try:
        return {"DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(BUILDX.ensure())}
    except BinariesMissingError as error:
        print(f"no buildx: {error}", file=sys.stderr)
        return {"DOCKER_BUILDKIT": "0"}


def _make_plugin(folder: Path) -> None:
    """Put it where docker looks for plugins, in a folder that can be its DOCKER_CONFIG."""
    (folder / "cli-plugins").mkdir()
    (folder / "buildx").rename(folder / "cli-plugins" / "docker-buildx")


@dataclass(frozen=True)
class Engine:
    """A running engine.

    Attributes:
        host: for docker's environment variable DOCKER_HOST; empty: docker's default.
        ours: it is the tests' alone, and may be given stand-ins.
        builder: docker's environment variables that let it find buildx.
    """

    host: str
    ours: bool
    builder: Mapping[str, str] = field(default_factory=find_builder)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a program that is to use this engine."""
        return {**os.environ, **self.builder, **({"DOCKER_HOST": self.host} if self.host else {})}

    def run(self, *arguments: str, timeout_s: float = 120.0, cwd: Path | None = None) -> str:
        """Run docker, and return what it prints on standard output."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environ, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout.strip()

    def has_image(self, name: str) -> bool:
        return bool(self.run("images", "--quiet", name))

    def need_image(self, name: str) -> None:
        """Have a public image: pulled, or else a stand-in."""
        if self.has_image(name):
            return
        try:
            self.run("pull", "--quiet", name, timeout_s=600)
        except AssertionError as error:
            if not self.ours:
                raise EngineMissingError(
                    f"this machine's engine has no {name} and can't pull it: {error}"
                ) from None
            self._stand_in(name)

    def _stand_in(self, name: str) -> None:
        if name == DEBIAN:
            self._import_debian()
            return
        self.need_image(DEBIAN)
        self.run("build", "--tag", name, str(STAND_INS[name]), timeout_s=BUILD_S)

    def _import_debian(self) -> None:
        making = subprocess.Popen(
            [*minimal_debian(), "bookworm", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert making.stdout is not None
        done = subprocess.run(
            ["docker", "import", "-", DEBIAN],
            stdin=making.stdout, env=self.environ, capture_output=True, text=True, timeout=BUILD_S, check=False,
        )  # fmt: skip
        said = making.communicate()[1].decode(errors="replace")
        assert making.returncode == 0, f"mmdebstrap: {said[-2000:]}"
        assert done.returncode == 0, done.stderr


def minimal_debian(*options: str) -> list[str]:
    """The command that makes Debian as its public image has it, and lets it trust whom this machine trusts."""
    slim = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
    ours = ["--customize-hook=sync-in /usr/local/share/ca-certificates /usr/local/share/ca-certificates"]
    if Path("/etc/pip.conf").exists():
        ours += ["--customize-hook=copy-in /etc/pip.conf /etc"]
    return [
        "mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates,usr-is-merged",
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", "--aptopt=Acquire::Languages none",
        *slim, *ours, "--customize-hook=chroot $1 update-ca-certificates", *options,
    ]  # fmt: skip


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """An engine that has the base image.

    Raises:
        EngineMissingError: none can be had.
    """
    if shutil.which("docker") is None:
        raise EngineMissingError("docker is not installed: apt-get install docker.io iptables")
    usable = None
    if subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0:
        own = Engine("", ours=False)
        with contextlib.suppress(EngineMissingError):
            own.need_image(DEBIAN)
            usable = own
    with contextlib.nullcontext(usable) if usable else _started() as found:
        yield found


@contextlib.contextmanager
def _started() -> Iterator[Engine]:
    """Our own engine, started or shared with the test runs that use it already."""
    _check_that_it_can_run()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posture-farm" / "docker"
    folder.mkdir(parents=True, exist_ok=True)
    connection = _join_running(folder)
    try:
        started = Engine(f"unix://{folder}/engine.sock", ours=True)
        with locked(folder / "images.lock"):
            started.need_image(DEBIAN)
        yield started
    finally:
        # it answers when it has ended what it must: at once, or with the engine if we are the last
        connection.settimeout(3 * STOP_S)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(64):
            pass
        connection.close()


def _check_that_it_can_run() -> None:
    if os.geteuid() != 0:
        raise EngineMissingError("no Docker engine answers, and only root can start one")
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    for program, package in {"dockerd": "docker.io", "iptables": "iptables", "mmdebstrap": "mmdebstrap"}.items():
        if not any((Path(part) / program).exists() for part in path.split(os.pathsep)):
            raise EngineMissingError(
                f"no Docker engine answers, and {program} is missing: apt-get install {package}"
            )


def _join_running(folder: Path) -> socket.socket:
    """Connect, and wait until the engine answers. One that was just ending is started again."""
    for _ in range(3):
        connection = _join(folder)
        connection.settimeout(START_S)
        with contextlib.suppress(ConnectionError):
            if connection.recv(len(READY)) == READY:
                return connection
        connection.close()
    raise EngineMissingError(f"dockerd does not start:\n{_tail(folder / 'engine.log')}")


def _join(folder: Path) -> socket.socket:
    """Connect to the process that holds the engine, and start it where there is none."""
    with locked(folder / "start.lock"):
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(folder / "users.sock"))
        except OSError:
            command = [sys.executable, str(Path(__file__)), str(folder)]
            with (folder / "engine.log").open("wb") as log, subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            ) as keeper:  # fmt: skip
                assert keeper.stdout is not None
                if not keeper.stdout.readline():
                    raise EngineMissingError(_tail(folder / "engine.log")) from None
                connection.close()
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(str(folder / "users.sock"))
                keeper.stdout.close()
                keeper.returncode = 0  # not ours to wait for: it serves other runs, too
    return connection


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def keep(folder: Path) -> None:
    """Hold the engine as long as somebody is connected."""
    with locked(folder / "engine.lock"):  # the one before has ended
        path = folder / "users.sock"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        os.write(sys.stdout.fileno(), b"listening\n")
        users = [listener.accept()[0]]
        process = _start_dockerd(folder)
        try:
            if _answers(folder, process):
                users[0].sendall(READY)
                _serve(listener, users)
            path.unlink()
            listener.close()
            _clean(folder)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for user in users:
                user.close()


def _start_dockerd(folder: Path) -> subprocess.Popen[bytes]:
    from servers import die_with_parent  # noqa: PLC0415 - beside this file, whichever way this was started

    command = [
        "dockerd", "--host", f"unix://{folder}/engine.sock", "--data-root", str(folder / "data"),
        "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "engine.pid"),
    ]  # fmt: skip
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, stderr=2, preexec_fn=die_with_parent)


def _answers(folder: Path, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the engine answers; there is no event to wait for, so it is asked."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(folder / "engine.sock"))
            return True
        time.sleep(0.05)
    return False


def _serve(listener: socket.socket, users: list[socket.socket]) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(users[0], selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    users.append(listener.accept()[0])
                    users[-1].sendall(READY)
                    selector.register(users[-1], selectors.EVENT_READ)
                    continue
                selector.unregister(key.fileobj)
                (gone,) = (user for user in users if user is key.fileobj)
                if len(users) == 1:
                    return
                users.remove(gone)
                gone.close()


def _clean(folder: Path) -> None:
    """Remove what killed tests have left, and old layers."""
    ours = Engine(f"unix://{folder}/engine.sock", ours=True)
    with contextlib.suppress(AssertionError):
        if containers := ours.run("ps", "--all", "--quiet").split():
            ours.run("rm", "--force", "--volumes", *containers)
        ours.run("volume", "prune", "--force")
        ours.run("network", "prune", "--force")
        ours.run("image", "prune", "--force", "--all", "--filter", KEPT)
        ours.run("builder", "prune", "--force", "--filter", KEPT)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep(Path(sys.argv[1]))
