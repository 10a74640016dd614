"""Fixtures: real servers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from servers import Mosquitto, Postgres, make_cluster, postgres_binaries, server_user

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running broker; a test may stop, kill and start it."""
    broker = Mosquitto(tmp_path / "mosquitto")
    broker.start()
    yield broker
    broker.stop()


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
    server.start()
    with psycopg.connect(server.url, autocommit=True) as db:
        db.execute((ROOT / "schema.sql").read_text())
    yield server
    server.stop()
    shutil.rmtree(data)
