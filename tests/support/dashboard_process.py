"""dashboard.py as a process."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import yaml
from servers import START_S, Server, free_port

from posture.store.opening import open_store

ROOT = Path(__file__).resolve().parents[2]


class DashboardProcess(Server):
    """The script on a free loopback port.

    Args:
        folder: for its settings and log.
        settings: sections of cluster.yaml; without a database there is an empty one.
        listen: the host to listen on.
        variables: more of its environment.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], listen: str = "127.0.0.1", **variables: str
    ) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "dashboard.log"
        self.log.touch()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        database = {"url": f"sqlite:///{folder / 'posture.db'}"}
        if "database" not in settings:
            open_store(database["url"], timeout_s=10).close()
        config = folder / "cluster.yaml"
        config.write_text(yaml.safe_dump({"database": database, **settings}))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")}
        self.environment = {**environment, "KUBECONFIG": str(folder / "no-kubeconfig"), **variables}
        self.command = [
            "env", "-i", *(f"{name}={value}" for name, value in self.environment.items()),
            sys.executable, str(ROOT / "dashboard.py"),
            "--config", str(config), "--listen", f"{listen}:{self.port}",
        ]  # fmt: skip

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers (as they are written) and body of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=START_S)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        """Return the JSON of a successful answer."""
        status, _, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)

    def until_subscribed(self) -> None:
        """Wait until it hears what is published; before that it only gets what the broker has kept."""
        deadline = time.monotonic() + START_S
        while (broker := self.first_event()[1]["sources"]["broker"])["state"] != "up":
            assert time.monotonic() < deadline, broker
            time.sleep(0.02)

    def until_known(self, pi_id: str) -> None:
        """Wait until the page has heard of a stream."""
        self.until_answers(f"/api/streams/{pi_id}")

    def until_logged(self, words: str) -> None:
        """Wait until it has said something."""
        deadline = time.monotonic() + START_S
        while words not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def until_answers(self, path: str) -> None:
        """Wait until a page is there."""
        deadline = time.monotonic() + START_S
        while (status := self.ask(path)[0]) != 200:
            assert time.monotonic() < deadline, status
            time.sleep(0.02)

    def first_event(self, cookie: str = "", headers: Mapping[str, str] | None = None) -> tuple[str, Any]:
        """Return name and data of the feed's first event."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=START_S)
        try:
            connection.request("GET", "/api/feed", headers={"Cookie": cookie, **(headers or {})})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            name = ""
            while True:
                line = answer.readline().decode().rstrip()
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    return name, json.loads(line.removeprefix("data: "))
        finally:
            connection.close()
