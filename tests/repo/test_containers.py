"""The images and docker-compose.yml, on a real Docker engine with a real broker in a container."""

# ruff: noqa: S108 - /tmp is the containers', not this machine's

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import threading
import time
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from docker_engine import BUILD_S, Engine
from documented_steps import COMPOSE_DOWN, COMPOSE_SHOWS, COMPOSE_UP
from farm import Camera, Watcher, clip_jpegs
from grpc_health.v1 import health_pb2, health_pb2_grpc
from identities import TAP, TAP_PASSWORD, Client, credentials, files_with_tap
from servers import find_program, free_port

from posture.dashboard import passwords
from posture.wire import frame
from posture.wire.identities import provision

pytestmark = pytest.mark.xdist_group("docker")
ROOT = Path(__file__).resolve().parents[2]
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
ANALYZERS = {
    "posture-analyzer": "Images_From_Pi.py",
    "posture-pi1": "Images_From_Pi1.py",
    "posture-pi2": "Images_From_Pi2.py",
}
APPS = {**ANALYZERS, "posture-camera-pi1": "publish_images.py"}
SECOND_NAMES = {"posture-folders": "Images_From_Pi.py", "posture-camera-pi2": "publish_images.py"}
IDENTITIES = {"posture-identities": "broker_identities.py"}
"""The same images, as docker-compose.yml names them for other services."""
SCHEDULER = "posture-scheduler"
DASHBOARD = "posture-dashboard"


def build(docker: Engine, folder: Path, tag: str, target: str, app: str = "") -> None:
    argument = ("--build-arg", f"APP={app}") if app else ()
    docker.run("build", "--target", target, *argument, "--tag", tag, str(folder), timeout_s=BUILD_S)


@pytest.fixture(scope="session")
def images(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine, with all images of the farm built from this checkout."""
    folder = checkout(tmp_path_factory.mktemp("checkout"))  # nobody edits the copy meanwhile
    for tag, app in {**APPS, **SECOND_NAMES, **IDENTITIES}.items():
        build(docker, folder, tag, "analyzer", app)
    build(docker, folder, SCHEDULER, "scheduler")
    for name in ("eclipse-mosquitto:2", "postgres:17"):
        docker.need_image(name)
    return docker


def inside(docker: Engine, image: str, script: str) -> str:
    """Run a shell script in an image, as root."""
    return docker.run("run", "--rm", "--user", "0", "--network", "none", "--entrypoint", "sh", image, "-c", script)


def test_the_images_of_all_streams_differ_in_their_last_layer_alone(images: Engine) -> None:
    layers = [json.loads(images.run("inspect", "--format", "{{json .RootFS.Layers}}", tag)) for tag in APPS]
    assert len({tuple(image[:-1]) for image in layers}) == 1
    assert len({image[-1] for image in layers}) == len(APPS)
    history = images.run("history", "--format", "{{.Size}}", "posture-pi1").splitlines()
    last = next(size for size in history if size != "0B")
    assert last.endswith(("B", "kB"))
    assert not last.endswith("MB")


@pytest.mark.parametrize("image", [*ANALYZERS, SCHEDULER])
def test_an_image_runs_as_somebody_who_may_nothing(images: Engine, image: str) -> None:
    config = json.loads(images.run("inspect", "--format", "{{json .Config}}", image))
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["StopSignal"] == "SIGTERM"
    owned = "find / -xdev \\( -user 10001 -o -perm -o+w \\) -not -type l -not -path '/proc/*' -not -path '/dev/*'"
    writable = set(inside(images, image, owned).split())
    pictures = {"/app/analyzed_images", "/app/quarantine"} if image in ANALYZERS else set()
    assert writable - {"/tmp", "/var/tmp", "/run/lock", "/var/lock"} == pictures


@pytest.mark.parametrize("image", [*ANALYZERS, SCHEDULER])
def test_an_image_has_no_compiler_no_pip_and_no_cache(images: Engine, image: str) -> None:
    tools = "gcc cc g++ c++ clang tcc ld as make cmake go rustc pip pip3 git"
    found = inside(
        images,
        image,
        f"for tool in {tools}; do command -v $tool; done; python3 -c 'import pip' 2>/dev/null && echo pip; "
        "ls ~root/.cache /tmp /var/lib/apt/lists /var/cache/apt/archives/*.deb 2>/dev/null | grep -v ':$' ; true",
    )
    assert found.split() == []


def test_the_common_image_asks_for_the_stream_that_it_is_to_analyse(images: Engine) -> None:
    said = images.run(
        "run",
        "--rm",
        "--network",
        "none",
        "--entrypoint",
        "sh",
        "posture-analyzer",
        "-c",
        'python3 "$APP" 2>&1; true',
    )
    assert "POSTURE_STREAM: must be given" in said


def test_the_analyzers_image_leads_egl_to_nvidias_driver_where_that_is_mounted(images: Engine) -> None:
    found = json.loads(inside(images, "posture-pi1", "cat /usr/share/glvnd/egl_vendor.d/10_nvidia.json"))
    assert found["ICD"]["library_path"] == "libEGL_nvidia.so.0"


def test_a_board_is_tried_with_the_analyzers_image_alone(images: Engine) -> None:
    command = ("--entrypoint", "python3", "posture-pi1", "-m", "posture.analyzer.probe", "--frames", "3")
    said = images.run("run", "--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", *command)
    assert "landmarks  0.00" in said
    assert said.splitlines()[-1].startswith("posture-probe ")


def test_the_image_of_scaler_and_balancer_has_neither_mediapipe_nor_cv2(images: Engine) -> None:
    script = "import importlib.util as i; print([m for m in ('mediapipe', 'cv2', 'numpy') if i.find_spec(m)])"
    assert inside(images, SCHEDULER, f'python3 -c "{script}"') == "[]"


def checkout(folder: Path) -> Path:
    """A copy of what git has, or would have after the next commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def test_nothing_private_that_lies_in_the_checkout_gets_into_an_image(images: Engine, tmp_path: Path) -> None:
    folder, secret = checkout(tmp_path), f"secret-{uuid.uuid4().hex}"
    private = [".env", "posture/.env", "models/token", "cluster.yaml", "analyzed_images/face.jpg", "spool/face.jpg",
               "posture.db", "id_rsa", ".git/config", ".docker/config.json", "requirements/pip.conf"]  # fmt: skip
    for name in private:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(secret)
    for tag, target in ((f"{secret}-a", "analyzer"), (f"{secret}-s", "scheduler")):
        build(images, folder, tag, target)
        try:
            found = inside(images, tag, f"grep -rl {secret[:20]} / --exclude-dir=proc --exclude-dir=sys; true")
            said = images.run("history", "--no-trunc", tag) + images.run("inspect", tag).replace(tag, "")
        finally:
            images.run("rmi", tag)
        assert found == ""
        assert secret[:20] not in said
        assert "://" not in "\n".join(line for line in said.splitlines() if "pip" in line.lower())


def test_the_documented_sizes_are_those_of_the_images(images: Engine) -> None:
    page = (ROOT / "docs" / "containers.md").read_text()
    for image in ("posture-pi1", SCHEDULER):
        (row,) = (
            line for line in page.splitlines() if line.startswith("| `") and f"`{image}`" in line.split("|")[1]
        )
        documented = int(row.split("|")[2].split()[0])
        measured = int(images.run("inspect", "--format", "{{.Size}}", image)) / 1e6
        assert measured == pytest.approx(documented, rel=0.15)


def test_the_pages_container_serves_it_read_only_as_nobody_and_ends_cleanly(docker: Engine, tmp_path: Path) -> None:
    build(docker, checkout(tmp_path / "checkout"), DASHBOARD, "dashboard")
    users = tmp_path / "users"
    passwords.add(users, "ada", "viewer", "correct horse battery")
    tmp_path.chmod(0o755)
    os.chown(users, 10_001, 10_001)
    port, name = free_port(), f"posture-test-{uuid.uuid4().hex[:8]}"
    docker.run(
        "run", "--detach", "--name", name, *HARDENED,
        "--publish", f"127.0.0.1:{port}:8470", "--health-interval", "1s",
        "--volume", f"{users}:/users:ro", DASHBOARD, "--listen", ":8470", "--users-file", "/users",
    )  # fmt: skip
    try:
        assert wait_for_health(docker, name) == "healthy", docker.run("logs", name)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/login", timeout=60) as page:
            assert b"Log in" in page.read()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/static/streams.js", timeout=60) as script:
            assert script.status == 200
        docker.run("stop", "-t", "60", name)
        assert docker.run("inspect", "--format", "{{.State.ExitCode}}", name) == "0"
    finally:
        docker.run("rm", "--force", name)


class Network:
    """A network of containers with a broker in it, which this machine reaches at ``port``."""

    def __init__(self, docker: Engine, folder: Path) -> None:
        self.docker, self.port, self.identities = docker, free_port(), folder / "identities"
        self.name = f"posture-test-{uuid.uuid4().hex[:8]}"
        self.containers: list[str] = []
        docker.run("network", "create", self.name)
        config = ROOT / "deploy" / "mosquitto.conf"
        provision(self.identities, ["pi1"])
        files_with_tap(self.identities, folder / "broker")
        for path in (folder, folder / "broker", *(folder / "broker").iterdir()):
            path.chmod(0o755)  # the broker in the container is another user
        self.run(
            "broker", "eclipse-mosquitto:2", "--publish", f"127.0.0.1:{self.port}:1883",
            "--volume", f"{config}:/mosquitto/config/mosquitto.conf:ro", "--network-alias", "broker",
            "--volume", f"{folder / 'broker'}:/mosquitto/identities:ro",
        )  # fmt: skip

    def run(self, name: str, image: str, *flags: str, command: tuple[str, ...] = ()) -> str:
        container = f"{self.name}-{name}"
        self.containers.append(container)
        self.docker.run("run", "--detach", "--name", container, "--network", self.name, *flags, image, *command)
        return container

    def close(self) -> None:
        self.docker.run("rm", "--force", "--volumes", *self.containers)
        self.docker.run("network", "rm", self.name)


@pytest.fixture
def network(images: Engine, tmp_path: Path) -> Iterator[Network]:
    made = Network(images, tmp_path)
    yield made
    made.close()


class Analyzer:
    """The container of stream pi1, hardened as the cluster runs it."""

    def __init__(self, network: Network) -> None:
        self.docker = network.docker
        user, password = credentials(network.identities, "analyzer-pi1")
        self.name = network.run(
            "pi1", "posture-pi1", *HARDENED, "--health-interval", "1s", "--memory", "1g",
            "--env", "POSTURE_MQTT_URL=mqtt://broker:1883",
            "--env", f"POSTURE_MQTT_USERNAME={user}", "--env", f"POSTURE_MQTT_PASSWORD={password}",
            "--env", "POSTURE_DATABASE_URL=sqlite:///analyzed_images/posture.db",
            "--env", "POSTURE_ANALYZER_KEEP=all",
        )  # fmt: skip

    def inspect(self, what: str) -> str:
        return self.docker.run("inspect", "--format", f"{{{{{what}}}}}", self.name)

    def wait_online(self, watcher: Watcher) -> None:
        """Wait for the status of this start of the container; its host name stays, its start time does not."""
        started = self.inspect(".State.StartedAt")[:19]

        def online(w: Watcher) -> bool:
            status = w.retained.get("status/pi1") or {}
            return status.get("state") == "online" and str(status.get("started", "")) >= started

        watcher.wait_for(online, 120)

    def stop(self) -> None:
        """docker stop, with its default patience of ten seconds."""
        self.docker.run("stop", self.name)
        assert self.inspect(".State.ExitCode") == "0"

    def results(self, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
        """Rows and pictures' names, copied out of the stopped container's volume."""
        self.docker.run("cp", f"{self.name}:/app/analyzed_images", str(folder))
        return rows_of(folder / "analyzed_images"), pictures_of(folder / "analyzed_images", "pi1")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(folder / "posture.db")) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute("SELECT * FROM posture_log")]


def pictures_of(folder: Path, pi_id: str) -> list[str]:
    return sorted(path.name for path in (folder / f"analyzed_images_from_{pi_id}").glob("*"))


def test_a_read_only_container_of_nobody_turns_frames_into_rows_and_docker_stop_in_mid_stream_loses_none(
    network: Network, tmp_path: Path
) -> None:
    watcher = Watcher(network.port, TAP, TAP_PASSWORD)
    analyzer = Analyzer(network)
    analyzer.wait_online(watcher)
    assert network.docker.run("exec", analyzer.name, "id", "-u") == "10001"
    for place, may in (("/app/x", "no"), ("/app/posture/x", "no"), ("/app/quarantine/x", "yes"), ("/tmp/x", "yes")):
        attempt = f"touch {place} 2>/dev/null && echo yes || echo no"
        assert network.docker.run("exec", analyzer.name, "sh", "-c", attempt) == may, place
    user, password = credentials(network.identities, "camera-pi1")
    camera = Camera(network.port, username=user, password=password)
    analyzer.stop()  # from here on the broker keeps its frames
    for jpeg in clip_jpegs(40) * 10:
        camera.publish(jpeg)
    for enough in (20, 70, 120):
        network.docker.run("start", analyzer.name)
        analyzer.wait_online(watcher)
        watcher.wait_for(lambda w, enough=enough: len(w.receipts) >= enough)
        analyzer.stop()
    assert len(watcher.receipts) < len(camera.published), "it stopped in mid-stream"
    network.docker.run("start", analyzer.name)
    watcher.wait_for(lambda w: w.receipts >= set(camera.published), 120)
    assert wait_for_health(network.docker, analyzer.name) == "healthy"
    analyzer.stop()
    rows, pictures = analyzer.results(tmp_path)
    assert sorted(row["frame_id"] for row in rows) == sorted(camera.published)
    assert {row["posture_status"] for row in rows} >= {"Good"}
    assert pictures == sorted(f"{frame.safe_name(name)}.jpg" for name in camera.published)
    camera.close()
    watcher.close()


def wait_for_health(docker: Engine, container: str) -> str:
    """Wait for the engine's event that tells of a container's health, until it is healthy; return what it is."""
    state = "{{.State.Health.Status}}"
    with subprocess.Popen(
        [
            "docker", "events", "--since", "1h", "--filter", f"container={container}",
            "--filter", "event=health_status", "--format", "{{.Status}}",
        ],
        env=docker.environ, stdout=subprocess.PIPE, text=True,
    ) as events:  # fmt: skip
        timer = threading.Timer(120, events.terminate)
        timer.start()
        assert events.stdout is not None
        for _ in events.stdout:
            if docker.run("inspect", "--format", state, container) == "healthy":
                break
        timer.cancel()
        events.terminate()
    return docker.run("inspect", "--format", state, container)


def test_the_scalers_container_answers_keda_read_only_and_ends_cleanly(network: Network) -> None:
    port = free_port()
    scaler = network.run(
        "scaler", SCHEDULER, *HARDENED, "--publish", f"127.0.0.1:{port}:50051", "--health-interval", "1s",
        "--env", 'POSTURE_GPU_QUERIES={"agx": {"instance": "192.0.2.1:9100", "metric": "gpu"}}',
        command=("--insecure", "--no-balancer"),
    )  # fmt: skip
    assert wait_for_health(network.docker, scaler) == "healthy"
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    network.docker.run("stop", "-t", "60", scaler)
    assert network.docker.run("inspect", "--format", "{{.State.ExitCode}}", scaler) == "0"


class Compose:
    """docker-compose in a checkout of its own, as the README has it."""

    def __init__(self, docker: Engine, folder: Path, **environ: str) -> None:
        modern = shutil.which("docker-compose") is None
        self.program = ["docker", "compose"] if modern else [find_program("docker-compose", "docker-compose")]
        self.docker, self.folder, self.port = docker, checkout(folder), free_port()
        self.project = f"posture-test-{uuid.uuid4().hex[:8]}"
        uid = {"FARM_UID": str(os.getuid()), "FARM_GID": str(os.getgid())} if os.getuid() else {}
        self.environ = {
            **docker.environ, **uid, "POSTURE_ANALYZER_KEEP": "all", **environ,
            "COMPOSE_PROJECT_NAME": self.project, "BROKER_LISTEN": f"127.0.0.1:{self.port}",
        }  # fmt: skip

    def type(self, line: str) -> str:
        """Type a line of README."""
        return self._run("bash", "-c", line.replace("docker-compose", " ".join(self.program)))

    def run(self, *arguments: str) -> str:
        return self._run(*self.program, *arguments)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            arguments,
            cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        done = subprocess.run(
            [*self.program, "logs", "--no-color", "--tail", "20"],
            cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout[-6000:]

    def containers(self) -> list[str]:
        label = f"label=com.docker.compose.project={self.project}"
        return self.docker.run("ps", "--all", "--quiet", "--filter", label).split()

    def wait_for_cameras(self) -> None:
        """Wait until both cameras have ended: each of their frames has its receipt, or else they fail."""
        cameras = [self.run("ps", "--quiet", f"camera-{pi_id}").strip() for pi_id in ("pi1", "pi2")]
        assert self.docker.run("wait", *cameras, timeout_s=180).split() == ["0", "0"], self.logs()


@pytest.fixture
def compose(images: Engine, tmp_path: Path) -> Iterator[Compose]:
    made = Compose(images, tmp_path)
    yield made
    made.run("down", "--volumes", "--remove-orphans")


def test_compose_up_brings_rows_and_pictures_and_down_in_mid_stream_loses_nothing(compose: Compose) -> None:
    compose.environ["CAMERA_FRAMES"] = "2000"
    compose.type(COMPOSE_UP)
    watcher = Watcher(compose.port, *credentials(compose.folder / "broker", "viewer"))

    def both_are_at_work(w: Watcher) -> bool:
        rows = [(w.retained.get(f"account/{pi_id}") or {}).get("rows", 0) for pi_id in ("pi1", "pi2")]
        return len(w.receipts) >= 40 and min(rows) >= 20

    watcher.wait_for(both_are_at_work, 240)
    output = compose.folder / "analyzed_images"
    assert len(rows_of(output)) >= 40
    assert {"posture.db", "analyzed_images_from_pi1"} <= set(compose.type(COMPOSE_SHOWS).split())
    compose.type(COMPOSE_DOWN)
    assert compose.containers() == []
    seen = len(rows_of(output))
    assert seen < 4000, "it stopped in mid-stream"

    compose.environ["CAMERA_FRAMES"] = "20"
    compose.run("up", "-d")
    compose.wait_for_cameras()
    compose.run("down")
    rows = rows_of(output)
    numbers = defaultdict(list)
    for row in rows:
        numbers[row["pi_id"], row["boot_id"]].append(row["seq"])
    assert sorted(pi_id for pi_id, _ in numbers) == ["pi1", "pi1", "pi2", "pi2"]
    for seqs in numbers.values():  # two runs of each camera; none of their frames is missing or twice
        assert sorted(seqs) == list(range(min(seqs), min(seqs) + len(seqs)))
        assert min(seqs) <= 1
    assert sorted(map(len, numbers.values()))[:2] == [20, 20]
    for pi_id in ("pi1", "pi2"):
        names = [frame.safe_name(row["frame_id"]) for row in rows if row["pi_id"] == pi_id]
        assert pictures_of(output, pi_id) == sorted(f"{name}.jpg" for name in names)
    left = compose.docker.run(
        "run", "--rm", "--user", "0", "--volume", f"{compose.project}_spool:/spool", "--entrypoint", "find",
        "posture-camera-pi1", "/spool", "-name", "*.jpg",
    )  # fmt: skip
    assert left == "", "frames without a receipt wait in the spool"
    watcher.close()


def test_compose_with_the_postgres_profile_keeps_its_rows_over_down_and_up(compose: Compose) -> None:
    password = uuid.uuid4().hex
    (compose.folder / ".env").write_text(
        f"COMPOSE_PROFILES=postgres\nPOSTGRES_PASSWORD={password}\nCAMERA_FRAMES=10\n"
        f"POSTURE_DATABASE_URL=postgresql://farm:{password}@postgres/farm\n"
    )

    def counted() -> str:
        query = "SELECT count(*), count(DISTINCT frame_id), count(DISTINCT pi_id) FROM posture_log"
        psql = ("psql", "-h", "127.0.0.1", "-U", "farm", "-Atc", query)
        return compose.run("exec", "-T", "-e", f"PGPASSWORD={password}", "postgres", *psql).strip()

    compose.run("up", "-d")
    compose.wait_for_cameras()
    assert counted() == "20|20|2"
    compose.run("down")
    compose.run("up", "-d", "postgres")
    assert wait_for_health(compose.docker, compose.run("ps", "--quiet", "postgres").strip()) == "healthy"
    assert counted() == "20|20|2"


def test_compose_with_the_dashboard_profile_shows_the_page_to_who_has_its_password(compose: Compose) -> None:
    port = free_port()
    compose.environ |= {"COMPOSE_PROFILES": "dashboard", "DASHBOARD_LISTEN": f"127.0.0.1:{port}"}
    compose.run("up", "-d", "dashboard")
    url, visitor = f"http://127.0.0.1:{port}", requests.Session()
    deadline = time.monotonic() + 120
    while " as dashboard.all " not in compose.run("logs", "--no-color", "broker") or "startup complete" not in (
        compose.run("logs", "--no-color", "dashboard")
    ):
        assert time.monotonic() < deadline, compose.logs()
        time.sleep(0.2)
    form = visitor.get(f"{url}/login", timeout=60).text
    (token,) = re.findall(r'name="token" value="([^"]+)"', form)
    password = (compose.folder / "page" / "password").read_text().strip()
    for given, status in (("not this one", 401), (password, 200)):
        answer = visitor.post(
            f"{url}/login", timeout=60, data={"token": token, "name": "operator", "password": given, "next": "/"}
        )
        assert answer.status_code == status
    assert visitor.get(f"{url}/", timeout=60).url == f"{url}/"
    assert password not in compose.logs()


def test_composes_first_start_makes_passwords_that_a_second_one_keeps_and_strangers_are_turned_away(
    compose: Compose,
) -> None:
    compose.run("up", "-d", "broker")
    assert wait_for_health(compose.docker, compose.run("ps", "--quiet", "broker").strip()) == "healthy"
    files = {path: path.read_bytes() for path in (compose.folder / "broker").rglob("*") if path.is_file()}
    assert len(files) == 2 * 7 + 2, "name and password of seven users, and the broker's two files"
    assert {oct(path.stat().st_mode)[-3:] for path in files} == {"600"}
    camera = credentials(compose.folder / "broker", "camera-pi1")
    for user, password in (("", ""), camera, (camera[0], "wrong"), ("posture-pi1", "")):
        client = Client(compose.port, user, password)
        assert bool(client.refused) == ((user, password) != camera)
        client.close()
    compose.run("down")
    compose.run("up", "-d", "broker")
    assert {path: path.read_bytes() for path in files} == files
    said = compose.logs()
    assert not any(data.decode() in said for path, data in files.items() if path.name == "POSTURE_MQTT_PASSWORD")
