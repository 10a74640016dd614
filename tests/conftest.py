"""Fixtures: real servers."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker_engine
import psycopg
import pytest
from docker_engine import Engine, EngineMissingError
from driven_exporter import GpuExporter
from hypothesis import HealthCheck, settings
from psycopg import sql
from s3_server import S3Server
from servers import Mosquitto, Postgres, PrometheusServer, make_cluster, postgres_binaries, server_user

ROOT = Path(__file__).resolve().parent.parent

for name in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):
    os.environ.pop(name, None)  # containers have them, and users' shells do not
os.environ.setdefault("GOGC", "200")  # API servers and the like: memory costs less than the time to tidy it up

# how long an example takes tells how busy the machine is
settings.register_profile(
    "farm", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
settings.register_profile("thorough", settings.get_profile("farm"), max_examples=10_000)
settings.load_profile("farm")


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running broker; a test may stop, kill and start it."""
    broker = Mosquitto(tmp_path / "mosquitto")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    """A running S3 server with a bucket; a test may stop, kill and start it."""
    server = S3Server(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system of its own needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    """A Docker engine with the base image of our Dockerfile."""
    with contextlib.ExitStack() as stack:
        try:
            engine = stack.enter_context(docker_engine.engine())
        except EngineMissingError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error))
            pytest.skip(str(error))
        yield engine


@pytest.fixture
def gpu_exporter() -> Iterator[GpuExporter]:
    """A fake exporter that the test drives."""
    exporter = GpuExporter()
    yield exporter
    exporter.close()


@pytest.fixture
def prometheus(tmp_path: Path, gpu_exporter: GpuExporter) -> Iterator[PrometheusServer]:
    """A running Prometheus that scrapes nodes a, b, c and d of the exporter; a test may stop, kill and start it."""
    server = PrometheusServer(tmp_path / "prometheus", gpu_exporter.targets("a", "b", "c", "d"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[tuple[Path, str, int | None]]:
    """A database cluster as initdb makes it, once per run. Not under pytest's folder: its owner is another user."""
    binaries, user = postgres_binaries(), server_user()
    folder = Path(tempfile.mkdtemp(prefix="posture-postgres-"))
    folder.chmod(0o755)
    make_cluster(folder / "template", binaries, user)
    yield folder / "template", binaries, user
    shutil.rmtree(folder)


@pytest.fixture
def postgres(postgres_template: tuple[Path, str, int | None]) -> Iterator[Postgres]:
    """A running PostgreSQL with schema.sql applied; a test may stop, kill and start it."""
    with running_postgres(postgres_template) as server:
        with psycopg.connect(server.url, autocommit=True) as db:
            db.execute((ROOT / "deploy" / "schema" / "schema.sql").read_text())
        yield server


@pytest.fixture(scope="session")
def shared_postgres(postgres_template: tuple[Path, str, int | None]) -> Iterator[Postgres]:
    """A running PostgreSQL that no test stops."""
    with running_postgres(postgres_template) as server:
        yield server


@pytest.fixture
def database(shared_postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(shared_postgres.url, autocommit=True) as db:
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield shared_postgres.url.rpartition("/")[0] + f"/{name}"
        db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def running_postgres(postgres_template: tuple[Path, str, int | None]) -> Iterator[Postgres]:
    template, binaries, user = postgres_template
    data = Path(tempfile.mkdtemp(prefix="data-", dir=template.parent))
    shutil.rmtree(data)
    shutil.copytree(template, data)
    if user is not None:
        for path in (data, *data.rglob("*")):
            shutil.chown(path, user)
    data.chmod(0o700)
    server = Postgres(data, binaries, user)
    server.log.touch()
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(data)
