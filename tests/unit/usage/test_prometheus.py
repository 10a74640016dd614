"""The client of Prometheus: clocks, credentials, and servers that are no Prometheus."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import trustme
from driven_exporter import METRIC, GpuExporter, gpu_queries
from loopback_servers import CountingProxy, DrippingServer, StrangeServer
from measured_farm import INTERVAL_S, MeasuredFarm, sample, settings_for
from servers import PrometheusServer, free_port

from posture.errors import UserError
from posture.settings import table
from posture.usage.deadline import DeadlineSession
from posture.usage.prometheus import Prometheus
from posture.usage.readings import Reading
from posture.usage.window import Average, Window

HUNTER2 = "$2b$04$ZayLSij2ZQFIkbLgcgGGseL1NH5cKiXYYJssvf3s1da.u6RiJHIom"
"""That password as Prometheus wants it, by bcrypt."""


def test_a_clock_that_is_wrong_here_makes_nothing_stale_and_hides_nothing(
    farm: MeasuredFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = farm.nodes(2)
    farm.exporter.set(a, 10)
    farm.exporter.wait_for_scrapes(a)
    farm.exporter.show(b, f"{METRIC} 7 {int((time.time() - 30) * 1000)}")
    farm.exporter.wait_for_scrapes(b)
    true_time = time.time
    for wrong_s in (-3600.0, 3600.0):
        monkeypatch.setattr(time, "time", lambda wrong_s=wrong_s: true_time() + wrong_s)
        found = sample(farm.server, a, b, max_age_s=20.0)
        assert isinstance(found[a], Reading)
        assert "is stale" in str(found[b])


def test_times_of_scrapes_are_told_by_the_clock_that_is_given(farm: MeasuredFarm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 10)
    farm.exporter.wait_for_scrapes(a)
    for wrong_s in (-3600.0, 0.3, 3600.0):
        asked = Prometheus(settings_for(farm.server), gpu_queries(a), lambda wrong_s=wrong_s: time.time() + wrong_s)  # type: ignore[misc]
        window = Window(settings_for(farm.server), 2.0)
        began = time.time() + wrong_s
        for _ in range(4):
            farm.exporter.wait_for_scrapes(a)
            window.add(asked.sample())
        average = window.averages(lambda _, began=began: began)[a]  # type: ignore[misc]
        assert isinstance(average, Average)
        assert average.value == 10
        assert began - 2 < average.since < average.until < time.time() + wrong_s + 2
        # each scrape once: had its time changed from sample to sample, there would be more
        assert average.scrapes <= (average.until - average.since) / INTERVAL_S + 2


# Who asks, and whom.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def locked(tmp_path: Path, gpu_exporter: GpuExporter, authority: trustme.CA) -> Iterator[PrometheusServer]:
    """A Prometheus with TLS that lets in user farm, with password hunter2."""
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "server.key")
    web = {
        "tls_server_config": {"cert_file": str(tmp_path / "server.pem"), "key_file": str(tmp_path / "server.key")},
        "basic_auth_users": {"farm": HUNTER2},
    }
    server = PrometheusServer(tmp_path / "locked", gpu_exporter.targets("a"), web=web)
    gpu_exporter.set("a", 42)
    try:
        server.start()
        gpu_exporter.wait_for_scrapes("a")
        yield server
    finally:
        server.stop()


def test_tls_with_an_authority_of_our_own_and_a_user(
    locked: PrometheusServer, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    known = {"ca_file": str(tmp_path / "ca.pem"), "username": "farm"}
    right, wrong = "hunter2", "hunter3"
    assert isinstance(sample(locked, "a", **known, password=right)["a"], Reading)
    refused = sample(locked, "a", **known, password=wrong)["a"]
    assert "answers 401" in str(refused)
    assert "prometheus.username" in str(refused)
    assert wrong not in str(refused)
    stranger = sample(locked, "a", username="farm", password=right)["a"]
    assert "can't be reached" in str(stranger)
    assert "certificate verify failed" in str(stranger)


def test_an_authority_that_is_no_file_is_refused_before_anything_is_asked() -> None:
    settings = dataclasses.replace(table.Prometheus(), ca_file="/nowhere/ca.pem")
    with pytest.raises(UserError, match=r"prometheus\.ca_file: /nowhere/ca\.pem is no file"):
        Prometheus(settings, gpu_queries("a"))


def test_an_authority_whose_file_is_gone_meanwhile_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("as it was when we started")
    settings = dataclasses.replace(
        table.Prometheus(), url=f"https://127.0.0.1:{free_port()}", ca_file=str(authority)
    )
    prometheus = Prometheus(settings, gpu_queries("a"))
    authority.unlink()
    assert "ca.pem" in str(prometheus.sample()["a"])


def test_a_token_is_sent_and_nothing_of_netrc(
    farm: MeasuredFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a,) = farm.nodes(1)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    farm.exporter.set(a, 42)
    farm.exporter.wait_for_scrapes(a)
    token = base64.b64encode(b"farm").decode()
    with CountingProxy(farm.server.port, token=token) as proxy:
        settings = dataclasses.replace(settings_for(farm.server), url=proxy.url)
        with_token = Prometheus(dataclasses.replace(settings, token=token), gpu_queries(a)).sample()[a]
        without = Prometheus(settings, gpu_queries(a)).sample()[a]
    assert isinstance(with_token, Reading)
    assert "answers 401" in str(without)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param((200, b"<html>hello</html>"), "is not Prometheus", id="a web page"),
        pytest.param(
            (200, b'{"status":"success","data":{"resultType":"vector","result":[]}}'), "is not", id="vector"
        ),
        pytest.param((200, b'{"status":"success","data":[]}'), "is not Prometheus", id="another shape"),
        pytest.param((200, b"[" * 100_000), "is not Prometheus", id="depth"),
        pytest.param((500, b"[" * 100_000), "answers 500", id="an error of great depth"),
        pytest.param(
            (
                200,
                b'{"data":{"resultType":"matrix","result":[{"metric":{"__name__":"a","instance":"b"},'
                b'"values":[[1' + b"0" * 400 + b',"1"]]}]}}',
            ),
            "is not Prometheus",
            id="a time beyond all numbers",
        ),
        pytest.param((503, b'{"status":"error","error":"too busy"}'), "answers 503: too busy", id="an error"),
        pytest.param((404, b"not found"), "without /api/v1", id="a wrong path"),
        pytest.param((302, b""), "answers 302", id="a login page"),
    ],
)
def test_a_server_that_is_no_prometheus_is_told_apart(answer: tuple[int, bytes], said: str) -> None:
    with StrangeServer(*answer) as server:
        settings = dataclasses.replace(table.Prometheus(), url=server.url, timeout_s=60.0)
        found = Prometheus(settings, gpu_queries("a", "b")).sample()
    for node in "ab":
        assert said in str(found[node])
        assert str(found[node]).startswith(f"{node}: ")


def test_a_server_that_never_answers_costs_no_more_than_the_time_out() -> None:
    with StrangeServer(200, b"", silent=True) as server:
        settings = dataclasses.replace(table.Prometheus(), url=server.url, timeout_s=0.5)
        began = time.monotonic()
        found = Prometheus(settings, gpu_queries("a")).sample()["a"]
    assert "did not answer in time" in str(found)
    assert time.monotonic() - began < 25


def test_a_server_whose_answer_never_ends_costs_no_more_than_the_time_out() -> None:
    with StrangeServer(200, b"x" * 1000, pause_s=0.1) as server:
        settings = dataclasses.replace(table.Prometheus(), url=server.url, timeout_s=0.5)
        began = time.monotonic()
        found = Prometheus(settings, gpu_queries("a")).sample()["a"]
    assert "did not answer in time" in str(found)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("scheme", "first", "dripped"),
    [
        pytest.param("http", b"", b"HTTP/1.1 200 OK ", id="status line"),
        pytest.param("http", b"HTTP/1.1 200 OK\r\n", b"X-Header: x\r\n", id="headers"),
        pytest.param("http", b"HTTP/1.1 200 OK\r\n\r\n", b"x", id="body"),
        pytest.param("https", b"", b"\x16\x03\x03\x3f\xff", id="TLS handshake"),
    ],
)
def test_an_answer_that_drips_costs_no_more_than_the_time_out(scheme: str, first: bytes, dripped: bytes) -> None:
    with DrippingServer(first, dripped) as server:
        settings = dataclasses.replace(table.Prometheus(), url=f"{scheme}://127.0.0.1:{server.port}", timeout_s=0.5)
        began = time.monotonic()
        found = Prometheus(settings, gpu_queries("a")).sample()["a"]
    assert "did not answer in time" in str(found)
    assert time.monotonic() - began < 60


def test_a_connection_that_is_made_when_the_time_is_up_already_is_cut_at_once() -> None:
    endless = DrippingServer(b"HTTP/1.1 200 OK\r\n", b"X-Header: x\r\n")  # a hundred of them take over a minute
    with endless as server, DeadlineSession() as session, session.within(0.0) as late:
        assert late.wait(60)
        began = time.monotonic()
        with pytest.raises(requests.ConnectionError):
            session.get(f"http://127.0.0.1:{server.port}", timeout=60)
    assert time.monotonic() - began < 45


def test_an_answer_of_any_size_costs_little_memory() -> None:
    bomb = gzip.compress(bytes(1 << 28))
    with StrangeServer(200, bomb, encoding="gzip") as packed, StrangeServer(200, b"x" * (40 << 20)) as large:
        said = []
        tracemalloc.start()
        for server in (packed, large):
            settings = dataclasses.replace(table.Prometheus(), url=server.url, timeout_s=60.0)
            said.append(str(Prometheus(settings, gpu_queries("a")).sample()["a"]))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert "sends gzip, which was not asked for" in said[0]
    assert "answers with more than 16777216 bytes" in said[1]
    assert peak < 60 << 20


def test_what_a_server_says_is_on_one_line_without_control_characters() -> None:
    body = json.dumps({"error": "\x1b[2J\nERROR forged " + "x" * 10_000}).encode()
    with StrangeServer(503, body) as server:
        settings = dataclasses.replace(table.Prometheus(), url=server.url, timeout_s=60.0)
        found = str(Prometheus(settings, gpu_queries("a")).sample()["a"])
    assert found.isprintable()
    assert len(found) < 400


def test_nothing_is_asked_for_an_empty_map() -> None:
    settings = dataclasses.replace(table.Prometheus(), url=f"http://127.0.0.1:{free_port()}")
    assert Prometheus(settings, {}).sample() == {}


def test_a_node_that_is_added_while_it_runs_is_asked_about(farm: MeasuredFarm) -> None:
    a, b = farm.nodes(2)
    for node in (a, b):
        farm.exporter.set(node, 10)
        farm.exporter.wait_for_scrapes(node)
    known = gpu_queries(a)
    prometheus = Prometheus(settings_for(farm.server), known)
    prometheus.follow(lambda: known)
    assert set(prometheus.sample()) == {a}
    known = gpu_queries(a, b)
    assert all(isinstance(found, Reading) for found in prometheus.sample().values())
    assert set(prometheus.sample()) == {a, b}
