"""The database of deploy/stack: its containers' commands, out of the manifests, with Debian's PostgreSQL."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from documented_steps import COPY_DATABASE, PUT_COPY_BACK
from psycopg import sql
from servers import Postgres, postgres_binaries
from stack_objects import container_of, find, values_of, write_config_maps

SECRET = {"POSTGRES_PASSWORD": "of the administrator's", "POSTURE_PASSWORD": "it's 100 % the role's"}


def template(name: str, kind: str, object_name: str) -> dict[str, Any]:
    spec = find(name, kind, object_name)["spec"]
    return dict(spec.get("jobTemplate", {}).get("spec", spec)["template"])


Done = subprocess.CompletedProcess[str]


def moved(text: str, places: Mapping[str, Path]) -> str:
    """A text with the paths of mounts as they are here."""
    for mount, place in places.items():
        text = re.sub(rf"(?<!\S){re.escape(mount)}/", f"{place}/", text)
    return text


class Database:
    """The pods of deploy/stack/database on one machine."""

    def __init__(self, server: Postgres, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.backups = folder / "backups"
        self.backups.mkdir()
        with psycopg.connect(server.url, autocommit=True) as db:  # as the image makes an empty one
            password = sql.Literal(SECRET["POSTGRES_PASSWORD"])
            db.execute(sql.SQL("CREATE ROLE postgres SUPERUSER LOGIN PASSWORD {}").format(password))

    def run(self, pod: Mapping[str, Any], command: list[str], name: str, **more: str) -> Done:
        """Run a command of a pod's container with its environment; its mounts are folders here."""
        places = write_config_maps(name, pod, Path(tempfile.mkdtemp(dir=self.folder)))
        values = {**values_of(container_of(pod), SECRET), "PGPORT": str(self.server.port), **more}
        values["PATH"] = f"{postgres_binaries()}:{os.environ['PATH']}"
        if "PGHOST" in values:
            assert values["PGHOST"] == find("stack", "Service", "posture-postgres")["metadata"]["name"]
            values["PGHOST"] = "127.0.0.1"
        if "BACKUPS" in values:
            values["BACKUPS"] = str(self.backups)
        shell, script = command
        path = Path(moved(script, places))
        path.write_text(moved(path.read_text(), places))
        return subprocess.run(
            [shell, str(path)], env=values, capture_output=True, text=True, timeout=60, check=False
        )

    def prepare(self) -> None:
        """What the container does after its start."""
        pod = template("stack", "StatefulSet", "posture-postgres")
        command = container_of(pod)["lifecycle"]["postStart"]["exec"]["command"]
        done = self.run(pod, command, "stack")
        assert done.returncode == 0, done.stderr

    def back_up(self, **more: str) -> Done:
        pod = template("stack", "CronJob", "posture-backup")
        return self.run(pod, container_of(pod)["command"], "stack", **more)

    def restore(self, **more: str) -> Done:
        pod = template("stack/restore", "Job", "posture-restore")
        return self.run(pod, container_of(pod)["command"], "stack/restore", **more)

    def type(self, line: str) -> None:
        """Type a line of docs/stack.md; what kubectl runs in the database's pod is run here."""
        inside, found = re.subn(r"^kubectl -n posture-farm exec (?:-i )?posture-postgres-0 -- ", "", line)
        assert found, line
        path = f"{postgres_binaries()}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", inside],
            env={**SECRET, "PGPORT": str(self.server.port), "PATH": path},
            cwd=self.folder, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """As an analyzer does."""
        return psycopg.connect(
            host="127.0.0.1", port=self.server.port, dbname="posture", user="posture",
            password=SECRET["POSTURE_PASSWORD"], autocommit=True,
        )  # fmt: skip

    def add(self, *frames: str) -> None:
        with self.connect() as db:
            for frame in frames:
                db.execute(
                    "INSERT INTO posture_log (pi_id, frame_id, captured_time, received_time, posture_status)"
                    " VALUES ('pi1', %s, now(), now(), 'Good')",
                    (frame,),
                )

    def frames(self) -> set[str]:
        with self.connect() as db:
            return {row[0] for row in db.execute("SELECT frame_id FROM posture_log")}

    def counted(self) -> int:
        with self.connect() as db:
            (total,) = db.execute("SELECT sum(good_frames) FROM posture_minutes").fetchone() or (0,)
            return int(total)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.backups.iterdir())


@pytest.fixture
def database(postgres: Postgres, tmp_path: Path) -> Database:
    made = Database(postgres, tmp_path)
    made.prepare()
    return made


def test_the_farms_role_is_no_administrator_and_a_second_start_changes_nothing(
    database: Database,
) -> None:
    database.add("a")
    database.prepare()
    assert database.frames() == {"a"}
    with database.connect() as db:
        rights = db.execute("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user")
        assert rights.fetchone() == (False, False)


def test_the_restored_database_has_the_backups_rows_and_minutes_and_goes_on(database: Database) -> None:
    database.add("a", "b")
    done = database.back_up()
    assert done.returncode == 0, done.stderr
    (name,) = database.files()
    assert name in done.stdout
    assert (database.backups / name).stat().st_mode & 0o777 == 0o600
    database.add("c")
    with database.connect() as db:
        db.execute("DELETE FROM posture_log WHERE frame_id = 'a'")
    done = database.restore()
    assert done.returncode == 0, done.stderr
    assert f"restored {name}: 2 rows" in done.stdout
    assert database.frames() == {"a", "b"}
    assert database.counted() == 2
    database.add("d")
    assert database.counted() == 3
    database.prepare()
    assert database.frames() == {"a", "b", "d"}


def test_a_lost_database_comes_back_from_its_backup(database: Database) -> None:
    database.add("a", "b")
    assert database.back_up().returncode == 0
    with psycopg.connect(database.server.url, autocommit=True) as db:
        db.execute("DROP DATABASE posture WITH (FORCE)")
        db.execute("DROP ROLE posture")
    database.prepare()
    assert database.frames() == set()
    assert database.restore().returncode == 0
    assert database.frames() == {"a", "b"}
    assert database.counted() == 2


def test_a_copy_elsewhere_is_put_back_as_documented(database: Database) -> None:
    database.add("a", "b")
    database.type(COPY_DATABASE)
    database.add("c")
    database.type(PUT_COPY_BACK)
    assert database.frames() == {"a", "b"}
    database.add("d")
    assert database.counted() == 3


def test_of_many_backups_the_newest_seven_stay(database: Database) -> None:
    for day in range(1, 10):
        (database.backups / f"posture-2026010{day}T022000Z.dump").write_text("")
    (database.backups / "posture-20251231T022000Z.dump.unfinished").write_text("half")
    assert database.back_up().returncode == 0
    *older, newest = database.files()
    assert older == [f"posture-2026010{day}T022000Z.dump" for day in range(4, 10)]
    assert newest > "posture-20260110"


def test_a_backup_that_fails_leaves_the_older_ones_and_says_why(database: Database) -> None:
    database.add("a")
    assert database.back_up().returncode == 0
    before = database.files()
    done = database.back_up(PGPASSWORD="another")
    assert done.returncode != 0
    assert "password authentication failed" in done.stderr
    assert [name for name in database.files() if name.endswith(".dump")] == before


def test_a_restore_that_fails_half_way_changes_nothing(database: Database) -> None:
    database.add("a")
    assert database.back_up().returncode == 0
    database.add("b")
    with database.connect() as db:
        db.execute("CREATE VIEW of_somebody_else AS SELECT * FROM posture_log")
    done = database.restore()
    assert done.returncode != 0
    assert "cannot drop table public.posture_log because other objects depend" in done.stderr
    database.add("c")
    assert database.frames() == {"a", "b", "c"}
    assert database.counted() == 3, "the triggers, which a restore drops first, are there"


def test_a_backup_that_is_damaged_or_not_there_is_not_restored(database: Database) -> None:
    database.add("a")
    assert database.back_up().returncode == 0
    (name,) = database.files()
    done = database.restore(BACKUP="posture-19990101T000000Z.dump")
    assert done.returncode == 1
    assert "there is no backup called posture-19990101T000000Z.dump" in done.stderr
    assert name in done.stdout, "those that there are"
    whole = (database.backups / name).read_bytes()
    (database.backups / name).write_bytes(whole[: len(whole) * 2 // 3])
    database.add("b")
    assert database.restore().returncode != 0
    assert database.frames() == {"a", "b"}
