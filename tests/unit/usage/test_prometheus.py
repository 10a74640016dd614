"""GPU usage from a real Prometheus that scrapes a fake exporter: what counts as a node's usage, what doesn't."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from gpu_exporter import METRIC, GpuExporter, gpu_queries, instance_of
from servers import PrometheusServer, free_port

from posture.errors import UserError
from posture.settings import table
from posture.settings.table import GpuQuery
from posture.usage.prometheus import Prometheus
from posture.usage.readings import Reading, UsageUnknownError
from posture.usage.window import Average, Window

INTERVAL_S = 0.5
HUNTER2 = "$2b$04$ZayLSij2ZQFIkbLgcgGGseL1NH5cKiXYYJssvf3s1da.u6RiJHIom"
"""That password as Prometheus wants it, by bcrypt."""
STALE_S = 30.0
"""How long a test waits at most for a sample to become stale."""


NODES = 40


class Farm:
    """A Prometheus that scrapes many nodes, of which each test takes some that no other test has had."""

    def __init__(self, folder: Path) -> None:
        self.exporter = GpuExporter()
        names = [f"node-{number}" for number in range(NODES)]
        self.server = PrometheusServer(folder, self.exporter.targets(*names))
        self._unused = iter(names)

    def nodes(self, count: int) -> list[str]:
        return list(itertools.islice(self._unused, count))


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """It starts once: a Prometheus takes up its targets only after 5 s."""
    farm = Farm(tmp_path_factory.mktemp("prometheus"))
    try:
        farm.server.start()
        yield farm
    finally:
        farm.server.stop()
        farm.exporter.close()


def settings_for(server: PrometheusServer, **changes: Any) -> table.Prometheus:
    # not two scrape intervals, 1 s: on a busy machine a scrape is now and then late
    given = {"url": server.url, "scrape_interval_s": INTERVAL_S, "max_age_s": 4.0, "timeout_s": 20.0, **changes}
    return dataclasses.replace(table.Prometheus(), **given)


def sample(server: PrometheusServer, *nodes: str, **changes: Any) -> dict[str, Reading | UsageUnknownError]:
    return Prometheus(settings_for(server, **changes), gpu_queries(*nodes)).sample()


def sample_until(server: PrometheusServer, node: str, wanted: Callable[[Any], bool], **changes: Any) -> Any:
    """Sample until the node's answer is as wanted: there is no event for a sample that grows old."""
    asked = Prometheus(settings_for(server, **changes), gpu_queries(node))
    deadline = time.monotonic() + STALE_S
    while not wanted(found := asked.sample()[node]):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def is_unavailable(found: object) -> bool:
    return isinstance(found, UsageUnknownError)


def test_a_fresh_value_is_read_with_the_time_of_its_own_scrape(farm: Farm) -> None:
    (a,) = farm.nodes(1)
    began = time.time()
    farm.exporter.set(a, 42.5)
    farm.exporter.wait_for_scrapes(a, 4)
    first = sample(farm.server, a)[a]
    again = sample(farm.server, a)[a]
    assert isinstance(first, Reading)
    assert isinstance(again, Reading)
    assert first.value == 42.5
    assert began - 1 <= first.at <= time.time()
    assert len(first.scrapes) >= 2
    times = [at for at, _ in first.scrapes]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= INTERVAL_S / 2, "scrapes, not evaluations"
    assert again.at - first.at < INTERVAL_S * 2


def test_all_nodes_are_read_with_one_query(farm: Farm) -> None:
    a, b, c = farm.nodes(3)
    farm.exporter.set(a, 10)
    farm.exporter.set(b, 20, metric="jetson_gpu_load", node=b)
    farm.exporter.set(c, 30)
    for node in (a, b, c):
        farm.exporter.wait_for_scrapes(node)
    with CountingProxy(farm.server.port) as proxy:
        queries = {**gpu_queries(a, c), **gpu_queries(b, metric="jetson_gpu_load")}
        asked = Prometheus(dataclasses.replace(settings_for(farm.server), url=proxy.url), queries)
        found = asked.sample()
    assert {node: one.value for node, one in found.items() if isinstance(one, Reading)} == {
        a: 10,
        b: 20,
        c: 30,
    }
    assert proxy.requests == ["POST /api/v1/query"]


@pytest.mark.parametrize(
    ("usage", "shown"),
    [
        pytest.param("NaN", "nan", id="NaN"),
        pytest.param("+Inf", "inf", id="+Inf"),
        pytest.param("-Inf", "-inf", id="-Inf"),
        pytest.param("100.5", "100.5", id="over 100"),
        pytest.param("-1", "-1", id="below 0"),
    ],
)
def test_what_is_no_percentage_is_refused_naming_node_and_value(farm: Farm, usage: str, shown: str) -> None:
    a, b = farm.nodes(2)
    farm.exporter.set(a, usage)
    farm.exporter.set(b, 50)
    farm.exporter.wait_for_scrapes(a)
    farm.exporter.wait_for_scrapes(b)
    found = sample(farm.server, a, b)
    refused = found[a]
    assert isinstance(refused, UsageUnknownError)
    assert refused.node == a
    assert str(refused.value) in {shown, f"{shown}.0"}
    assert str(refused) == f'{a}: {METRIC}{{instance="{a}.test:9100"}} is {shown}; accepted: 0 to 100'
    assert isinstance(found[b], Reading), "one bad node doesn't spoil the others"


def test_an_exporter_that_is_down_is_stale_after_two_scrapes_and_never_reads_as_0(farm: Farm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 7)
    farm.exporter.wait_for_scrapes(a)
    assert isinstance(sample(farm.server, a, max_age_s=0.0, scrape_interval_s=2.0)[a], Reading)
    farm.exporter.down(a)
    farm.exporter.wait_for_scrapes(a, 1)
    found = sample_until(farm.server, a, is_unavailable, max_age_s=0.0, scrape_interval_s=2.0)
    assert found.value == 7
    assert re.fullmatch(
        rf'{a}: .*instance="{a}\.test:9100".* is stale: 7 is \d\.\d s old; accepted: 4 s', str(found)
    )


def test_an_exporter_that_stamps_old_times_is_stale_though_its_scrape_is_fresh(farm: Farm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.show(a, f"{METRIC} 7 {int((time.time() - 10) * 1000)}")
    farm.exporter.wait_for_scrapes(a)
    found = sample(farm.server, a)[a]
    assert isinstance(found, UsageUnknownError)
    assert "is stale: 7 is 1" in str(found)


def test_a_node_that_nobody_measures_is_named_with_its_series(farm: Farm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 7, metric="another_name")
    farm.exporter.wait_for_scrapes(a)
    found = sample(farm.server, a, "unheard-of")
    for node in (a, "unheard-of"):
        reason = "the target is down, or the metric has another name"
        assert str(found[node]) == f'{node}: {METRIC}{{instance="{instance_of(node)}"}} is not there: {reason}'


def test_a_series_that_is_renamed_is_no_longer_read(farm: Farm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 7)
    farm.exporter.wait_for_scrapes(a)
    assert isinstance(sample(farm.server, a)[a], Reading)
    farm.exporter.set(a, 7, metric="gpu_usage_ratio")
    assert "is stale" in str(sample_until(farm.server, a, is_unavailable))


def test_two_series_for_one_instance_are_an_error_of_that_node_alone(farm: Farm) -> None:
    a, b = farm.nodes(2)
    farm.exporter.show(a, f'{METRIC}{{gpu="0"}} 10', f'{METRIC}{{gpu="1"}} 90')
    farm.exporter.set(b, 50)
    farm.exporter.wait_for_scrapes(a)
    farm.exporter.wait_for_scrapes(b)
    found = sample(farm.server, a, b)
    assert str(found[a]) == f'{a}: {METRIC}{{instance="{a}.test:9100"}} are 2 series; accepted: one for each node'
    assert isinstance(found[b], Reading)


def test_an_exporter_that_comes_back_with_other_labels_is_read_again(farm: Farm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 10, driver="1")
    farm.exporter.wait_for_scrapes(a)
    farm.exporter.set(a, 20, driver="2")
    found = sample_until(farm.server, a, lambda found: isinstance(found, Reading) and found.value == 20)
    assert {value for _, value in found.scrapes} == {20}


def test_a_value_that_nobody_measures_any_more_is_stale_where_a_freshness_metric_stands_still(farm: Farm) -> None:
    a, b = farm.nodes(2)
    measured = "gpu_measured_at_seconds"
    farm.exporter.show(a, f"{METRIC} 7", f"{measured} 1")
    farm.exporter.set(b, 7)
    farm.exporter.wait_for_scrapes(b)
    found = sample_until(farm.server, a, is_unavailable, freshness_metric=measured)
    assert f"is stale: {measured} beside it has stood still" in str(found)
    assert isinstance(sample(farm.server, b, freshness_metric=measured)[b], Reading), (
        "it has none: not judged by it"
    )
    farm.exporter.show(a, f"{METRIC} 7", f"{measured} 2")
    farm.exporter.wait_for_scrapes(a)
    assert isinstance(sample(farm.server, a, freshness_metric=measured)[a], Reading)


def test_a_window_counts_distinct_scrapes_and_averages_them(farm: Farm) -> None:
    a, b = farm.nodes(2)
    farm.exporter.set(a, 10)
    farm.exporter.wait_for_scrapes(a)
    settings = settings_for(farm.server)
    asked, window = Prometheus(settings, gpu_queries(a, b)), Window(settings, 2.0)
    window.add(asked.sample())
    farm.exporter.set(a, 20)
    farm.exporter.wait_for_scrapes(a, 4)
    window.add(asked.sample())
    once = window.averages()[a]
    assert isinstance(once, Average)
    window.add(asked.sample())
    window.add(asked.sample())
    average = window.averages()[a]
    assert isinstance(average, Average)
    assert 4 <= average.scrapes <= once.scrapes + 1, "the same scrape, asked for again, counts once"
    assert 10 < average.value < 20
    assert average.until - average.since >= (average.scrapes - 1) * INTERVAL_S / 2
    without = window.averages()[b]
    assert isinstance(without, UsageUnknownError)
    assert "is not there" in str(without)
    assert "0 scrapes in 2 s; accepted: 3 of the 4" in str(without)


def test_a_window_in_which_prometheus_was_stopped_gives_no_usage_for_any_node(
    gpu_exporter: GpuExporter, prometheus: PrometheusServer
) -> None:
    gpu_exporter.set("a", 10)
    gpu_exporter.set("b", 90)
    gpu_exporter.wait_for_scrapes("a")
    gpu_exporter.wait_for_scrapes("b")
    settings = settings_for(prometheus)
    asked, window = Prometheus(settings, gpu_queries("a", "b")), Window(settings, 6.0)
    window.add(asked.sample())
    gpu_exporter.wait_for_scrapes("a", 1)
    window.add(asked.sample())
    prometheus.stop()
    away = asked.sample()
    window.add(away)
    assert str(away["a"]) == f"a: Prometheus at {prometheus.url} can't be reached: Connection refused"
    for node, average in window.averages().items():
        assert isinstance(average, UsageUnknownError), node
        assert "can't be reached" in str(average)
        assert "accepted: 8 of the 12" in str(average)
    prometheus.start()
    for node in "ab":
        gpu_exporter.wait_for_scrapes(node)
    assert all(isinstance(found, Reading) for found in asked.sample().values()), (
        "it is asked again as if nothing was"
    )


def test_two_thirds_of_the_scrapes_are_enough_and_one_less_is_not() -> None:
    settings = dataclasses.replace(table.Prometheus(), scrape_interval_s=5.0)
    window = Window(settings, 30.0)
    for at in (100.0, 105.0, 115.0):
        window.add({"a": Reading(40.0, at, ((90.0, 99.0), (at, 40.0)))})
    assert str(window.averages()["a"]) == (
        "a: 3 scrapes in 30 s; accepted: 4 of the 6 that one each 5 s should give"
    )
    window.add({"a": Reading(80.0, 120.0, ((115.0, 40.0), (120.0, 80.0)))})
    assert window.averages()["a"] == Average(50.0, 4, 100.0, 120.0)


def test_r5_scrapes_from_before_our_last_change_are_left_out_where_enough_others_remain() -> None:
    window = Window(table.Prometheus(), 30.0)
    for at in range(5, 35, 5):
        value = 90.0 if at <= 10 else 30.0
        window.add({"a": Reading(value, float(at), ((float(at), value),))})
    found = {since: window.averages(lambda node, since=since: since)["a"] for since in (0.0, 15.0, 16.0)}  # type: ignore[misc]
    assert [average.value for average in found.values()] == [50.0, 30.0, 50.0]  # type: ignore[union-attr]
    assert found[15.0].since == 15.0  # type: ignore[union-attr]


def test_an_invalid_scrape_is_not_counted_in_a_window(farm: Farm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 10)
    farm.exporter.wait_for_scrapes(a)
    settings = settings_for(farm.server)
    asked, window = Prometheus(settings, gpu_queries(a)), Window(settings, 2.0)
    window.add(asked.sample())
    farm.exporter.set(a, "NaN")
    farm.exporter.wait_for_scrapes(a, 3)
    window.add(asked.sample())
    farm.exporter.set(a, 10)
    farm.exporter.wait_for_scrapes(a, 3)
    window.add(asked.sample())
    average = window.averages()[a]
    assert isinstance(average, Average)
    assert average.value == 10


def test_a_clock_that_is_wrong_here_makes_nothing_stale_and_hides_nothing(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = farm.nodes(2)
    farm.exporter.set(a, 10)
    farm.exporter.wait_for_scrapes(a)
    farm.exporter.show(b, f"{METRIC} 7 {int((time.time() - 10) * 1000)}")
    farm.exporter.wait_for_scrapes(b)
    true_time = time.time
    for wrong_s in (-3600.0, 3600.0):
        monkeypatch.setattr(time, "time", lambda wrong_s=wrong_s: true_time() + wrong_s)
        found = sample(farm.server, a, b, max_age_s=6.0)
        assert isinstance(found[a], Reading)
        assert "is stale" in str(found[b])


def test_times_of_scrapes_are_told_by_the_clock_that_is_given(farm: Farm) -> None:
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


def test_a_hostile_name_that_got_past_the_settings_matches_nothing(farm: Farm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 10)
    farm.exporter.wait_for_scrapes(a)
    instance = instance_of(a)
    for query in (
        GpuQuery(f'{instance}"}} or vector(1) #', METRIC),
        GpuQuery(f"{instance}|.*", METRIC),
        GpuQuery(instance.replace(".", "X"), METRIC),
        GpuQuery(instance, METRIC + '",instance=~".*'),
        GpuQuery(instance + "\\", METRIC),
    ):
        found = Prometheus(settings_for(farm.server), {a: query}).sample()[a]
        assert isinstance(found, UsageUnknownError)
        assert "is not there" in str(found)


def test_a_thousand_nodes_are_one_query(farm: Farm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 10)
    farm.exporter.wait_for_scrapes(a)
    nodes = [f"other-{number}" for number in range(999)]
    found = sample(farm.server, a, *nodes)
    assert isinstance(found[a], Reading)
    assert all("is not there" in str(found[node]) for node in nodes)


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


def test_a_token_is_sent_and_nothing_of_netrc(farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        settings = dataclasses.replace(table.Prometheus(), url=server.url)
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
    assert time.monotonic() - began < 10


def test_a_server_whose_answer_never_ends_costs_no_more_than_the_time_out() -> None:
    with StrangeServer(200, b"x" * 1000, pause_s=0.1) as server:
        settings = dataclasses.replace(table.Prometheus(), url=server.url, timeout_s=0.5)
        began = time.monotonic()
        found = Prometheus(settings, gpu_queries("a")).sample()["a"]
    assert "did not answer in time" in str(found)
    assert time.monotonic() - began < 10


def test_nothing_is_asked_for_an_empty_map() -> None:
    settings = dataclasses.replace(table.Prometheus(), url=f"http://127.0.0.1:{free_port()}")
    assert Prometheus(settings, {}).sample() == {}


class LoopbackServer:
    """A server on a free port for the length of a with block."""

    handler: type[BaseHTTPRequestHandler]

    def __enter__(self) -> Any:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class CountingProxy(LoopbackServer):
    """Passes requests on to a real Prometheus; with a token, only those that carry it."""

    def __init__(self, port: int, token: str = "") -> None:
        self.requests: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                proxy.requests.append(f"{self.command} {self.path}")
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if token and self.headers.get("Authorization") != f"Bearer {token}":
                    self.send_error(401)
                    return
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                connection.request("POST", self.path, body, {"Content-Type": self.headers["Content-Type"]})
                answer = connection.getresponse()
                data = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.handler = Handler


class StrangeServer(LoopbackServer):
    """Answers every request alike, byte by byte if there is a pause between them, or never."""

    def __init__(self, status: int, body: bytes, *, silent: bool = False, pause_s: float = 0.0) -> None:
        ended = threading.Event()
        self._ended = ended

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                # what is left unread would reset the connection, and take the answer along
                self.rfile.read(int(self.headers["Content-Length"]))
                if silent:
                    ended.wait(30)
                    return
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:9/")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # who asked has lost patience
                    for piece in [body] if not pause_s else [body[at : at + 1] for at in range(len(body))]:
                        self.wfile.write(piece)
                        if ended.wait(pause_s):
                            return

            def log_message(self, *_: Any) -> None:
                pass

        self.handler = Handler

    def __exit__(self, *arguments: object) -> None:
        self._ended.set()
        super().__exit__(*arguments)
