"""The whole farm on one machine, everything real but the load of the GPUs: what the end-to-end tests work on.

Three nodes with containers, a control plane with KEDA, a registry, Mosquitto, PostgreSQL, Prometheus; cameras; an
exporter for each node that shows what really runs there. Brought up by build_and_push.py, taken down by stop.py.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import node_services
import psycopg
import yaml
from control_plane import Cluster
from discovery import from_file, scrape_configs, write_pods
from docker_engine import Engine
from driven_exporter import METRIC, GpuExporter
from exporters import NAME as EXPORTER
from exporters import exporters
from life import Checkout, Registry
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node, Pod, Secret
from processors import NodeProcessors
from real_nodes import SERVERS_ADDRESS, Machine, RealNode, links, read
from servers import (
    Mosquitto,
    Postgres,
    PrometheusServer,
    make_cluster,
    postgres_binaries,
    server_user,
)
from service_network import CoreDns, KubeProxy, knowing_names, remove_rules
from timeline import Timeline
from watching import wait_for

from posture.manifests import files as manifest_files
from posture.system import files
from posture.system.children import bound_to_us

ROOT = Path(__file__).resolve().parent.parent.parent
FACTORS = {"agx": 10.0, "orin": 20.0, "nano": 45.0}
"""Percent of a node that one analyzer takes: a fast, a middling and a slow one."""
STREAMS = ("pi1", "pi2", "pi3", "pi4")
NAMESPACE = "posture-farm"
NOT_OURS = {"job-name": "not-ours"}
LOOK_S = 0.5
LARGE = 100.0
"""Processors of a node that is never busy."""
WAIT_S = 240.0
"""For a farm on a busy machine."""


@dataclass(frozen=True)
class Pace:
    """How long the farm's timers are. Times in seconds.

    Attributes:
        window_s, sample_interval_s, interval_s, warm_up_s, node_grace_s, cooldown_base_s: of the balancer.
        polling_s: how often KEDA looks at a ScaledJob.
        node_monitor_s: until a node that doesn't report is NotReady.
        scrape_s: of Prometheus.
        fps: frames a second of each camera.
    """

    window_s: float
    sample_interval_s: float
    interval_s: float
    warm_up_s: float
    node_grace_s: float
    cooldown_base_s: float
    polling_s: int
    node_monitor_s: int
    scrape_s: float
    fps: float = 2.0

    @property
    def loop_s(self) -> float:
        """One loop of the balancer."""
        return self.window_s + self.interval_s


QUICK = Pace(8, 1, 4, 2, 10, 30, 2, 15, 1)
README = Pace(30, 5, 30, 15, 60, 300, 10, 50, 1)


class FarmMosquitto(Mosquitto):
    """A broker that pods reach, too."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with (folder / "mosquitto.conf").open("a") as config:
            config.write(f"listener {self.port} {SERVERS_ADDRESS}\n")


class FarmPostgres(Postgres):
    """A database that pods reach, too."""

    def __init__(self, data: Path) -> None:
        binaries, user = postgres_binaries(), server_user()
        make_cluster(data, binaries, user)
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all farm 10.244.0.0/16 trust\n")
        data.with_name(f"{data.name}.log").touch()
        super().__init__(data, binaries, user)
        self.command += ["-c", f"listen_addresses=127.0.0.1,{SERVERS_ADDRESS}"]


class Usage:
    """Each node's GPU usage: analyzers that run there times the node's factor, and load that is not ours."""

    def __init__(self, nodes: Mapping[str, RealNode]) -> None:
        self.exporter = GpuExporter()
        self.foreign: dict[str, float] = dict.fromkeys(nodes, 0.0)
        """Percent of other people's load; set it at will."""
        self.lies: dict[str, str] = {}
        """Node -> ``silent``, ``nan`` or ``stale``: what its exporter says instead of the truth."""
        self.shown: dict[str, float] = {}
        self.running: dict[str, list[str]] = {}
        """Stream -> nodes where an analyzer of it runs."""
        self._nodes = nodes
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.look()
        self._thread.start()

    def look(self) -> None:
        """Look what runs, and show it."""
        running: dict[str, list[str]] = {}
        for name, node in self._nodes.items():
            analyzers = node.analyzers()
            for stream in analyzers.values():
                running.setdefault(stream, []).append(name)
            self.shown[name] = min(100.0, len(analyzers) * FACTORS[name] + self.foreign[name])
            self._show(name, self.lies.get(name, ""), node.on)
        self.running = running

    def _show(self, name: str, lie: str, on: bool) -> None:
        if lie == "silent" or not on:
            self.exporter.down(name)
        elif lie == "nan":
            self.exporter.set(name, "NaN")
        elif lie == "stale":
            minutes_ago = round((time.time() - 300) * 1000)
            self.exporter.show(name, f"{METRIC} 1 {minutes_ago}")
        else:
            self.exporter.set(name, self.shown[name])

    def _follow(self) -> None:
        while not self._end.wait(LOOK_S):
            self.look()

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self.exporter.close()


class Camera:
    """publish_images.py of one stream, with a spool."""

    def __init__(
        self, stream: str, farm: RealFarm, *, clock_offset_s: int | None = None, fps: float | None = None
    ) -> None:
        self.stream = stream
        folder = farm.folder / "cameras"
        folder.mkdir(exist_ok=True)
        self._clock = folder / f"clock-{stream}"
        self.log = folder / f"{stream}-{time.monotonic_ns()}.log"
        self.output = self.log.with_suffix(".json")
        command = [
            sys.executable, str(ROOT / "publish_images.py"), "--pi-id", stream, "--source",
            str(ROOT / "samples" / "side_walk.mp4"), "--loop", "--fps", str(fps or farm.pace.fps), "--json",
            "--broker", f"mqtt://127.0.0.1:{farm.mosquitto.port}", "--spool", str(folder / f"spool-{stream}"),
            "--receipt-timeout", "15", "--drain", str(WAIT_S),
        ]  # fmt: skip
        environ = dict(os.environ)
        if clock_offset_s is not None:
            self.set_clock(clock_offset_s)
            environ |= wrong_clock(self._clock)
        with self.log.open("wb") as log, self.output.open("wb") as output:
            self._process = subprocess.Popen(
                bound_to_us(command), stdin=subprocess.DEVNULL, stdout=output, stderr=log, env=environ
            )

    def set_clock(self, offset_s: int) -> None:
        """Step its clock: from now on it is wrong by so many seconds. Needs one that was wrong from the start."""
        files.replace(self._clock, f"{offset_s:+d}s\n".encode())

    def stop(self) -> None:
        """No more pictures; what waits is still sent."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def result(self) -> dict[str, Any]:
        """What became of its frames."""
        self._process.wait(WAIT_S + 60)
        said = self.output.read_text()
        assert said, f"{self.stream}'s camera has failed:\n{self.log.read_text()[-2000:]}"
        return dict(json.loads(said.splitlines()[-1]))


@dataclass(frozen=True)
class Account:
    """What became of one stream's frames: published = rows + missing; each row has a picture, or lost it."""

    stream: str
    published: int
    rows: int
    doubled: int
    pictures: int
    pictures_lost: int
    sent_again: int
    downtime_s: float

    @property
    def missing(self) -> int:
        return self.published - self.rows


class RealFarm:
    """All of it. ``start()`` first, ``close()`` at the end, whatever happens between."""

    def __init__(self, pace: Pace, binaries: Path, docker: Engine, report: Path) -> None:
        self.pace = pace
        self.machine = Machine()
        self.folder = self.machine.folder
        self.docker = docker
        self.timeline = Timeline(report, FACTORS, STREAMS)
        self.nodes: dict[str, RealNode] = {}
        self.accounts: list[tuple[str, list[Account]]] = []
        self.cameras: dict[str, Camera] = {}
        """Those that film."""
        self.lost_disks: set[str] = set()
        """Nodes that were lost with what was on their disks."""
        self._binaries = binaries
        self._closing = contextlib.ExitStack()

    # up and down

    def start(self) -> None:
        """Start everything that build_and_push.py finds when it comes."""
        self._closing.callback(self.machine.clean)
        self.machine.set_up()
        services = node_services.folder()
        control_plane = self._folder("control-plane")
        self.cluster = Cluster(self._binaries, control_plane, for_pods=SERVERS_ADDRESS)
        self.cluster.keda.command = knowing_names(self.cluster.keda.command, control_plane)
        self.cluster.controller_manager.command.append(f"--node-monitor-grace-period={self.pace.node_monitor_s}s")
        self._closing.callback(self.cluster.stop)
        self.cluster.start()
        self._start(CoreDns(services, control_plane, self.cluster))
        self.registry = self._start(self._registry())
        self.mosquitto = self._start(FarmMosquitto(self._folder("mosquitto")))
        self.folder.chmod(0o755)
        # a disk of its own, which can get full
        self.database_disk = self._folder("database")
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=400m,mode=755", "tmpfs", str(self.database_disk)], check=True
        )
        self.postgres = self._start(FarmPostgres(self.database_disk / "data"))
        with psycopg.connect(self.postgres.url, autocommit=True) as db:
            db.execute((ROOT / "deploy" / "schema" / "schema.sql").read_text())
        self._start_nodes()
        self._closing.callback(remove_rules, services)
        self._start(KubeProxy(services, control_plane, self.cluster, next(iter(FACTORS))))
        dead = [component.name for component in self.cluster.components if not component.running]
        assert not dead, f"{dead} ended at once: another program had taken the port"
        self.usage = Usage(self.nodes)
        self._closing.callback(self.usage.close)
        self._exporters = self.folder / "exporters.json"
        write_pods(self._exporters, [])
        self.prometheus = self._start(
            PrometheusServer(
                self._folder("prometheus"),
                self.usage.exporter.targets(*FACTORS),
                scrape_interval_s=self.pace.scrape_s,
                scrape_configs=[from_file(scrape_configs()[EXPORTER], self._exporters, self.pace.scrape_s)],
            )
        )
        for node in FACTORS:
            self.usage.exporter.wait_for_scrapes(node)
        self._make_objects()
        self._make_checkout()
        self._closing.callback(self._end_scripts)
        self.timeline.follow(self.usage, self.checkout.records / "scaler.log")
        self._closing.callback(self.timeline.close)

    def close(self) -> None:
        """End everything, in the opposite order; the logs stay with the report."""
        if self.folder.exists():
            self.keep_logs(self.timeline.folder / "logs")
        self._closing.close()

    def _folder(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir()
        return path

    def _start(self, server: Any) -> Any:
        self._closing.callback(server.stop)
        server.start()
        return server

    def _registry(self) -> Registry:
        """Its data stay from run to run, and so does its port: it is a part of the images' names."""
        registry = Registry(self.folder / "registry")
        kept = self.machine.kept / "registry"
        kept.mkdir(parents=True, exist_ok=True)
        config = self.folder / "registry" / "registry.yml"
        settings = yaml.safe_load(config.read_text())
        settings["storage"]["filesystem"]["rootdirectory"] = str(kept)
        config.write_text(yaml.safe_dump(settings))
        return registry

    def _push_sandbox(self) -> str:
        """Push the image of the process that holds a pod's namespaces, and return its name."""
        folder = self._folder("sandbox")
        (folder / "Dockerfile").write_text('FROM debian:bookworm-slim\nCMD ["sleep", "infinity"]\n')
        name = f"{self.registry.host}/sandbox:1"
        self.docker.run("build", "--tag", name, str(folder), timeout_s=600)
        self.docker.run("push", name, timeout_s=600)
        return name

    def _start_nodes(self) -> None:
        self.sandbox_image = self._push_sandbox()
        self._closing.callback(self._end_nodes)
        for number, name in enumerate(FACTORS, 1):
            kept = self.machine.kept / name
            node = RealNode(
                name,
                number,
                self.folder / name,
                kept,
                self._binaries / "kubelet",
                self.cluster.kubeconfig,
                self.sandbox_image,
            )
            self.nodes[name] = node
            node.start()
        self.cluster.until(
            Node, None, lambda nodes: sum(map(is_ready_node, nodes)) == len(FACTORS), timeout_s=WAIT_S
        )

    def _end_nodes(self) -> None:
        with contextlib.suppress(Exception):
            self.cluster.start()
            self.cluster.keda.stop()
            for pod in self.cluster.client.list(Pod, namespace=NAMESPACE):
                self.cluster.client.delete(Pod, pod.metadata.name, namespace=NAMESPACE, grace_period=1)
            self.cluster.until(Pod, NAMESPACE, lambda pods: not pods, timeout_s=60)
        for node in self.nodes.values():
            peaceful = node.on and not node.main_processes()
            try:
                node.leave() if peaceful else node.cut_power()
            except AssertionError:
                node.cut_power()
                peaceful = False
            if not peaceful:
                node.wipe_images()

    def _make_objects(self) -> None:
        self.cluster.create(None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        secret = {
            "POSTURE_MQTT_URL": f"mqtt://{SERVERS_ADDRESS}:{self.mosquitto.port}",
            "POSTURE_DATABASE_URL": f"postgresql://farm@{SERVERS_ADDRESS}:{self.postgres.port}/postgres",
        }
        self.cluster.client.create(
            Secret(metadata=ObjectMeta(name="posture-farm", namespace=NAMESPACE), stringData=secret)
        )

    def _make_checkout(self) -> None:
        pace = self.pace
        checkout = Checkout(
            self.folder / "farm", self.cluster, NAMESPACE, list(FACTORS), self.prometheus,
            balancer={**self._timers(), "lease_s": 10},
            kubernetes={
                "start_timeout_s": 600, "stop_timeout_s": 120,
                "pictures_host_path": "/var/lib/posture-farm",  # where account() looks for them
            },
            scaler={"refresh_s": min(5.0, pace.sample_interval_s), "stabilize_s": 120},
        )  # fmt: skip
        checkout.settings["prometheus"].update(scrape_interval_s=pace.scrape_s, max_age_s=0)
        checkout.settings["analyzer"] = {"keep": "all"}  # each row has a picture, or lost it: see Account
        checkout.settings["streams"] = list(STREAMS)  # two have files of their own, two have none
        checkout.use_docker(self.registry, self.docker.environ)
        for pattern in ("Dockerfile", "requirements/*.txt", "models/*", "samples/*", "externalscaler*.py"):
            for path in ROOT.glob(pattern):
                (checkout.folder / path.relative_to(ROOT)).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, checkout.folder / path.relative_to(ROOT))
        self.checkout = checkout
        self._set_polling()

    def _timers(self) -> dict[str, float]:
        pace = self.pace
        return {
            "window_s": pace.window_s, "sample_interval_s": pace.sample_interval_s, "interval_s": pace.interval_s,
            "warm_up_s": pace.warm_up_s, "node_grace_s": pace.node_grace_s,
            "cooldown_base_s": pace.cooldown_base_s,
        }  # fmt: skip

    def _set_polling(self) -> None:
        for path in self.checkout.manifests():
            text = re.sub(r"pollingInterval: \d+", f"pollingInterval: {self.pace.polling_s}", path.read_text())
            # four analyzers and all servers share what cores there are
            path.write_text(
                text.replace(
                    "              limits:\n", "              requests: {cpu: 100m}\n              limits:\n"
                )
            )

    def _end_scripts(self) -> None:
        with contextlib.suppress(AssertionError, OSError):
            self.checkout.run("stop.py")
        self.checkout.close()

    # what a test asks for

    def bring_up(self, timeout_s: float) -> None:
        """Bring the farm up as an operator does; the script stays, and ``script.press_enter()`` ends the farm."""
        self.script = self.checkout.start("build_and_push.py")
        self.script.until_it_says("press ENTER", timeout_s)

    def upgrade(self, timeout_s: float) -> None:
        """Change what is in the images, and run build_and_push.py again; the one that stayed leaves."""
        before = self.script
        with (self.checkout.folder / "posture" / "__init__.py").open("a") as module:
            module.write("# another version\n")
        self.bring_up(timeout_s)
        assert before.wait(60) == 0, before.said

    def be_quick(self) -> None:
        """Take short timers from now on."""
        if self.pace is QUICK:
            return
        self.pace = QUICK
        self.checkout.settings["balancer"].update(self._timers())
        self.checkout.write_settings()
        self._set_polling()
        before = self.script
        self.script = self.checkout.start("build_and_push.py", "--skip-build")
        self.script.until_it_says("press ENTER", 300)
        before.wait(60)

    @contextlib.contextmanager
    def balanced_by_processors(self) -> Iterator[NodeProcessors]:
        """Balance by what the nodes' processors really do, measured by our exporter on each node, for a while.

        At first the nodes are so large that nothing is too much for them.
        """
        processors = NodeProcessors(self.nodes, LARGE)
        before = {"GPU_QUERIES": self.checkout.settings["GPU_QUERIES"]}
        try:
            image = f"{self.registry.host}/posture-scheduler:e2e"
            self.docker.run(
                "build", "--target", "scheduler", "--tag", image, str(self.checkout.folder), timeout_s=900
            )
            self.docker.run("push", image, timeout_s=600)
            with exporters(self.cluster, NAMESPACE, image, len(self.nodes), self._exporters):
                queries = {node: {"instance": node, "signal": "cpu"} for node in self.nodes}
                self._balance_by({"GPU_QUERIES": queries})
                yield processors
        finally:
            self._balance_by(before)
            processors.close()

    def _balance_by(self, settings: Mapping[str, Any]) -> None:
        """Change settings, and let the scaler start the balancer anew with them."""
        self.checkout.settings.update(settings)
        self.checkout.write_settings()
        os.kill(self.pid_of("balancer"), signal.SIGTERM)

    def mend(self) -> None:
        """Start what a fault has left stopped; no load is anybody else's."""
        self.cluster.start()
        for server in (self.registry, self.mosquitto, self.postgres, self.prometheus):
            if server.process.poll() is not None:
                server.start()
        for node in self.nodes.values():
            node.mend()
        self.usage.lies.clear()
        self.usage.foreign.update(dict.fromkeys(FACTORS, 0.0))

    def places_by_the_plan(self) -> dict[str, str]:
        """Stream -> node, as build_and_push.py has written it down."""
        files = {stream: self.checkout.folder / f"patched-job-{stream}.yaml" for stream in STREAMS}
        return {stream: str(manifest_files.load([path])[0].node) for stream, path in files.items()}

    def images(self) -> dict[str, str]:
        """Stream -> the image that its pod runs, with its digest."""
        pods = self.cluster.client.list(Pod, namespace=NAMESPACE, labels={"posture-farm/stream": None})
        return {
            pod.metadata.labels["posture-farm/stream"]: pod.status.containerStatuses[0].imageID
            for pod in pods
            if pod.metadata.deletionTimestamp is None and pod.status.phase == "Running"
        }

    def watch_absences(self) -> Callable[[], list[set[str]]]:
        """Return a function that tells which streams were nowhere, at each look since now."""
        since = self.timeline.count()
        return lambda: [set(STREAMS) - set(running) for running in self.timeline.places(since)]

    def create_what_is_not_ours(self) -> None:
        """Somebody else's Job in the same namespace."""
        container = {"name": "other", "image": self.sandbox_image}
        pod = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
               "automountServiceAccountToken": False}  # fmt: skip
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "not-ours"},
               "spec": {"template": {"spec": pod}}}  # fmt: skip
        self.cluster.create(NAMESPACE, job)
        self.cluster.until(
            Pod,
            NAMESPACE,
            lambda pods: [pod.status.phase for pod in pods] == ["Running"],
            NOT_OURS,
            timeout_s=WAIT_S,
        )

    def pods_that_are_not_ours(self) -> dict[str, str]:
        """Uid -> phase of somebody else's pods."""
        pods = self.cluster.client.list(Pod, namespace=NAMESPACE, labels=NOT_OURS)
        return {pod.metadata.uid: pod.status.phase for pod in pods}

    def await_loops(self, count: int) -> None:
        """Wait until the balancer has come to the end of so many further loops, not counting the present one."""
        log = self.checkout.records / "scaler.log"

        def loops() -> int:
            return read(str(log)).count(" overloaded; ")

        before = loops()
        wait_for(lambda: loops() > before + count, (count + 2) * (self.pace.loop_s + 10) + 60, look_s=0.5)

    def until_moved(self, before: Mapping[str, str]) -> dict[str, str]:
        """Wait until each stream runs once, and not all where they were."""
        wait_for(lambda: self.until_each_runs_once() != before, WAIT_S, look_s=1.0)
        return self.until_each_runs_once()

    def leftovers(self) -> list[str]:
        """What of the nodes is still on this machine after ``close()``."""
        told = [f"link {name}" for name in links()]
        told += [f"mount {line}" for line in read("/proc/mounts").splitlines() if str(self.folder) in line]
        for entry in Path("/proc").glob("[0-9]*"):
            line = read(f"{entry}/cmdline").replace("\0", " ")
            if str(self.folder) in line:
                told.append(f"process {entry.name}: {line}")
        told += [f"cgroup {name}" for name in self.machine.left_cgroups]
        rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
        told += [f"rule {line}" for line in rules.splitlines() if "KUBE-" in line or "10.244." in line]
        return told + [str(path) for path in [self.folder] if path.exists()]

    @contextlib.contextmanager
    def traffic(
        self,
        name: str,
        *,
        settle: Callable[[], None] | None = None,
        fps: Mapping[str, float] | None = None,
        **offsets: int,
    ) -> Iterator[None]:
        """Let all cameras film; afterwards every frame must have its row, once.

        Args:
            name: of what happens meanwhile.
            settle: waited for before the cameras stop.
            fps: stream -> its camera's frames a second, where they are not the pace's.
            offsets: stream -> by how many seconds its camera's clock is wrong at first.
        """
        began = time.time()
        cameras = [
            Camera(stream, self, clock_offset_s=offsets.get(stream), fps=(fps or {}).get(stream))
            for stream in STREAMS
        ]
        self.cameras = {camera.stream: camera for camera in cameras}
        try:
            self.until_rows(began)
            yield
            if settle is not None:
                settle()
            self.until_rows(time.time())
            for camera in cameras:
                camera.stop()
            accounts = [self.account(camera, began) for camera in cameras]
        finally:
            for camera in cameras:
                camera.kill()
        self.accounts.append((name, accounts))
        self.timeline.accounts.append((name, accounts))
        wrong = [
            one for one in accounts if one.missing or one.doubled or one.pictures + one.pictures_lost != one.rows
        ]
        assert not wrong, wrong

    def account(self, camera: Camera, since: float) -> Account:
        """Count what became of a camera's frames, once it has ended."""
        result = camera.result()
        with psycopg.connect(self.postgres.url) as db:
            rows = db.execute(
                "SELECT seq, filename, processed_by, extract(epoch FROM analyzed_time) FROM posture_log "
                "WHERE pi_id = %s AND boot_id = %s ORDER BY analyzed_time",
                (camera.stream, result["boot_id"]),
            ).fetchall()
        places = {
            name: {path.name for path in node.disk.glob("posture-farm/analyzed_images/*/*")}
            for name, node in self.nodes.items()
        }
        have = sum(row[1] in places.get(row[2], ()) for row in rows)
        lost = sum(row[1] not in places.get(row[2], ()) and row[2] in self.lost_disks for row in rows)
        times = [float(row[3]) for row in rows]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        return Account(
            camera.stream, result["captured"], len({row[0] for row in rows}),
            len(rows) - len({row[0] for row in rows}), have, lost, result["resent"],
            round(max(gaps, default=0.0), 1),
        )  # fmt: skip

    def rows(self, *streams: str) -> int:
        """How many rows these streams have."""
        with psycopg.connect(self.postgres.url) as db:
            found = db.execute(
                "SELECT count(*) FROM posture_log WHERE pi_id = ANY(%s)", (list(streams),)
            ).fetchone()
        assert found is not None
        return int(found[0])

    def until_rows(self, since: float, streams: tuple[str, ...] = STREAMS, timeout_s: float = WAIT_S) -> None:
        """Wait until every stream has a row that was written after a time."""

        def have_rows() -> bool:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.postgres.url) as db:
                found = db.execute(
                    "SELECT DISTINCT pi_id FROM posture_log WHERE analyzed_time > to_timestamp(%s)", (since,)
                ).fetchall()
                return {row[0] for row in found} >= set(streams)
            return False

        wait_for(have_rows, timeout_s, look_s=0.5)

    def until_stored(self, stream: str, frame_ids: Sequence[str]) -> None:
        """Wait until frames have their rows."""

        def stored() -> bool:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.postgres.url) as db:
                found = db.execute(
                    "SELECT count(*) FROM posture_log WHERE pi_id = %s AND frame_id = ANY(%s)",
                    (stream, list(frame_ids)),
                ).fetchone()
                return found == (len(frame_ids),)
            return False

        wait_for(stored, WAIT_S, look_s=0.5)

    def until_camera_clock(self, stream: str, offset_s: int) -> None:
        """Wait until a stream's newest row was captured by a clock that is wrong by so many seconds."""

        def captured_by_it() -> bool:
            with psycopg.connect(self.postgres.url) as db:
                newest = db.execute(
                    "SELECT extract(epoch FROM captured_time - analyzed_time) FROM posture_log "
                    "WHERE pi_id = %s ORDER BY analyzed_time DESC LIMIT 1",
                    (stream,),
                ).fetchone()
            return newest is not None and abs(float(newest[0]) - offset_s) < 20

        wait_for(captured_by_it, WAIT_S, look_s=0.5)

    def where(self) -> dict[str, list[str]]:
        """Stream -> the nodes where a process of it runs."""
        self.usage.look()
        return dict(self.usage.running)

    def until_each_runs_once(
        self, timeout_s: float = WAIT_S, nodes: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Wait until every stream has exactly one process, on a node that is on, and that is what the API says.

        Args:
            timeout_s: the bound.
            nodes: stream -> where it is to be; None: anywhere.
        """
        found: dict[str, str] = {}

        def once() -> bool:
            running = self.where()
            if set(running) != set(STREAMS) or any(len(places) != 1 for places in running.values()):
                return False
            found.update({stream: places[0] for stream, places in running.items()})
            return self.ready_pods() == {stream: [node] for stream, node in found.items()} and (
                nodes is None or found == dict(nodes)
            )

        try:
            wait_for(once, timeout_s, look_s=1.0)
        except AssertionError:
            raise AssertionError(
                f"not within {timeout_s:g} s: running {self.where()}, Ready {self.ready_pods()}\n{self.explain()}"
            ) from None
        return found

    def ready_pods(self) -> dict[str, list[str]]:
        """Stream -> the nodes of its Ready pods, as the API server has it."""
        found: dict[str, list[str]] = {}
        for pod in self.cluster.client.list(Pod, namespace=NAMESPACE, labels={"posture-farm/stream": None}):
            conditions = (pod.status and pod.status.conditions) or []
            ready = any(one.type == "Ready" and one.status == "True" for one in conditions)
            if ready and pod.metadata.deletionTimestamp is None:
                found.setdefault(pod.metadata.labels["posture-farm/stream"], []).append(pod.spec.nodeName)
        return found

    def scaler_log(self) -> str:
        return "\n".join(read(str(self.checkout.records / "scaler.log")).splitlines()[-40:])

    def pid_of(self, name: str) -> int:
        """The pid of ``scaler`` or ``balancer``."""
        scaler = int(json.loads((self.checkout.records / "scaler.json").read_text())["pid"])
        if name == "scaler":
            return scaler
        children = read(f"/proc/{scaler}/task/{scaler}/children").split()
        return int(next(pid for pid in children if "gpu_balancer.py" in read(f"/proc/{pid}/cmdline")))

    def explain(self) -> str:
        """For an error: the last words of everything."""
        return "\n".join([self.scaler_log(), *(node.logs() for node in self.nodes.values())])

    def keep_logs(self, target: Path) -> None:
        """Copy the logs to where they survive the run."""
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for path in [*self.folder.glob("*/*.log"), *self.folder.glob("farm/run/*/*.log")]:
            with contextlib.suppress(OSError):
                shutil.copyfile(path, target / f"{path.parent.name}-{path.name}")
        for node in self.nodes.values():
            for path in (node.folder / "var-log" / "pods").glob("*/analyzer/*.log"):
                with contextlib.suppress(OSError):
                    shutil.copyfile(path, target / f"{node.name}-{path.parent.parent.name}-{path.name}")


def wrong_clock(offset: Path) -> dict[str, str]:
    """Environment variables of a program whose clock is wrong by what a file says; its stopwatches go right."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # fmt: skip


def is_ready_node(node: Any) -> bool:
    conditions = (node.status and node.status.conditions) or []
    return any(one.type == "Ready" and one.status == "True" for one in conditions)
