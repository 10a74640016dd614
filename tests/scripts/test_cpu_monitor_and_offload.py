"""The External Scaler as it is run: a real process, a real Prometheus, real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from driven_exporter import METRIC, GpuExporter, gpu_queries
from processes import children_of, is_running
from scaler_process import ANSWER_S, ENDS, ROOT, Certificates, ScalerProcess, poll, ref, wire_grpc
from servers import PrometheusServer, free_port

NODES = ("a", "b")
SHORT: dict[str, Any] = {"stabilize_s": 1.0, "refresh_s": 0.1}
"""A window that a test can wait for."""
READING = {"scrape_interval_s": 0.5, "max_age_s": ANSWER_S, "timeout_s": 1.0}

BALANCER = """
import pathlib, signal, sys
here = pathlib.Path(__file__).parent
def goodbye(*_):
    (here / "stopped").touch()
    if not (here / "stubborn").exists():
        raise SystemExit(0)
signal.signal(signal.SIGTERM, goodbye)
with (here / "started").open("a") as file:
    print(*sys.argv[1:], file=file)
while True:
    signal.pause()
"""


@pytest.fixture
def farm(prometheus: PrometheusServer, gpu_exporter: GpuExporter) -> Iterator[Callable[..., ScalerProcess]]:
    """Starts scalers that ask the real Prometheus."""
    with contextlib.ExitStack() as started:

        def start(folder: Path, *flags: str, url: str = prometheus.url, **sections: Any) -> ScalerProcess:
            sections = {"prometheus": READING} | sections
            scaler = ScalerProcess(folder, gpu_queries(*NODES), url, *flags, **sections)
            started.callback(scaler.stop)
            scaler.start()
            return scaler

        yield start


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what another process does; there is no event for it here."""
    deadline = time.monotonic() + ANSWER_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def until_polled(stub: wire_grpc.ExternalScalerStub, expected: tuple[bool, float]) -> None:
    until(lambda: poll(stub, ref()) == expected, f"no answer {expected}")


@contextlib.contextmanager
def stub_of(scaler: ScalerProcess) -> Iterator[wire_grpc.ExternalScalerStub]:
    with grpc.insecure_channel(scaler.address) as channel:
        yield wire_grpc.ExternalScalerStub(channel)


def balancer_in(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "balancer.py"
    script.write_text(BALANCER)
    return script


# Usage in, answers out


def test_nodes_are_read_by_signals_which_may_be_edited_while_it_runs(
    farm: Callable[..., ScalerProcess], gpu_exporter: GpuExporter, tmp_path: Path
) -> None:
    for node, usage in (("a", 90), ("b", 20)):
        gpu_exporter.set(node, usage)
    scaler = farm(tmp_path / "scaler", "--no-balancer", scaler=SHORT)
    settings = yaml.safe_load(scaler.config.read_text())
    settings["GPU_QUERIES"] = {
        node: {"instance": query.instance, "signal": "own"} for node, query in gpu_queries(*NODES).items()
    }
    with stub_of(scaler) as stub:
        until_polled(stub, (True, 90.0))
        for factor, expected in ((0.5, 145.0), (0.1, 189.0)):
            own = {"query": f"{factor} * {METRIC}", "fresh": METRIC, "scale": 1}
            new = scaler.config.with_suffix(".new")
            new.write_text(yaml.safe_dump({**settings, "signals": {"own": own}}))
            new.replace(scaler.config)
            until_polled(stub, (True, expected))
    assert "GPU_QUERIES: changed a, b" in scaler.log.read_text()


def test_usage_answers_and_active_holds_for_the_stabilize_window(
    farm: Callable[..., ScalerProcess], gpu_exporter: GpuExporter, tmp_path: Path
) -> None:
    for node, usage in (("a", 90), ("b", 20)):
        gpu_exporter.set(node, usage)
    scaler = farm(tmp_path / "scaler", "--no-balancer", scaler=SHORT | {"stabilize_s": 8.0})
    with stub_of(scaler) as stub:
        until_polled(stub, (True, 90.0))
        stream = stub.StreamIsActive(ref(), timeout=4 * ANSWER_S)
        assert next(stream).result is True
        full_since = time.monotonic()
        gpu_exporter.set("b", 80)

        def follows() -> bool:
            active, value = poll(stub, ref())
            # its clock runs from the last reading with room, which is older; a busy machine stands still
            assert active or time.monotonic() - full_since > 3.0
            return value == 30.0

        until(follows, "the metric's value doesn't follow")
        assert next(stream).result is False
        assert time.monotonic() - full_since > 3.0
        assert poll(stub, ref())[0] is False
        gpu_exporter.set("a", 50)
        assert next(stream).result is True
        until_polled(stub, (True, 70.0))
    assert "inactive: a 90 %, b 80 %" in scaler.log.read_text()


TROUBLE = {
    "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops",
    "html": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 14\r\n\r\n<h1>login</h1>",
    "half-json": b'HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{"status":"success","data":{"resultType":',
    "cut-off": b'HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{"status":"success","data":{"resu',
}


class Between:
    """Stands between the scaler and Prometheus. It answers with Prometheus' answers until it is told otherwise."""

    def __init__(self, prometheus: PrometheusServer) -> None:
        self.mode = "as-prometheus"
        self.asked = 0
        between = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                between.asked += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with contextlib.suppress(OSError):
                    if between.mode == "as-prometheus":
                        between.forward(self, f"{prometheus.url}{self.path}", body)
                    elif between.mode in TROUBLE:
                        self.wfile.write(TROUBLE[between.mode])
                    else:
                        between.hang(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._closed = threading.Event()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def forward(self, request: BaseHTTPRequestHandler, url: str, body: bytes) -> None:
        with urllib.request.urlopen(url, body, timeout=ANSWER_S) as answer:  # noqa: S310 - http it is
            text = answer.read()
            request.send_response_only(200)
            request.send_header("Date", answer.headers["Date"])
            request.send_header("Content-Length", str(len(text)))
            request.end_headers()
            request.wfile.write(text)

    def hang(self, request: BaseHTTPRequestHandler) -> None:
        if self.mode == "trickles":
            request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        mode = self.mode
        while self.mode == mode and not self._closed.wait(0.05):
            if mode == "trickles":
                request.wfile.write(b" ")

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()


def valid_nodes(scaler: ScalerProcess) -> set[str]:
    figures = scaler.figures()
    return {node for node in NODES if figures[f'posture_node_valid{{node="{node}"}}'] == 1}


def median_s(stub: wire_grpc.ExternalScalerStub, count: int = 100) -> float:
    """How long one poll of KEDA takes."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        poll(stub, ref())
        took.append(time.perf_counter() - began)
    return statistics.median(took)


@dataclass
class Troubled:
    """A scaler that reads a 90 % and b 20 %, until something is done to its Prometheus."""

    scaler: ScalerProcess
    prometheus: PrometheusServer
    between: Between

    @contextlib.contextmanager
    def by(self, mode: str) -> Iterator[None]:
        """While Prometheus is stopped, or answers in another way."""
        if mode == "stopped":
            self.prometheus.stop()
        else:
            self.between.mode = mode
        try:
            yield
        finally:
            if mode == "stopped":
                self.prometheus.start()
            self.between.mode = "as-prometheus"


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Troubled]:
    """One for all kinds of trouble: each test finds it well."""
    folder = tmp_path_factory.mktemp("troubled")
    exporter = GpuExporter()
    for node, usage in (("a", 90), ("b", 20)):
        exporter.set(node, usage)
    prometheus = PrometheusServer(folder / "prometheus", exporter.targets(*NODES))
    between = Between(prometheus)
    sections = {"prometheus": READING, "scaler": SHORT}
    scaler = ScalerProcess(folder / "scaler", gpu_queries(*NODES), between.url, "--no-balancer", **sections)
    with contextlib.ExitStack() as started:
        for server in (prometheus, scaler):
            started.callback(server.stop)
            server.start()
        started.callback(exporter.close)
        started.callback(between.close)
        yield Troubled(scaler, prometheus, between)


@pytest.mark.parametrize("mode", ["hangs", "trickles", *TROUBLE, "stopped"])
def test_with_prometheus_in_trouble_answers_hold_and_come_as_fast(troubled: Troubled, mode: str) -> None:
    scaler = troubled.scaler
    with stub_of(scaler) as stub:
        until_polled(stub, (True, 90.0))
        healthy_s = median_s(stub)
        said = len(scaler.log.read_text())  # before both are known to be read: their trouble is told once
        until(lambda: valid_nodes(scaler) == {"a", "b"}, "a node is not read")
        with troubled.by(mode):
            # longer than the window, so that a clock that runs would show
            until(
                lambda: scaler.figures()["posture_scaler_snapshot_age_seconds"] > 2 * SHORT["stabilize_s"],
                "no outage",
            )
            # an answer that waits for a query takes as long as that may, 1 s
            until(lambda: median_s(stub, 20) < 2 * healthy_s + 0.3, "answers take longer than before")
            assert poll(stub, ref()) == (True, 90.0)
            if mode != "trickles":  # such an answer never ends, and the reading before it stays the last one
                until(lambda: not valid_nodes(scaler), "the outage is not shown")
                until(lambda: "no usage of a, b: " in scaler.log.read_text()[said:], "the outage is not told")
            log = scaler.log.read_text()[said:]
            assert log.count("\n") < 10
            assert "Traceback" not in log
            until(lambda: scaler.page("/readyz")[0] == scaler.page("/healthz")[0] == 200, "it calls itself unwell")


def test_calls_cost_no_query(
    farm: Callable[..., ScalerProcess], prometheus: PrometheusServer, gpu_exporter: GpuExporter, tmp_path: Path
) -> None:
    gpu_exporter.set("a", 10)
    gpu_exporter.wait_for_scrapes("a")
    between = Between(prometheus)
    patient = READING | {"timeout_s": ANSWER_S}  # of the only query
    scaler = farm(tmp_path / "scaler", "--no-balancer", "--interval", "1000", url=between.url, prometheus=patient)
    with contextlib.closing(between), stub_of(scaler) as stub:
        until_polled(stub, (True, 90.0))
        for _ in range(300):
            poll(stub, ref())
    assert between.asked == 1


# The balancer


def test_one_balancer_runs_from_the_start_with_our_settings_and_is_stopped_with_us(
    farm: Callable[..., ScalerProcess], tmp_path: Path
) -> None:
    script = balancer_in(tmp_path / "balancer")
    scaler = farm(tmp_path / "scaler", "--dry-run", scaler={"balancer_script": str(script)})
    started = script.with_name("started")
    until(lambda: started.exists() and bool(started.read_text()), "no balancer")
    assert scaler.process is not None
    (balancer,) = children_of(scaler.process.pid)
    assert started.read_text() == f"--config {scaler.config} --dry-run\n"
    with stub_of(scaler) as stub:
        for _ in range(20):
            poll(stub, ref())
    assert children_of(scaler.process.pid) == [balancer]
    scaler.process.terminate()
    assert scaler.process.wait(ANSWER_S) == 0
    # one that the machine lets stand still for 3 s is killed
    assert script.with_name("stopped").exists() or "the balancer is killed" in scaler.log.read_text()
    assert not is_running(balancer)


def test_a_balancer_that_is_killed_comes_back_and_is_counted(
    farm: Callable[..., ScalerProcess], tmp_path: Path
) -> None:
    script = balancer_in(tmp_path / "balancer")
    scaler = farm(tmp_path / "scaler", scaler={"balancer_script": str(script), "backoff_max_s": 0.05})
    started = script.with_name("started")
    for count in range(1, 4):
        until(
            lambda count=count: started.exists() and len(started.read_text().splitlines()) == count, "no balancer"
        )
        assert scaler.process is not None
        (balancer,) = children_of(scaler.process.pid)
        os.kill(balancer, signal.SIGKILL)
    until(lambda: scaler.figures()["posture_balancer_restarts_total"] == 3, "restarts are not counted")


def test_no_balancer_survives_a_scaler_that_is_killed(farm: Callable[..., ScalerProcess], tmp_path: Path) -> None:
    script = balancer_in(tmp_path / "balancer")
    script.with_name("stubborn").touch()
    scaler = farm(tmp_path / "scaler", scaler={"balancer_script": str(script)})
    until(script.with_name("started").exists, "no balancer")
    assert scaler.process is not None
    (balancer,) = children_of(scaler.process.pid)
    scaler.kill()
    killed_at = time.monotonic()
    while is_running(balancer):
        assert time.monotonic() - killed_at < ANSWER_S
        time.sleep(0.01)


def test_the_end_takes_less_than_5_s_with_a_stubborn_balancer_open_streams_and_a_prometheus_that_hangs(
    farm: Callable[..., ScalerProcess], prometheus: PrometheusServer, tmp_path: Path
) -> None:
    script = balancer_in(tmp_path / "balancer")
    script.with_name("stubborn").touch()
    between = Between(prometheus)
    between.mode = "trickles"
    scaler = farm(tmp_path / "scaler", url=between.url, scaler={"balancer_script": str(script)})
    took_s: list[float] = []
    with contextlib.closing(between), stub_of(scaler) as stub:
        while True:
            until(script.with_name("started").exists, "no balancer")
            stream = stub.StreamIsActive(ref(), wait_for_ready=True, timeout=ANSWER_S)
            next(stream)
            assert scaler.process is not None
            (balancer,) = children_of(scaler.process.pid)
            began = time.monotonic()
            scaler.process.terminate()
            assert scaler.process.wait(ANSWER_S) == 0
            took_s.append(time.monotonic() - began)
            assert not is_running(balancer)
            with contextlib.suppress(grpc.RpcError):
                assert list(stream) == []
            assert stream.code() in ENDS
            if took_s[-1] < 5.0:
                return
            assert len(took_s) < 3, took_s  # the machine, too, makes it wait
            script.with_name("started").unlink()
            scaler.start()


# Metrics and health


def test_the_metrics_show_nodes_answers_and_keda(
    farm: Callable[..., ScalerProcess], gpu_exporter: GpuExporter, tmp_path: Path
) -> None:
    gpu_exporter.set("a", 70)
    gpu_exporter.set("b", "NaN")
    patient = READING | {"timeout_s": ANSWER_S}  # a query that is given up takes the figures away
    scaler = farm(tmp_path / "scaler", "--no-balancer", prometheus=patient)
    with stub_of(scaler) as stub:
        until_polled(stub, (True, 30.0))
        until(lambda: scaler.figures().get('posture_node_valid{node="a"}') == 1, "node a is not read")
        poll(stub, ref("posture-analyzer-scaledjob-pi7"))
        with pytest.raises(grpc.RpcError):
            stub.IsActive(ref(""))
    shown = scaler.figures()
    assert shown['posture_node_usage_percent{node="a"}'] == 70
    assert shown[f'posture_node_signal_percent{{node="a",signal="{METRIC}"}}'] == 70
    assert shown['posture_node_valid{node="b"}'] == 0
    assert 'posture_node_usage_percent{node="b"}' not in shown
    assert shown["posture_scaler_active"] == 1
    assert shown["posture_scaler_metric_value"] == 30
    assert 0 <= shown["posture_scaler_snapshot_age_seconds"] < ANSWER_S
    job = (
        'posture_scaler_scaledjob_age_seconds{namespace="posture-farm",scaledjob="posture-analyzer-scaledjob-pi7"}'
    )
    assert 0 <= shown["posture_scaler_keda_age_seconds"] <= shown[job] < ANSWER_S
    assert shown['posture_scaler_rpc_seconds_count{method="IsActive"}'] >= 2
    assert shown['posture_scaler_rpc_refused_total{code="INVALID_ARGUMENT",method="IsActive"}'] == 1
    assert "posture_balancer_up" not in shown
    until(lambda: scaler.page("/healthz") == (200, "ok\n"), "it calls itself unwell")
    assert scaler.page("/readyz") == (200, "ok\n")
    assert scaler.page("/secrets")[0] == 404


# TLS


def test_keda_polls_over_mutual_tls_and_certificates_are_renewed_while_it_runs(
    farm: Callable[..., ScalerProcess], gpu_exporter: GpuExporter, tmp_path: Path
) -> None:
    gpu_exporter.set("a", 60)
    ours, next_ones = Certificates(tmp_path / "ours"), Certificates(tmp_path / "next")
    cert, key = ours.issue("server")
    keda = ours.issue("keda", "keda-operator")
    flags = ("--tls-cert", str(cert), "--tls-key", str(key), "--client-ca", str(ours.ca), "--no-balancer")
    scaler = farm(tmp_path / "scaler", *flags)
    with ours.channel(scaler.address, keda) as channel:
        until_polled(wire_grpc.ExternalScalerStub(channel), (True, 40.0))
    for old, new in zip((cert, key), next_ones.issue("server"), strict=True):
        new.replace(old)
    ours.ca.write_bytes(next_ones.ca.read_bytes())
    with next_ones.channel(scaler.address, next_ones.issue("keda", "keda-operator")) as channel:
        assert poll(wire_grpc.ExternalScalerStub(channel), ref()) == (True, 40.0)
    with next_ones.channel(scaler.address, keda) as channel, pytest.raises(grpc.RpcError):
        wire_grpc.ExternalScalerStub(channel).IsActive(ref(), timeout=ANSWER_S)


# An operator's mistakes


def run(folder: Path, *flags: str, settings: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    file = folder / "cluster.yaml"
    file.write_text(yaml.safe_dump(settings or {}))
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("POSTURE_", "KUBERNETES_"))
    }
    command = [sys.executable, str(ROOT / "cpu_monitor_and_offload.py"), "--config", str(file), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ, cwd="/")


QUERIES = {"GPU_QUERIES": {"agx1": {"instance": "127.0.0.1:9100", "metric": "gpu"}}}


@pytest.mark.parametrize(
    ("flags", "settings", "part"),
    [
        pytest.param([], {"scaler": {}}, "GPU_QUERIES is empty", id="no-nodes"),
        pytest.param([], QUERIES, "--insecure", id="plaintext-everywhere"),
        pytest.param(["--listen", "here"], QUERIES, "'here' is not accepted; accepted: :port", id="no-address"),
        pytest.param(["--interval", "0"], QUERIES, "accepted: a number of at least 0.1", id="no-interval"),
        pytest.param(["--max-rpc-seconds", "x"], QUERIES, "'x' is not accepted", id="no-number"),
        pytest.param(["--tls-cert", "a.pem"], QUERIES, "one is missing", id="no-key"),
        pytest.param(
            ["--tls-cert", "/no.pem", "--tls-key", "/no.key"], QUERIES, "/no.pem: can't be read", id="no-file"
        ),
        pytest.param(
            ["--insecure"],
            {**QUERIES, "scaler": {"balancer_script": "/no.py"}},
            "/no.py is no file",
            id="no-balancer",
        ),
        pytest.param([], {"scaler": {"refresh": 5}}, "did you mean refresh_s?", id="unknown-key"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_status_2(
    tmp_path: Path, flags: list[str], settings: dict[str, Any], part: str
) -> None:
    ended = run(tmp_path, *flags, settings=settings)
    assert ended.returncode == 2
    assert part in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].count("error: ") == 1


@pytest.mark.parametrize("which", ["port", "metrics_port"])
def test_a_second_scaler_on_one_port_is_refused_and_starts_no_balancer(
    farm: Callable[..., ScalerProcess], tmp_path: Path, which: str
) -> None:
    first = farm(tmp_path / "first", "--no-balancer")
    ports = {"port": free_port(), "metrics_port": free_port()} | {which: getattr(first, which)}
    script = balancer_in(tmp_path / "balancer")
    flags = ("--listen", f"127.0.0.1:{ports['port']}", "--metrics-port", str(ports["metrics_port"]))
    ended = run(tmp_path, *flags, settings=QUERIES | {"scaler": {"balancer_script": str(script)}})
    assert ended.returncode == 2
    assert f"{ports[which]}" in ended.stderr
    assert "can't be had" in ended.stderr
    assert not script.with_name("started").exists()
    with stub_of(first) as stub:
        assert poll(stub, ref())[0] is True


def test_once_shows_what_would_be_answered(
    prometheus: PrometheusServer, gpu_exporter: GpuExporter, tmp_path: Path
) -> None:
    settings = {
        "GPU_QUERIES": json.loads(json.dumps({node: vars(query) for node, query in gpu_queries("a", "b").items()})),
        "prometheus": {"url": prometheus.url, "max_age_s": ANSWER_S, "timeout_s": ANSWER_S},
    }
    ended = run(tmp_path, "--once", settings=settings)
    assert (ended.returncode, ended.stdout) == (1, "a: unknown\nb: unknown\nActive, gpu_trigger 1.0\n")
    gpu_exporter.set("a", 35)
    gpu_exporter.wait_for_scrapes("a")
    ended = run(tmp_path, "--once", settings=settings)
    assert (ended.returncode, ended.stdout) == (0, "a: 35.0 %\nb: unknown\nActive, gpu_trigger 65.0\n")
    assert "no usage of b" in ended.stderr
