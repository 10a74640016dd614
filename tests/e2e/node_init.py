"""The first process of a real node: it has mounts and process ids of its own, and so has all that it starts.

    unshare --fork --pid --mount --kill-child python3 node_init.py SPECIFICATION.json

Commands come as lines on standard input: ``start NAME``, ``signal NAME NUMBER``. When it ends, the kernel ends
every process of the node, shims and containers included, and with the last of them go the node's mounts.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def make_own_folders(folder: Path) -> None:
    """Give the node its own /run, /var/lib and /var/log, where kubelet, shims and volumes have fixed paths."""
    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")
    mount("-t", "tmpfs", "tmpfs", "/run")
    for name in ("lib", "log"):
        (folder / f"var-{name}").mkdir(exist_ok=True)
        mount("--bind", str(folder / f"var-{name}"), f"/var/{name}")
    # what kubelet wants of a machine; the outside does not see it
    mount("--make-rshared", "/")


def serve(programs: dict[str, dict[str, object]]) -> None:
    """Do what standard input says, until it ends; bury the dead meanwhile."""
    pids: dict[int, str] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        heard = b""
        while True:
            for key, _ in selector.select():
                if key.fd == woken:
                    os.read(woken, 4096)
                    bury(pids)
                    continue
                more = os.read(key.fd, 4096)
                if not more:
                    return
                *lines, heard = (heard + more).split(b"\n")
                for line in lines:
                    obey(line.decode().split(), programs, pids)


def obey(words: list[str], programs: dict[str, dict[str, object]], pids: dict[int, str]) -> None:
    name = words[1]
    if words[0] == "start":
        with Path(str(programs[name]["log"])).open("ab") as log:
            command = programs[name]["command"]
            assert isinstance(command, list)
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        pids[process.pid] = name
        process.returncode = 0  # it is buried by bury()
        say("started", name)
    else:
        for pid in [pid for pid, owner in pids.items() if owner == name]:
            os.kill(pid, int(words[2]))


def bury(pids: dict[int, str]) -> None:
    """Take note of all processes that have ended, those whose parents are gone included."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in pids:
                say("ended", pids.pop(pid))


def say(*words: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(1, (" ".join(words) + "\n").encode())


if __name__ == "__main__":
    specification = json.loads(Path(sys.argv[1]).read_text())
    make_own_folders(Path(specification["folder"]))
    say("up", "node")
    serve(specification["programs"])
