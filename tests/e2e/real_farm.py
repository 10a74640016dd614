"""The whole farm on one machine, everything real but the load of the GPUs: what the end-to-end tests work on.

Three nodes with containers, a control plane with KEDA, a registry, Mosquitto, PostgreSQL, Prometheus; cameras; an
exporter for each node that shows what really runs there. Brought up by build_and_push.py, taken down by stop.py.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import node_services
import psycopg
import yaml
from cameras import Access
from control_plane import SERVICES, Cluster
from dashboard_process import DashboardProcess
from deployed import account as service_account
from discovery import MONITORING, from_file, scrape_configs, write_pods
from docker_engine import Engine
from driven_exporter import METRIC, GpuExporter, instance_of
from exporters import NAME as EXPORTER
from exporters import exporters
from farm_at_work import NAMESPACE, WAIT_S, FarmAtWork, Pace, Usage, is_ready
from life import Checkout, Registry
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node, Pod, Secret
from onlooker import Onlooker, OpenPage
from processors import NodeProcessors
from real_nodes import PODS, SERVERS_ADDRESS, Machine, RealNode, ip, links, read
from servers import (
    Mosquitto,
    Postgres,
    PrometheusServer,
    free_port,
    make_cluster,
    postgres_binaries,
    server_user,
)
from service_network import CoreDns, KubeProxy, knowing_names, remove_rules
from timeline import PICTURES, Timeline
from watching import wait_for

from posture.manifests import files as manifest_files

ROOT = Path(__file__).resolve().parent.parent.parent
FACTORS = {"agx": 10.0, "orin": 20.0, "nano": 45.0}
"""Percent of a node that one analyzer takes: a fast, a middling and a slow one."""
NEWCOMER = "xavier"
"""A node that joins in one of the tests; as fast as none of the others."""
ALL_FACTORS = {**FACTORS, NEWCOMER: 5.0}
STREAMS = ("pi1", "pi2", "pi3", "pi4")
NOT_OURS = {"job-name": "not-ours"}
OURS = ("KUBE-", "10.244.", f"{SERVICES}.")
"""What is in a route or a rule of the kernel that is ours or kube-proxy's."""
LOOK_S = 0.5
MOMENT_S = 0.5
"""What is seen of all nodes within this time is of one moment: streams don't follow each other so quickly."""
LOOKS = 10
"""So often at most; then what was seen is taken, however long that took."""
LARGE = 100.0
"""Processors of a node that is never busy."""
QUICK = Pace(8, 1, 4, 2, 10, 30, 60, 2, 15, 1)
README = Pace(30, 5, 30, 15, 60, 300, 4800, 10, 50, 1)


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
            rules.write(f"host all farm {PODS} trust\n")
        data.with_name(f"{data.name}.log").touch()
        super().__init__(data, binaries, user)
        self.command += ["-c", f"listen_addresses=127.0.0.1,{SERVERS_ADDRESS}"]


class MadeUpUsage(Usage):
    """Each node's GPU usage: analyzers that run there times the node's factor, and load that is not ours."""

    def __init__(self, nodes: Mapping[str, RealNode]) -> None:
        self.exporter = GpuExporter()
        self.foreign: dict[str, float] = dict.fromkeys(nodes, 0.0)
        """Percent of other people's load; set it at will."""
        self.lies: dict[str, str] = {}
        """Node -> ``silent``, ``nan`` or ``stale``: what its exporter says instead of the truth."""
        self.shown: dict[str, float] = {}
        self.running = {}
        self._nodes = nodes
        self._looking = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.look()
        self._thread.start()

    def look(self) -> None:
        """Look what runs, and show it."""
        with self._looking:  # nobody who has looked earlier says it later
            for _ in range(LOOKS):
                began_s = time.monotonic()
                running, shown = self._see()
                if time.monotonic() - began_s < MOMENT_S:
                    break
            self.running, self.shown = running, shown

    def _see(self) -> tuple[dict[str, list[str]], dict[str, float]]:
        running: dict[str, list[str]] = {}
        shown: dict[str, float] = {}
        for name, node in list(self._nodes.items()):  # one may join meanwhile
            analyzers = node.analyzers()
            for stream in analyzers.values():
                running.setdefault(stream, []).append(name)
            shown[name] = min(100.0, len(analyzers) * ALL_FACTORS[name] + self.foreign.get(name, 0.0))
            self._show(name, shown[name], node.on)
        return running, shown

    def _show(self, name: str, usage: float, on: bool) -> None:
        lie = self.lies.get(name, "")
        if lie == "silent" or not on:
            self.exporter.down(name)
        elif lie == "nan":
            self.exporter.set(name, "NaN")
        elif lie == "stale":
            minutes_ago = round((time.time() - 300) * 1000)
            self.exporter.show(name, f"{METRIC} 1 {minutes_ago}")
        else:
            self.exporter.set(name, usage)

    def _follow(self) -> None:
        while not self._end.wait(LOOK_S):
            self.look()

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self.exporter.close()


class RealFarm(FarmAtWork):
    """All of it. ``start()`` first, ``close()`` at the end, whatever happens between."""

    usage: MadeUpUsage
    nodes: dict[str, RealNode]

    def __init__(self, pace: Pace, binaries: Path, docker: Engine, report: Path) -> None:
        self.machine = Machine()
        super().__init__(STREAMS, pace, Timeline(report, ALL_FACTORS, STREAMS), self.machine.folder)
        self.docker = docker
        self.nodes = {}
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
        self.usage = MadeUpUsage(self.nodes)
        self._closing.callback(self.usage.close)
        self._metrics_ports = {"scaler": free_port(), "balancer": free_port(), "dashboard": free_port()}
        self._exporters = self.folder / "exporters.json"
        write_pods(self._exporters, [])
        self.prometheus = self._start(
            PrometheusServer(
                self._folder("prometheus"),
                self.usage.exporter.targets(*ALL_FACTORS),
                scrape_interval_s=self.pace.scrape_s,
                scrape_configs=[
                    from_file(scrape_configs()[EXPORTER], self._exporters, self.pace.scrape_s),
                    *self._scrapes_of_programs(),
                ],
                rule_files=[MONITORING / "alerts.yml"],
            )
        )
        for node in FACTORS:
            self.usage.exporter.wait_for_scrapes(node)
        self._make_objects()
        self._make_checkout()
        self.dashboard = self._start(self._make_dashboard())
        self._closing.callback(self._end_scripts)
        self.timeline.read_moves(lambda: [self.checkout.records / "scaler.log"])
        self.timeline.follow(self.usage)
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
        for name in FACTORS:
            self._start_node(name)
        self.cluster.until(Node, None, lambda nodes: sum(map(is_ready, nodes)) == len(FACTORS), timeout_s=WAIT_S)

    def _start_node(self, name: str) -> None:
        self.nodes[name] = RealNode(
            name,
            1 + list(ALL_FACTORS).index(name),
            self.folder / name,
            self.machine.kept / name,
            self._binaries / "kubelet",
            self.cluster.kubeconfig,
            self.sandbox_image,
        )
        self.nodes[name].start()

    def _end_nodes(self) -> None:
        with contextlib.suppress(Exception):
            self.cluster.start()
            for component in (self.cluster.keda, self.cluster.controller_manager, self.cluster.scheduler):
                component.stop()  # who would make others
            for pod in self.cluster.client.list(Pod, namespace="*"):
                namespace = pod.metadata.namespace
                self.cluster.client.delete(Pod, pod.metadata.name, namespace=namespace, grace_period=1)
            # what becomes of the objects is no matter: a finalizer may hold them
            wait_for(lambda: not any(node.main_processes() for node in self.nodes.values()), 60, look_s=0.5)
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
            balancer={**pace.balancer, "lease_s": 10},
            kubernetes={
                "start_timeout_s": 600, "stop_timeout_s": 120,
                "pictures_host_path": "/var/lib/posture-farm",  # where account() looks for them
            },
            scaler={"refresh_s": min(5.0, pace.sample_interval_s), "stabilize_s": 120},
        )  # fmt: skip
        for program in ("scaler", "balancer"):
            checkout.settings[program]["metrics_port"] = self._metrics_ports[program]
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

    def _scrapes_of_programs(self) -> list[dict[str, Any]]:
        """Jobs of Prometheus with the names that deploy/monitoring gives them."""
        interval = f"{round(self.pace.scrape_s * 1000)}ms"
        return [
            {
                "job_name": f"posture-{program}",
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
            }
            for program, port in self._metrics_ports.items()
        ]

    def _make_dashboard(self) -> DashboardProcess:
        """The page, with the rights of its account in deploy/dashboard."""
        rights = ROOT / "deploy" / "dashboard" / "rbac.yaml"
        kubeconfig = service_account(self.cluster, NAMESPACE, "posture-dashboard", rights)
        taken = ("GPU_QUERIES", "prometheus", "kubernetes", "streams")
        settings = {
            **{section: self.checkout.settings[section] for section in taken},
            "mqtt": {"url": f"mqtt://127.0.0.1:{self.mosquitto.port}"},
            "database": {"url": self.postgres.url},
            "dashboard": {"metrics_port": self._metrics_ports["dashboard"]},
        }
        return DashboardProcess(self._folder("dashboard"), settings, KUBECONFIG=str(kubeconfig))

    def _set_polling(self) -> None:
        for path in self.checkout.manifests():
            text = re.sub(r"pollingInterval: \d+", f"pollingInterval: {self.pace.polling_s}", path.read_text())
            path.write_text(text)

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
        assert before.wait(300) == 0, before.said

    def be_quick(self) -> None:
        """Take short timers from now on."""
        if self.pace is QUICK:
            return
        self.pace = QUICK
        self.checkout.settings["balancer"].update(self.pace.balancer)
        self.checkout.write_settings()
        self._set_polling()
        self.run_again()

    def run_again(self) -> None:
        """Run build_and_push.py without building, as an operator does who has changed something, or mends it."""
        before = self.script
        self.script = self.checkout.start("build_and_push.py", "--skip-build")
        self.script.until_it_says("press ENTER", 300)
        before.wait(300)

    def join(self, name: str) -> None:
        """Let a new node join, write its line into cluster.yaml, and wait until the balancer knows it."""
        log = str(self.checkout.records / "scaler.log")
        said = len(read(log))
        self._start_node(name)
        self.cluster.until(
            Node,
            None,
            lambda nodes: any(node.metadata.name == name and is_ready(node) for node in nodes),
            timeout_s=WAIT_S,
        )
        self.checkout.settings["GPU_QUERIES"][name] = {"instance": instance_of(name), "metric": METRIC}
        self.checkout.write_settings()
        wait_for(lambda: re.search(rf"{name} [\d.]+ %", read(log)[said:]) is not None, WAIT_S, look_s=0.5)

    def lose_for_good(self, name: str) -> None:
        """Cut a node's power, and take it out of the cluster and out of cluster.yaml."""
        self.nodes[name].cut_power()
        self.cluster.client.delete(Node, name)
        del self.checkout.settings["GPU_QUERIES"][name]
        self.checkout.write_settings()

    def forget(self, name: str) -> None:
        """Let nothing be left of a node that joined, its disk included."""
        node = self.nodes[name]
        if name in self.checkout.settings["GPU_QUERIES"]:
            self.lose_for_good(name)
        del self.nodes[name]
        self.lost_disks.add(name)
        node.wipe_images()
        shutil.rmtree(node.disk)

    @contextlib.contextmanager
    def balanced_by_processors(self) -> Iterator[NodeProcessors]:
        """Balance by what the nodes' processors really do, measured by our exporter on each node, for a while.

        At first the nodes are so large that nothing is too much for them.
        """
        before = {"GPU_QUERIES": self.checkout.settings["GPU_QUERIES"]}
        with self.exporters_on_nodes() as processors:
            queries = {node: {"instance": node, "signal": "cpu"} for node in self.nodes}
            self._balance_by({"GPU_QUERIES": queries})
            try:
                yield processors
            finally:
                self._balance_by(before)

    @contextlib.contextmanager
    def exporters_on_nodes(self) -> Iterator[NodeProcessors]:
        """Run our exporter on each node; the nodes are so large at first that nothing is too much for them."""
        processors = NodeProcessors(self.nodes, LARGE)
        try:
            image = f"{self.registry.host}/posture-scheduler:e2e"
            self.docker.run(
                "build", "--target", "scheduler", "--tag", image, str(self.checkout.folder), timeout_s=900
            )
            self.docker.run("push", image, timeout_s=600)
            with exporters(self.cluster, NAMESPACE, image, len(self.nodes), self._exporters):
                yield processors
        finally:
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

    @functools.cached_property
    def onlooker(self) -> Onlooker:
        made = Onlooker(self.timeline.folder / PICTURES)
        self._closing.callback(made.close)
        return made

    @contextlib.contextmanager
    def open_page(self) -> Iterator[OpenPage]:
        yield OpenPage(self.dashboard.url)

    def take_in_new_nodes(self) -> None:
        """They label themselves."""

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
        for kind, listed in (("route", ip("route", "show")), ("rule", rules)):
            told += [f"{kind} {line}" for line in listed.splitlines() if any(ours in line for ours in OURS)]
        return told + [str(path) for path in [self.folder] if path.exists()]

    # how a farm of this form is asked

    @property
    def database_url(self) -> str:
        return str(self.postgres.url)

    def access_of(self, stream: str) -> Access:
        return Access(["--broker", f"mqtt://127.0.0.1:{self.mosquitto.port}"])

    def stored_pictures(self, stream: str) -> Mapping[str, Collection[str]]:
        return {
            name: {path.name for path in node.disk.glob("posture-farm/analyzed_images/*/*")}
            for name, node in self.nodes.items()
        }

    def last_words(self) -> str:
        return "\n".join(read(str(self.checkout.records / "scaler.log")).splitlines()[-40:])

    def pid_of(self, name: str) -> int:
        """The pid of ``scaler`` or ``balancer``."""
        scaler = int(json.loads((self.checkout.records / "scaler.json").read_text())["pid"])
        if name == "scaler":
            return scaler
        children = read(f"/proc/{scaler}/task/{scaler}/children").split()
        return int(next(pid for pid in children if "gpu_balancer.py" in read(f"/proc/{pid}/cmdline")))

    def programs(self) -> dict[str, int]:
        """Name -> pid of each program of ours that runs now."""
        found: dict[str, int] = {f"camera {stream}": camera.pid for stream, camera in self.cameras.items()}
        found |= {"build_and_push.py": self.script.pid, "dashboard": self.dashboard.pid}
        for name in ("scaler", "balancer"):
            with contextlib.suppress(OSError, ValueError, StopIteration):  # it is being started again
                found[name] = self.pid_of(name)
        for name, node in self.nodes.items():
            found |= {f"analyzer {stream}": pid for pid, stream in node.analyzers().items()}
            found |= {f"exporter {name}": pid for pid in node.running("gpu_exporter.py")}
        return found

    def keep_logs(self, target: Path) -> None:
        """Copy the logs to where they survive the run."""
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for path in [*self.folder.glob("*/*.log"), *self.folder.glob("farm/run/*/*.log")]:
            with contextlib.suppress(OSError):
                shutil.copyfile(path, target / f"{path.parent.name}-{path.name}")
        for node in self.nodes.values():
            for path in node.logs_of("*", "*"):
                with contextlib.suppress(OSError):
                    shutil.copyfile(
                        path, target / f"{node.name}-{path.parent.parent.name}-{path.parent.name}-{path.name}"
                    )
