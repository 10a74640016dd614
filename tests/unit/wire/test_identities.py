"""The broker's users against a real Mosquitto: every user tries every topic, with every credential."""

from __future__ import annotations

import base64
import itertools
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from identities import TAP, TAP_PASSWORD, Client, credentials, guarded_mosquitto
from servers import Mosquitto

from posture.errors import UserError
from posture.wire.identities import (
    PASSWORD,
    Identity,
    balancer,
    dashboard,
    hashed,
    identities_of,
    provision,
    viewer,
    withdraw,
)
from posture.wire.topics import Topics

STREAMS = ("pi1", "pi2", "pi2-b")
KINDS = (
    "images", "committed", "status", "camera", "account", "state", "alert", "picture", "answer", "command",
    "calibration", "suspects",
)  # fmt: skip


class Guarded:
    """A broker with the users of a farm."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.prefix, self.folder = prefix, folder / "identities"
        self.users = provision(self.folder, STREAMS, prefix)
        self.broker: Mosquitto = guarded_mosquitto(folder, self.folder)
        self.broker.start()

    def password(self, user: Identity) -> str:
        return credentials(self.folder, user.folder)[1]

    def client(self, user: Identity, **how: object) -> Client:
        return Client(self.broker.port, user.user, self.password(user), **how)  # type: ignore[arg-type]

    def tap(self) -> Client:
        return Client(self.broker.port, TAP, TAP_PASSWORD)


@pytest.fixture(params=["", "lab/a"], ids=["no prefix", "prefix"])
def guarded(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Guarded]:
    made = Guarded(tmp_path, request.param)
    yield made
    made.broker.stop()


def topics_of_everybody(prefix: str) -> list[str]:
    """Every topic of the farm, of a farm with another prefix, and some that are nobody's."""
    topics = [
        getattr(Topics(stream, of), kind)
        for stream in (*STREAMS, "pi9")
        for of in {prefix, "", "lab", "lab/b"}
        for kind in KINDS
    ]
    return [*topics, "images", "posture/pi1", f"{prefix}/x".lstrip("/"), "elsewhere"]


def allowed(topics: tuple[str, ...], topic: str) -> bool:
    """Whether a user's rights cover a topic; those of who sees all streams have a + in them."""
    parts = topic.split("/")
    return any(
        len(parts) == len(mine) and all(a in ("+", b) for a, b in zip(mine, parts, strict=True))
        for mine in (one.split("/") for one in topics)
    )


def test_each_user_may_publish_on_its_own_topics_and_on_no_other(guarded: Guarded) -> None:
    topics = topics_of_everybody(guarded.prefix)
    tap = guarded.tap()
    tap.subscribe("#")
    for user in guarded.users:
        client = guarded.client(user)
        for topic in topics:
            client.publish(topic, user.user.encode())
        tap.publish("end", user.user.encode())
        tap.wait_for("end", user.user.encode())
        came = {topic for topic, payload in tap.got if payload == user.user.encode()} - {"end"}
        assert came == {topic for topic in topics if allowed(user.write, topic)}, user.user
        client.close()
    tap.close()


def test_each_user_reads_its_own_topics_and_no_other_whatever_it_subscribes_to(guarded: Guarded) -> None:
    topics = topics_of_everybody(guarded.prefix)
    tap = guarded.tap()
    clients = {user: guarded.client(user) for user in guarded.users}
    for client in clients.values():
        client.subscribe("#", "+/+", "$SYS/#", *topics[:30])
    for topic in topics:
        tap.publish(topic, b"for whom it may concern")
    for user, client in clients.items():
        last = user.read[0].replace("+", "pi1")
        tap.publish(last, b"end")
        client.wait_for(last, b"end")
        came = {topic for topic, payload in client.got if payload != b"end"}
        assert came == {topic for topic in topics if allowed(user.read, topic)}, user.user
        client.close()
    tap.close()


def test_every_wrong_credential_is_refused(guarded: Guarded) -> None:
    names = [user.user for user in guarded.users]
    passwords = sorted({guarded.password(user) for user in guarded.users})
    right = {(user.user, guarded.password(user)) for user in guarded.users}
    wrong = [*passwords, "", passwords[0][:-1], passwords[0].upper(), "password"]
    names += ["", "pi1", "posture-pi1", "#", "+", "admin", "nobody"]
    tried = {pair for pair in itertools.product(names, wrong) if pair not in right}
    for name, password in sorted(tried):
        client = Client(guarded.broker.port, name, password)
        assert client.refused, (name, password)
        client.close()


def test_no_client_id_gives_one_user_the_session_of_another(guarded: Guarded) -> None:
    mine = Topics("pi1", guarded.prefix)
    analyzer_user, *_, camera_user = identities_of(mine)
    (thief_user,) = (one for one in identities_of(Topics("pi2", guarded.prefix)) if one.folder == "camera-pi2")
    analyzer = guarded.client(analyzer_user, client_id="posture-pi1", clean=False)
    analyzer.subscribe(mine.images)
    for stolen in (analyzer_user.user, "posture-pi1"):
        thief = guarded.client(thief_user, client_id=stolen)
        assert not thief.refused
        thief.close()
    assert not analyzer.lost.is_set()
    analyzer.close()
    for stolen in (analyzer_user.user, "posture-pi1"):
        guarded.client(thief_user, client_id=stolen).close()  # a clean session would delete the analyzer's
    camera = guarded.client(camera_user)
    camera.publish(mine.images, b"waited in the session")
    guarded.client(thief_user, client_id=analyzer_user.user, clean=False).close()
    again = guarded.client(analyzer_user, client_id="posture-pi1", clean=False)
    again.wait_for(mine.images, b"waited in the session")
    again.close()
    camera.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_time_changes_nothing_and_a_further_stream_changes_no_other(tmp_path: Path) -> None:
    provision(tmp_path, ["pi1", "pi2"])
    first = contents(tmp_path)
    provision(tmp_path, [])
    provision(tmp_path, ["pi1"])
    assert contents(tmp_path) == first
    provision(tmp_path, ["pi3"])
    third = contents(tmp_path)
    assert {name for name in third if name not in first} == {
        f"{role}-pi3/{name}" for role in ("analyzer", "camera") for name in ("POSTURE_MQTT_USERNAME", PASSWORD)
    }
    assert {name for name in first if third[name] != first[name]} == {"mosquitto/passwords", "mosquitto/acl"}
    assert set(first["mosquitto/passwords"].splitlines()) < set(third["mosquitto/passwords"].splitlines())


def test_the_users_of_a_stream_that_is_gone_are_withdrawn_and_no_others(tmp_path: Path) -> None:
    provision(tmp_path, ["pi1"], "lab")
    first = contents(tmp_path)
    provision(tmp_path, ["pi1", "pi1-b", "pi11"], "lab")
    changed = withdraw(tmp_path, ["pi1-b", "pi11"], "lab")
    assert contents(tmp_path) == first
    assert {path.name for path in changed} == {
        "passwords", "acl", "analyzer-pi1-b", "camera-pi1-b", "analyzer-pi11", "camera-pi11",
    }  # fmt: skip
    assert withdraw(tmp_path, ["pi11"], "lab") == []
    assert withdraw(tmp_path / "nowhere", ["pi11"]) == []


def test_the_users_of_others_in_the_same_files_stay_as_they_are(tmp_path: Path) -> None:
    provision(tmp_path, ["pi1", "pi2"])
    path = tmp_path / "mosquitto" / "acl"
    mine = "# of another farm\nuser lab.camera.pi2\ntopic write lab/images/pi2\n"
    path.write_text(f"{path.read_text()}\n{mine}")
    withdraw(tmp_path, ["pi2"])
    assert path.read_text().endswith(mine)
    assert "user camera.pi2" not in path.read_text()


def test_a_password_that_was_deleted_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    provision(tmp_path, ["pi1", "pi2"])
    first = contents(tmp_path)
    (tmp_path / "camera-pi1" / PASSWORD).unlink()
    provision(tmp_path, [])
    changed = {name for name, data in contents(tmp_path).items() if data != first[name]}
    assert changed == {f"camera-pi1/{PASSWORD}", "mosquitto/passwords"}


def test_nobody_but_the_owner_reads_any_of_it_and_no_password_is_in_the_brokers_files(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir(mode=0o755)
    provision(folder, ["pi1"])
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    passwords = [path.read_text() for path in folder.rglob(PASSWORD)]
    assert len(set(passwords)) == 5
    assert all(len(password) >= 32 for password in passwords)
    said = "".join(path.read_text() for path in (folder / "mosquitto").iterdir())
    assert not any(password in said for password in passwords)


def test_hashes_are_those_of_mosquitto_passwd(tmp_path: Path) -> None:
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed: apt-get install mosquitto")
    path = tmp_path / "passwords"
    path.write_text("camera.pi1:pä55 word\n", encoding="utf-8")
    subprocess.run([program, "-U", str(path)], check=True)
    _, kind, iterations, salt, _ = path.read_text().strip().split("$")
    assert kind == "7"
    assert f"camera.pi1:{hashed('pä55 word', base64.b64decode(salt), int(iterations))}" == path.read_text().strip()


@pytest.mark.parametrize("password", ["", "two\nlines", "tab\there", "nul\0"], ids=repr)
def test_a_password_that_cannot_be_used_is_refused_with_its_file_and_nothing_is_written(
    tmp_path: Path, password: str
) -> None:
    provision(tmp_path, ["pi1"])
    (tmp_path / "camera-pi1" / PASSWORD).write_text(password)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=f"camera-pi1/{PASSWORD}: is not accepted; accepted: "):
        provision(tmp_path, ["pi2"])
    assert contents(tmp_path) == before


def test_no_two_users_of_any_two_farms_have_one_name() -> None:
    prefixes = [
        "",
        "camera",
        "analyzer",
        "lab",
        "lab/camera",
        "lab-camera",
        "viewer",
        "camera/viewer",
        "a/b",
        "a-b",
        "a_b",
    ]
    streams = [
        *("pi1", "camera", "analyzer", "viewer", "dashboard", "balancer", "all", "takeover", "suspects"),
        "camera-pi1",
    ]
    names = [
        one.user
        for prefix in prefixes
        for one in [
            viewer(prefix),
            balancer(prefix),
            dashboard(prefix),
            *itertools.chain(*(identities_of(Topics(name, prefix)) for name in streams)),
        ]
    ]
    assert len(names) == len(set(names))
