"""Real nodes on one machine: each a kubelet and a containerd with runc, in namespaces of their own.

Mounts and process ids are each node's own (node_init.py), so that a node ends like a machine whose power is cut:
nothing of it is left but its folder, its bridge, and empty cgroups. The network is the machine's; each node has a
bridge there for its pods. All servers of the farm listen on one address, which pods and this machine reach alike.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import SERVICES
from processes import children_of, is_running
from servers import find_program, free_port
from watching import wait_for

from posture.system import recorded_processes
from posture.system.children import bound_to_us

HERE = Path(__file__).resolve().parent
CNI_PLUGINS = Path("/usr/lib/cni")
CGROUPS = Path("/sys/fs/cgroup")
CONTAINERS = "k8s.io"
"""containerd's name for what kubelet starts: the cgroup above a container's own."""
SERVERS_LINK, SERVERS_ADDRESS = "pfe2e", "10.244.0.1"
PODS = "10.244.0.0/16"
BETWEEN_PODS = ("FORWARD", "--source", PODS, "--destination", PODS, "--jump", "ACCEPT")
PAST_SERVICES = (
    "OUTPUT", "--protocol", "tcp", "--destination", f"{SERVICES}.0/24",
    "--jump", "REJECT", "--reject-with", "tcp-reset",
)  # fmt: skip
"""To a Service whose pod is away, and so to whoever else on the network has that address."""
CONTAINER_ID = re.compile(r"\b[0-9a-f]{64}\b")
STARTED_S = 120.0
ROOM = 20 << 30
"""Bytes; where less is free, layers of images are not kept for the next run."""


class Machine:
    """What the nodes of one run share of this machine.

    One run at a time: names and folder are fixed, so that the next run finds what one that was killed has left.
    """

    def __init__(self) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posture-farm" / "e2e"
        cache.mkdir(parents=True, exist_ok=True)
        self.kept = cache / "kept"
        """What makes the next run quicker: images."""
        # PostgreSQL runs as somebody who may not look into root's home
        self.folder = Path(tempfile.gettempdir()) / "posture-e2e"
        self.left_cgroups: set[str] = set()
        """Of containers, which could not be removed."""
        self._lock = (cache / "lock").open("w")

    @staticmethod
    def check() -> None:
        """Skip, or fail in CI, where the nodes can't run."""
        if os.geteuid() != 0 or sys.platform != "linux":
            reason = "real nodes need root on Linux"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        programs = {
            "containerd": "containerd",
            "runc": "runc",
            "ip": "iproute2",
            "unshare": "util-linux",
            "iptables": "iptables",
        }
        for program, package in programs.items():
            find_program(program, package, "/usr/sbin", "/sbin")
        find_program("host-local", "containernetworking-plugins", str(CNI_PLUGINS))

    def set_up(self) -> None:
        """Have an empty folder, and the address of the farm's servers."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.clean()
        if self.kept.exists() and shutil.disk_usage(self.kept).free < ROOM:
            shutil.rmtree(self.kept)
        self.folder.mkdir(mode=0o755)
        # a bridge without ports: not every kernel has the type dummy
        ip("link", "add", SERVERS_LINK, "type", "bridge")
        ip("address", "add", f"{SERVERS_ADDRESS}/32", "dev", SERVERS_LINK)
        ip("link", "set", SERVERS_LINK, "up")
        # from pod to pod, where Docker lets nothing be forwarded
        iptables("--insert", *BETWEEN_PODS)
        iptables("--append", *PAST_SERVICES)
        # a node that is off has no bridge: nor is anybody else to be taken for its pods
        ip("route", "add", "unreachable", PODS)

    def clean(self) -> None:
        """Take away what outlives the processes of a run: links, cgroups, mounts, files, and the farm's scaler."""
        for record in self.folder.glob("farm/run/*/scaler.json"):
            recorded_processes.stop(record.stem, record.parent, 10)
        for name in links():
            ip("link", "delete", name)
        if PODS in ip("route", "show", "type", "unreachable"):
            ip("route", "delete", "unreachable", PODS)
        for rule in (BETWEEN_PODS, PAST_SERVICES):
            while iptables("--check", *rule, may_fail=True):
                iptables("--delete", *rule)
        for line in read("/proc/mounts").splitlines():
            if line.split()[1].startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", line.split()[1]], check=True)
        self.left_cgroups = set()
        for log in self.folder.glob("*/containerd.log"):
            self.left_cgroups |= remove_cgroups(set(CONTAINER_ID.findall(log.read_text(errors="replace"))))
        if self.folder.exists():
            shutil.rmtree(self.folder)


class RealNode:
    """A node that really runs containers.

    Args:
        name: its own, which is also the value of the label ``gpu-node``.
        number: 1 to 254; its pods are in 10.244.<number>.0/24.
        folder: for its state, configuration and logs; its path must be short, sockets lie in it.
        images: for what containerd keeps from one run to the next.
        kubelet: the program.
        kubeconfig: how it finds the API server.
        sandbox_image: of the process that holds a pod's namespaces.
    """

    def __init__(
        self,
        name: str,
        number: int,
        folder: Path,
        images: Path,
        kubelet: Path,
        kubeconfig: Path,
        sandbox_image: str,
    ) -> None:
        self.name = name
        self.number = number
        self.bridge = f"{SERVERS_LINK}{number}"
        self.subnet = f"10.244.{number}"
        self.folder = folder
        self._images = images
        self._sandbox_image = sandbox_image
        self._process: subprocess.Popen[bytes] | None = None
        self._running: set[str] = set()
        self._changed = threading.Condition()
        for path in (folder, folder / "cni", folder / "state", images):
            path.mkdir(parents=True, exist_ok=True)
        self._write_network()
        self._write_containerd()
        self._write_kubelet(kubelet, kubeconfig)

    # for tests

    def start(self) -> None:
        """Switch it on."""
        # an address of its own: else it changes when a pod goes, and the others talk to the old one for a minute
        ip("link", "add", self.bridge, "address", f"0a:58:0a:f4:{self.number:02x}:01", "type", "bridge")
        ip("address", "add", f"{self.subnet}.1/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        with (self.folder / "init.log").open("ab") as log:
            self._process = subprocess.Popen(
                bound_to_us([
                    "unshare", "--fork", "--pid", "--mount", "--kill-child", sys.executable,
                    str(HERE / "node_init.py"), str(self.folder / "node.json"),
                ]),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self._await(lambda: "node" in self._running)
        self._start_containerd()
        self.start_program("kubelet")

    def cut_power(self) -> None:
        """End all of it at once, and without a farewell."""
        if self._process is not None:
            first = children_of(self._process.pid)
            self._process.kill()
            self._process.wait()
            self._process = None
            # that of its own process ids ends a moment later, and after all the others
            wait_for(lambda: not any(map(is_running, first)), STARTED_S)
        with self._changed:
            self._running.clear()
        if self.bridge in links():
            ip("link", "delete", self.bridge)
        # what the runtime knew of its containers is gone, as after a boot
        remove_cgroups(
            [path.name for path in self.folder.glob("state/containerd/io.containerd.runtime.v2.task/*/*")]
        )
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        shutil.rmtree(self.folder / "ipam", ignore_errors=True)
        (self.folder / "state").mkdir()

    def start_program(self, name: str) -> None:
        """Start kubelet or containerd."""
        self._say(f"start {name}")
        self._await(lambda: name in self._running)

    def mend(self) -> None:
        """Start what doesn't run."""
        if not self.on:
            self.start()
        if "containerd" not in self._running:
            self._start_containerd()
        if "kubelet" not in self._running:
            self.start_program("kubelet")

    def stop_program(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End kubelet or containerd; containers go on."""
        self._say(f"signal {name} {number.value}")
        self._await(lambda: name not in self._running)

    def leave_labels_to_others(self) -> None:
        """As a new node it has no label from now on, until somebody gives it one."""
        path = self.folder / "node.json"
        specification = json.loads(path.read_text())
        kubelet = specification["programs"]["kubelet"]
        kubelet["command"] = [one for one in kubelet["command"] if not one.startswith("--node-labels=")]
        path.write_text(json.dumps(specification))

    def restart_runtime(self) -> None:
        """Restart containerd under its running containers."""
        self.stop_program("containerd", signal.SIGTERM)
        (self.folder / "state" / "containerd.sock").unlink(missing_ok=True)
        self._start_containerd()

    @contextlib.contextmanager
    def network_cut(self) -> Iterator[None]:
        """The node's pods reach nothing."""
        ip("link", "set", self.bridge, "down")
        try:
            yield
        finally:
            ip("link", "set", self.bridge, "up")

    @property
    def on(self) -> bool:
        return self._process is not None

    @property
    def disk(self) -> Path:
        """Its /var/lib, as seen from outside."""
        return self.folder / "var-lib"

    def main_processes(self) -> dict[str, int]:
        """Container id -> pid on this machine of its first process; sandboxes are containers, too."""
        process = self._process  # it may be switched off meanwhile
        if process is None:
            return {}
        found: dict[str, int] = {}
        for pid in processes_below(process.pid):
            for line in read(f"/proc/{pid}/cgroup").splitlines():
                path = line.split(":", 2)[2]
                if path.startswith(f"/{CONTAINERS}/"):
                    found.setdefault(path.rsplit("/", 1)[1], pid)
                    break
        return found

    def analyzers(self) -> dict[int, str]:
        """Pid -> stream of each analyzer that runs here: its script names the stream, or else its environment."""
        found: dict[int, str] = {}
        for pid in self.main_processes().values():
            script = re.search(r"Images_From_(\w+)\.py", read(f"/proc/{pid}/cmdline"))
            named = re.search(r"(?:^|\0)POSTURE_STREAM=([^\0]+)", read(f"/proc/{pid}/environ"))
            if script is not None:
                found[pid] = named[1] if named else script[1].lower()
        return found

    def logs_of(self, pod: str, container: str) -> list[Path]:
        """What a container has said; names as patterns, a pod's with its namespace in front."""
        try:
            return list((self.folder / "var-log" / "pods").glob(f"{pod}/{container}/*.log"))
        except OSError:  # a pod goes with its folder; who looks again finds the others
            return []

    def running(self, script: str) -> list[int]:
        """Pids of the containers here that run a script."""
        return [pid for pid in self.main_processes().values() if script in read(f"/proc/{pid}/cmdline")]

    def wipe_images(self) -> None:
        """Forget what containerd has kept; after an end without a farewell it may not be whole."""
        shutil.rmtree(self._images, ignore_errors=True)

    def leave(self) -> None:
        """End in peace: kubelet, then containerd; its containers have been deleted before."""
        if self._process is not None:
            self.stop_program("kubelet", signal.SIGTERM)
            self.stop_program("containerd", signal.SIGTERM)
        self.cut_power()

    def logs(self, lines: int = 20) -> str:
        """The last lines of everything."""
        told = []
        for name in ("init", "containerd", "kubelet"):
            text = read(str(self.folder / f"{name}.log"))
            told.append(f"--- {self.name} {name}\n" + "\n".join(text.splitlines()[-lines:]))
        return "\n".join(told)

    # how it is made

    def _write_network(self) -> None:
        network = {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": self.bridge,
                    "isGateway": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(self.folder / "ipam"),
                        "ranges": [[{"subnet": f"{self.subnet}.0/24", "gateway": f"{self.subnet}.1"}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        }
        (self.folder / "cni" / "pods.conflist").write_text(json.dumps(network))

    def _write_containerd(self) -> None:
        # this machine's registry is on loopback, where containerd takes plain HTTP by itself
        (self.folder / "containerd.toml").write_text(
            f"""version = 2
root = "{self._images}"
state = "{self.folder}/state/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{self.folder}/state/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{self._sandbox_image}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "{free_port()}"
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{self.folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""
        )

    def _write_kubelet(self, kubelet: Path, kubeconfig: Path) -> None:
        port = free_port()
        settings: dict[str, Any] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": f"{self.subnet}.1",
            "port": port,
            "healthzPort": free_port(),
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{self.folder}/state/containerd.sock",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "evictionHard": {},
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": "/var/log/pods",
            "nodeStatusUpdateFrequency": "3s",
            "syncFrequency": "10s",
            "registerNode": True,
            "makeIPTablesUtilChains": False,
            "clusterDNS": [SERVERS_ADDRESS],
            "clusterDomain": "cluster.local",
        }
        (self.folder / "kubelet.yaml").write_text(yaml.safe_dump(settings))
        specification = {
            "folder": str(self.folder),
            "programs": {
                "containerd": {
                    "command": ["containerd", "--config", f"{self.folder}/containerd.toml"],
                    "log": f"{self.folder}/containerd.log",
                },
                "kubelet": {
                    "command": [
                        str(kubelet), f"--config={self.folder}/kubelet.yaml", f"--kubeconfig={kubeconfig}",
                        f"--hostname-override={self.name}", f"--node-labels=gpu-node={self.name}",
                        f"--node-ip={self.subnet}.1", "--root-dir=/var/lib/kubelet",
                        "--cert-dir=/var/lib/kubelet/pki", "--v=1",
                    ],
                    "log": f"{self.folder}/kubelet.log",
                },
            },
        }  # fmt: skip
        (self.folder / "node.json").write_text(json.dumps(specification))

    def _say(self, words: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{words}\n".encode())
        self._process.stdin.flush()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            word, name = line.decode().split()
            with self._changed:
                if word == "ended":
                    self._running.discard(name)
                else:
                    self._running.add(name)
                self._changed.notify_all()

    def _await(self, condition: Any) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, STARTED_S), self.logs()

    def _start_containerd(self) -> None:
        """Start it and wait until it serves kubelet, which else ends at once; its log is the only sign of it."""
        log = str(self.folder / "containerd.log")
        before = len(read(log))
        self.start_program("containerd")
        deadline = time.monotonic() + STARTED_S
        while "Start streaming server" not in read(log)[before:]:
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)


def links() -> list[str]:
    """The network links of ours that there are."""
    listed = json.loads(ip("-json", "link", "show"))
    return [link["ifname"] for link in listed if link["ifname"].startswith(SERVERS_LINK)]


def remove_cgroups(containers: set[str]) -> set[str]:
    """Remove the cgroups of containers that have ended: a runtime that is in a hurry leaves some behind.

    Returns:
        The containers whose cgroups can't be removed.
    """
    left = set()
    for top in [CGROUPS / CONTAINERS, *CGROUPS.glob(f"*/{CONTAINERS}")]:
        for name in containers:
            try:
                (top / name).rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                left.add(name)
        with contextlib.suppress(OSError):  # somebody else's are in it, or it isn't there
            top.rmdir()
    return left


def ip(*arguments: str) -> str:
    """Run the command ip."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def iptables(*arguments: str, may_fail: bool = False) -> bool:
    """Run iptables; say whether it did what it was told."""
    command = ["iptables", "--wait", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert may_fail or done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.returncode == 0


def read(path: str) -> str:
    """A file's text; empty if it is gone meanwhile."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def processes_below(pid: int) -> Iterator[int]:
    """A process's descendants, parents before their children."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it has ended meanwhile
        return
    for task in tasks:
        for child in read(f"/proc/{pid}/task/{task}/children").split():
            yield int(child)
            yield from processes_below(int(child))
