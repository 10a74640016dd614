"""Broker, pictures and registry of deploy/stack: real programs, with commands and files out of the manifests."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import seaweedfs
import trustme
from identities import credentials
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from servers import Server, find_program, free_port
from stack_objects import DEPLOY, find, values_of, write_config_maps

from posture.pictures.base import PicturesRefusedError
from posture.pictures.opening import open_pictures
from posture.settings.table import Analyzer
from posture.wire.identities import provision

KEYS = {"POSTURE_PICTURES_KEY_ID": "farm", "POSTURE_PICTURES_SECRET_KEY": "known-to-few"}


class OfTheStack(Server):
    """A container's program, with its mounts in folders here and its ports where there is room.

    Args:
        folder: for its files and log.
        part: the folder below deploy/ that has it.
        name: its StatefulSet.
        container: which of its containers.
        mounts: folders that stand for mounts which are no ConfigMaps.
        adapt: what a port, or the like, is here: of a word of the command, or of a file.
    """

    def __init__(
        self,
        folder: Path,
        part: str,
        name: str,
        port: int,
        *,
        container: int = 0,
        mounts: Mapping[str, Path] | None = None,
        adapt: Callable[[str], str] = str,
    ) -> None:
        super().__init__()
        self.port, self.log = port, folder / "log"
        pod = find(part, "StatefulSet", name)["spec"]["template"]
        described = pod["spec"]["containers"][container]
        one = {"spec": {**pod["spec"], "containers": [described]}}
        self.places = {**write_config_maps(part, one, folder), **(mounts or {})}
        self._adapt = adapt
        for place in (place for mount, place in self.places.items() if mount not in (mounts or {})):
            for file in place.iterdir():
                file.write_text(self.here(file.read_text()))
        self.values = values_of(described, KEYS) if "env" in described else {}
        words = [self.here(word) for word in (*described["command"], *described.get("args", []))]
        self.command = ["env", *(f"{name}={value}" for name, value in self.values.items()), *words]
        self.described = described

    def here(self, text: str) -> str:
        """A text of the container as it is on this machine."""
        for mount, place in self.places.items():
            text = re.sub(
                rf"(?<=[ =]){re.escape(mount)}(?=[/\s]|$)|^{re.escape(mount)}(?=/|$)", str(place), text, flags=re.M
            )
        return self._adapt(text)


class Guest:
    """A client of the broker over TLS; ``refused`` says why it is not connected."""

    def __init__(self, port: int, authority: trustme.CA | None, user: str, password: str) -> None:
        self.refused = ""
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="whatever", reconnect_on_failure=False)
        if authority is not None:
            context = ssl.create_default_context()
            authority.configure_trust(context)
            self._client.tls_set_context(context)
        if user:
            self._client.username_pw_set(user, password)
        self._client.on_connect = self._on_connect
        self._client.connect("127.0.0.1", port)
        self._ended = False
        while not self._ended and self._client.loop(1.0) == paho.MQTT_ERR_SUCCESS:
            pass
        if not self._ended:
            self.refused = "the connection was ended"
        self._client.disconnect()

    def _on_connect(self, _client: paho.Client, _data: object, _flags: object, reason: object, _p: object) -> None:
        self.refused = str(reason) if getattr(reason, "is_failure", False) else ""
        self._ended = True


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def identities(tmp_path: Path) -> Path:
    provision(tmp_path / "identities", ["pi1"], "")
    return tmp_path / "identities"


@pytest.fixture
def broker(tmp_path: Path, authority: trustme.CA, identities: Path) -> Iterator[OfTheStack]:
    """The broker with the Secrets that setup_farm.py makes."""
    find_program("mosquitto", "mosquitto", "/usr/sbin")
    port = free_port()
    tls, data = tmp_path / "tls", tmp_path / "data"
    tls.mkdir()
    data.mkdir()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tls / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(tls / "tls.crt")
    mounts = {"/mosquitto/identities": identities / "mosquitto", "/mosquitto/tls": tls, "/mosquitto/data": data}
    server = OfTheStack(
        tmp_path / "broker", "stack", "posture-mqtt", port, mounts=mounts,
        adapt=lambda text: text.replace("listener 8883", f"listener {port} 127.0.0.1"),
    )  # fmt: skip
    if os.geteuid() == 0:  # the container is nobody else's
        config = server.places["/mosquitto/config"] / "mosquitto.conf"
        config.write_text(f"user root\n{config.read_text()}")
    server.command[server.command.index("mosquitto")] = find_program("mosquitto", "mosquitto", "/usr/sbin")
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_the_broker_takes_those_whom_it_knows_and_over_tls_alone(
    broker: OfTheStack, authority: trustme.CA, identities: Path
) -> None:
    user, password = credentials(identities, "camera-pi1")
    assert Guest(broker.port, authority, user, password).refused == ""
    assert "authori" in Guest(broker.port, authority, user, "guessed").refused.lower()
    assert "authori" in Guest(broker.port, authority, "", "").refused.lower()
    assert Guest(broker.port, None, user, password).refused == "the connection was ended"
    with pytest.raises(ssl.SSLError):
        Guest(broker.port, trustme.CA(), user, password)


def test_the_brokers_limits_are_those_of_compose() -> None:
    volumes = find("stack", "StatefulSet", "posture-mqtt")["spec"]["template"]["spec"]["volumes"]
    (name,) = (volume["configMap"]["name"] for volume in volumes if "configMap" in volume)
    ours = find("stack", "ConfigMap", name)["data"]["mosquitto.conf"].splitlines()
    compose = (DEPLOY / "mosquitto.conf").read_text().splitlines()
    wanted = {line for line in compose if line and not line.startswith(("#", "listener"))}
    assert wanted <= set(ours)


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[OfTheStack]:
    """The pictures' server, ready: its bucket is there."""
    weed = seaweedfs.program()
    data = tmp_path / "data"
    data.mkdir()
    ports = {"9333": free_port(), "8888": free_port(), "8333": free_port(), "9327": free_port()}

    def adapt(text: str) -> str:
        for port, here in ports.items():
            text = re.sub(rf"\b{port}\b", str(here), text)
        return text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - not here

    server = OfTheStack(
        tmp_path / "pictures", "stack", "posture-pictures", ports["8333"], mounts={"/data": data}, adapt=adapt
    )
    server.command[server.command.index("weed")] = str(weed)
    server.command = [word.replace("HOME=/tmp", f"HOME={tmp_path}") for word in server.command]
    # what it takes in the container is taken here by others, perhaps
    server.command += [
        f"-master.port={ports['9333']}", f"-filer.port={ports['8888']}", f"-volume.port={free_port()}",
        f"-s3.port.grpc={free_port()}",
    ]  # fmt: skip
    try:
        server.start()
        prepare(server, weed)
        yield server
    finally:
        server.stop()


def prepare(server: OfTheStack, weed: Path) -> None:
    """What the container does after its start."""
    shell, script = server.described["lifecycle"]["postStart"]["exec"]["command"]
    environ = {"PATH": f"{weed.parent}:{os.environ['PATH']}", "HOME": str(server.log.parent)}
    done = subprocess.run(
        [shell, server.here(script)], env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr + server.log.read_text()[-2000:]


def options(server: OfTheStack, **changed: Any) -> Analyzer:
    address = f"s3+http://127.0.0.1:{server.port}/posture"
    keys = {
        "pictures_key_id": KEYS["POSTURE_PICTURES_KEY_ID"],
        "pictures_secret_key": KEYS["POSTURE_PICTURES_SECRET_KEY"],
    }
    return Analyzer(**{"pictures_url": address, **keys, **changed})


def test_pictures_are_kept_over_a_kill_for_those_who_have_the_key(pictures: OfTheStack) -> None:
    store = open_pictures(options(pictures), "pi1")
    store.check()
    store.write_many([("1~x.jpg", b"a picture")])
    pictures.kill()
    pictures.start()
    prepare(pictures, seaweedfs.program())
    assert open_pictures(options(pictures), "pi1").read("1~x.jpg") == b"a picture"
    with pytest.raises(PicturesRefusedError):
        open_pictures(options(pictures, pictures_key_id="somebody"), "pi1").check()
    with requests.Session() as session:
        session.trust_env = False
        address = f"http://127.0.0.1:{pictures.port}/posture/"
        assert session.get(address, timeout=60).status_code == 403, "without a key"
        figures = session.get(pictures.here("http://127.0.0.1:9327/metrics"), timeout=60).text
    assert re.search(r'^SeaweedFS_volumeServer_resource\{name="[^"]+",type="avail"\} ', figures, re.M)


def test_nodes_pull_from_the_registry_and_only_its_loopback_takes_images(tmp_path: Path) -> None:
    program = find_program("docker-registry", "docker-registry")
    data, ports = tmp_path / "data", {":5000": free_port(), "127.0.0.1:5001": free_port()}
    data.mkdir()
    servers = []
    for number, (listen, port) in enumerate(ports.items()):
        server = OfTheStack(
            tmp_path / str(number), "stack/registry", "posture-registry", port, container=number,
            mounts={"/var/lib/registry": data},
            adapt=lambda text, listen=listen, port=port: text.replace(f"addr: {listen}", f"addr: 127.0.0.1:{port}"),
        )  # fmt: skip
        server.command[server.command.index("registry")] = program
        servers.append(server)
    pull, push = (f"http://127.0.0.1:{port}/v2/farm" for port in ports.values())
    digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    try:
        for server in servers:
            server.start()
        with requests.Session() as session:
            session.trust_env = False
            refused = session.post(f"{pull}/blobs/uploads/", timeout=60)
            assert refused.status_code == 405, refused.text
            begun = session.post(f"{push}/blobs/uploads/", timeout=60)
            separator = "&" if "?" in begun.headers["Location"] else "?"
            done = session.put(f"{begun.headers['Location']}{separator}digest={digest}", data=b"hello", timeout=60)
            assert done.status_code == 201, done.text
            assert session.get(f"{pull}/blobs/{digest}", timeout=60).content == b"hello"
            assert session.delete(f"{pull}/blobs/{digest}", timeout=60).status_code == 405
    finally:
        for server in servers:
            server.stop()
