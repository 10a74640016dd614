"""dashboard.py as a process: what it refuses, and how it starts and ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from dashboard_process import ROOT, DashboardProcess
from servers import free_port

NOWHERE = "mqtt://127.0.0.1:9"


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardProcess]:
    """A dashboard all of whose sources are away."""
    process = DashboardProcess(tmp_path_factory.mktemp("dashboard"), {"mqtt": {"url": NOWHERE}})
    process.start()
    yield process
    process.stop()


def started(*flags: str, folder: Path) -> subprocess.CompletedProcess[str]:
    config = folder / "cluster.yaml"
    config.write_text(f"mqtt: {{url: '{NOWHERE}'}}\n")
    command = [sys.executable, str(ROOT / "dashboard.py"), "--config", str(config), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_its_first_line_is_its_address_and_sigterm_ends_it_though_a_page_is_open(tmp_path: Path) -> None:
    process = DashboardProcess(tmp_path, {"mqtt": {"url": NOWHERE}})
    process.start()
    try:
        process.until_logged(f"{process.url}/\n")  # said when the port is open
        assert process.log.read_text().splitlines()[0] == f"dashboard: {process.url}/"
        with socket.create_connection(("127.0.0.1", process.port), timeout=60) as reader:
            reader.sendall(b"GET /api/feed HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in reader.recv(1000)
            assert process.process is not None
            process.process.send_signal(signal.SIGTERM)
            process.process.wait(60)
    finally:
        process.stop()


def test_the_streams_of_the_list_are_shown_before_they_say_anything_and_the_list_may_be_edited(
    tmp_path: Path,
) -> None:
    settings = {
        "mqtt": {"url": NOWHERE},
        "streams": ["hall-10", "hall-2"],
        "dashboard": {"metrics_port": (metrics := free_port())},
    }
    process = DashboardProcess(tmp_path, settings)
    process.start()
    config = tmp_path / "cluster.yaml"
    try:
        process.until_known("hall-2")
        shown = process.json("/api/streams")["streams"]
        assert {name: one["condition"] for name, one in shown.items()} == {
            "hall-2": "offline",
            "hall-10": "offline",
        }
        figures = urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=60).read().decode()
        assert 'posture_stream_online{stream="hall-2"} 0.0' in figures, "so that the alert comes"
        config.write_text(config.read_text().replace("hall-2", "hall-3").replace("hall-10", "hall 10"))
        process.until_logged("streams stay as they were: ")
        config.write_text(config.read_text().replace("hall 10", "hall-10"))
        process.until_known("hall-3")
        assert process.ask("/api/streams/hall-2")[0] == 404
    finally:
        process.stop()


def test_a_port_that_is_taken_is_one_line_and_status_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = started("--listen", f"127.0.0.1:{taken.getsockname()[1]}", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: dashboard.listen: 127.0.0.1:")
    assert "Traceback" not in done.stderr


def test_other_machines_are_not_let_in_without_a_login(tmp_path: Path) -> None:
    done = started("--listen", f":{free_port()}", folder=tmp_path)
    assert done.returncode == 2
    assert "accepted: dashboard.users_file" in done.stderr


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        pytest.param("/nowhere", 404, b"there is no such page", id="unknown page"),
        pytest.param("/api/streams/pi9", 404, b"stream pi9 is not known", id="unknown stream"),
        pytest.param("/api/streams/%3Cb%3E", 404, b"that is no stream's name", id="no stream's name"),
        pytest.param("/static/../app.py", 404, b"there is no such page", id="outside of the static files"),
        pytest.param("/static/%2e%2e/app.py", 404, b"there is no such page", id="the same, encoded"),
        pytest.param("/" + "x" * 5_000, 404, b"there is no such page", id="long path"),
    ],
)
def test_what_is_not_there_is_said_with_its_status(
    dashboard: DashboardProcess, path: str, status: int, says: bytes
) -> None:
    answered, headers, body = dashboard.ask(path)
    assert (answered, says in body) == (status, True)
    assert headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param({"Origin": "http://evil.example"}, b"", 403, id="foreign origin"),
        pytest.param({"Origin": "null"}, b"", 403, id="origin without a name"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, b"", 403, id="another site"),
        pytest.param({"Host": "evil.example"}, b"", 421, id="another name for this machine"),
        pytest.param({}, b"x" * 5_000, 413, id="too large"),
        pytest.param({"Content-Length": "many"}, b"", 400, id="length that is no number"),
        pytest.param({}, b"", 403, id="no token"),
    ],
)
def test_requests_that_no_page_of_ours_makes_are_refused(
    dashboard: DashboardProcess, headers: dict[str, str], body: bytes, status: int
) -> None:
    assert dashboard.ask("/", method="POST", body=body, headers=headers)[0] == status


def test_a_body_that_does_not_tell_its_length_is_not_taken_without_end(dashboard: DashboardProcess) -> None:
    with socket.create_connection(("127.0.0.1", dashboard.port), timeout=60) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n")
        assert b" 413 " in client.recv(100)


def test_sources_that_are_away_are_named(dashboard: DashboardProcess) -> None:
    with socket.create_connection(("127.0.0.1", dashboard.port), timeout=60) as reader:
        reader.sendall(b"GET /api/feed HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = b""
        while b"mqtt://127.0.0.1:9: Connection refused" not in said:
            more = reader.recv(10_000)
            assert more, said
            said += more
    assert b'"broker":{"state":"down"' in said
