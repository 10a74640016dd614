"""Each preset, read from a real Prometheus: Debian's node_exporter, and pages as GPUs' exporters show them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driven_exporter import GpuExporter
from exporter_pages import dcgm, nvidia_smi
from loopback_servers import CountingProxy
from measured_farm import INTERVAL_S, STALE_S, settings_for
from servers import NodeExporter, PrometheusServer

from posture.settings.signals import PRESETS, Signal
from posture.settings.table import GpuQuery, NodeQuery, SignalQuery
from posture.usage.prometheus import Prometheus
from posture.usage.readings import Reading, UsageUnknownError
from posture.usage.window import Average, Window

HERE = "board"
"""The node that node_exporter measures: the machine of the tests."""
HOSTS = [f"b{number}" for number in range(28)]
PORTS = (9101, 9400)


class Boards:
    """A Prometheus that scrapes this machine's node_exporter, and fake exporters of GPUs on several ports."""

    def __init__(self, folder: Path) -> None:
        self.exporter = GpuExporter()
        self.node_exporter = NodeExporter(folder / "node")
        self._unused = iter(HOSTS)
        fakes = [f"{host}:{port}" for host in HOSTS for port in PORTS]
        targets = [
            {"targets": [self.exporter.address], "labels": {"instance": fake, "__param_node": fake}}
            for fake in fakes
        ]
        targets += self.node_exporter.targets(f"{HERE}:9100")
        self.prometheus = PrometheusServer(folder / "prometheus", targets)

    def new(self) -> str:
        """A host that no test has had."""
        return next(self._unused)

    def show(self, target: str, *lines: str) -> None:
        """Show these lines from now on, and wait until they are stored.

        An expression may still find nothing: it is evaluated twice an interval, and a late scrape comes in between.
        """
        self.exporter.show(target, *lines)
        self.exporter.wait_for_scrapes(target)

    def client(self, **queries: NodeQuery) -> Prometheus:
        return Prometheus(settings_for(self.prometheus), queries)

    def read(self, instance: str, *signals: Signal) -> Reading | UsageUnknownError:
        return self.client(node=SignalQuery(instance, signals)).sample()["node"]

    def read_until(self, wanted: Callable[[Any], bool], instance: str, *signals: Signal) -> Any:
        return until(self.client(node=SignalQuery(instance, signals)), wanted)


def until(client: Prometheus, wanted: Callable[[Any], bool]) -> Any:
    """Sample until the answer is as wanted: there is no event for a sample that grows old."""
    deadline = time.monotonic() + STALE_S
    while not wanted(found := client.sample()["node"]):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boards]:
    boards = Boards(tmp_path_factory.mktemp("boards"))
    try:
        boards.node_exporter.start()
        boards.prometheus.start()
        yield boards
    finally:
        boards.prometheus.stop()
        boards.node_exporter.stop()
        boards.exporter.close()


def is_unknown(found: object) -> bool:
    return isinstance(found, UsageUnknownError)


def is_known(found: object) -> bool:
    return isinstance(found, Reading)


def value(found: Reading | UsageUnknownError) -> float:
    assert isinstance(found, Reading), found
    return found.value


def processor_times() -> tuple[float, float]:
    """All time of all processors, and that in which they had nothing to do; in ticks."""
    times = [float(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(times), times[3] + times[4]


# cpu


def test_cpu_is_what_the_processors_did_by_node_exporter(boards: Boards) -> None:
    boards.read_until(is_known, HERE, PRESETS["cpu"])
    client = boards.client(node=SignalQuery(f"{HERE}:9100", (PRESETS["cpu"],)))
    window = Window(settings_for(boards.prometheus), 3.0)
    metronome = f"{HOSTS[-1]}:9400"
    began = processor_times()
    for _ in range(7):
        boards.exporter.wait_for_scrapes(metronome, 1)
        window.add(client.sample())
    all_of_it, idle = (now - then for now, then in zip(processor_times(), began, strict=True))
    average = window.averages()["node"]
    assert isinstance(average, Average), average
    assert average.signals.keys() == {"cpu"}
    assert average.value == pytest.approx(100 * (1 - idle / all_of_it), abs=15)
    assert average.scrapes <= (average.until - average.since) / INTERVAL_S + 2, "scrapes, not evaluations"


def test_cpu_is_read_from_our_own_exporter_where_there_is_no_other(boards: Boards) -> None:
    host = boards.new()
    boards.show(f"{host}:9101", "posture_cpu_usage_percent 37.5")
    assert value(boards.read_until(is_known, host, PRESETS["cpu"])) == 37.5


def test_of_two_exporters_under_one_instance_the_one_without_a_memory_counts(boards: Boards) -> None:
    target = f"{boards.new()}:9101"
    idle = 'node_cpu_seconds_total{cpu="0",mode="idle"} 1'
    boards.show(target, "posture_cpu_usage_percent 37.5", idle)
    assert value(boards.read_until(is_known, target, PRESETS["cpu"])) == 37.5
    boards.show(target, idle)
    assert value(boards.read_until(lambda found: found.value == 100, target, PRESETS["cpu"])) == 100


def test_a_node_exporter_that_has_died_leaves_no_usage_although_its_rate_still_has_one(boards: Boards) -> None:
    boards.read_until(is_known, f"{HERE}:9100", PRESETS["cpu"])
    boards.node_exporter.kill()
    try:
        found = boards.read_until(is_unknown, f"{HERE}:9100", PRESETS["cpu"])
        assert 'signal cpu{instance="board:9100"} is stale' in str(found)
    finally:
        boards.node_exporter.start()
    assert value(boards.read_until(is_known, f"{HERE}:9100", PRESETS["cpu"])) > 0


def test_an_expression_of_raw_metrics_with_old_times_is_stale_though_it_is_evaluated_now(boards: Boards) -> None:
    host, signal = boards.new(), Signal("own", query="100 * busy_share", fresh=("busy_share",))
    boards.show(f"{host}:9101", f"busy_share 0.5 {int((time.time() - 10) * 1000)}")
    stale = f'signal own{{instance="{host}"}} is stale: 50 is '
    boards.read_until(lambda found: stale in str(found), host, signal)


@pytest.mark.parametrize("fresh", ['busy_share{core="0"}', "busy_share{}", 'busy_share{core!="}",core=~".*",}'])
def test_a_raw_metric_may_be_chosen_by_its_labels(boards: Boards, fresh: str) -> None:
    host = boards.new()
    boards.show(f"{host}:9101", 'busy_share{core="0"} 0.25', 'other_share{core="1"} 1')
    signal = Signal("own", query="100 * max by (instance) (busy_share)", fresh=("other_share", fresh))
    assert value(boards.read_until(is_known, host, signal)) == 25.0
    another = dataclasses.replace(signal, fresh=('other_share{core="0"}',))
    assert "is not there" in str(boards.read(host, another))


def test_an_expression_of_fresh_raw_metrics_is_read_with_the_times_of_their_scrapes(boards: Boards) -> None:
    host, signal = boards.new(), Signal("own", query="100 * busy_share", fresh=("busy_share",))
    boards.show(f"{host}:9101", "busy_share 0.25")
    boards.exporter.wait_for_scrapes(f"{host}:9101")
    boards.exporter.down(f"{host}:9101")
    boards.exporter.wait_for_scrapes(f"{host}:9101", 1)
    found = boards.read(host, signal, Signal("raw", metric="busy_share", scale=100))
    assert isinstance(found, Reading), found
    own, raw = found.of_signal["own"].scrapes, found.of_signal["raw"].scrapes
    assert dict(own).keys() <= dict(raw).keys(), (
        "what is one scrape by the metric is the same one by the expression"
    )
    assert found.of_signal["own"].at == found.of_signal["raw"].at


def test_an_expression_whose_raw_metric_has_another_name_is_unknown(boards: Boards) -> None:
    host = boards.new()
    boards.show(f"{host}:9101", "busy_share 0.25")
    found = boards.read(host, Signal("own", query="100 * busy_share", fresh=("idle_share",)))
    assert f'signal own{{instance="{host}"}} is not there' in str(found)
    assert "or idle_share lacks it" in str(found)


def test_an_expression_without_an_instance_in_its_result_says_so(boards: Boards) -> None:
    host, signal = boards.new(), Signal("own", query="100 * max(busy_share)", fresh=("busy_share",))
    boards.show(f"{host}:9101", "busy_share 0.25")
    assert "its query has no such instance" in str(boards.read(host, signal))


# GPUs


def test_dcgm_counts_the_busiest_gpu_or_the_one_that_labels_name(boards: Boards) -> None:
    target = f"{boards.new()}:9400"
    boards.show(target, dcgm(0, 30, "posture-pi1-x"), dcgm(1, 80), "DCGM_FI_DEV_SM_CLOCK 1500")
    signal = PRESETS["dcgm"]
    assert value(boards.read(target, signal)) == 80
    expected = {"max": 80, "avg": 55}
    for several, percent in expected.items():
        assert value(boards.read(target, dataclasses.replace(signal, several=several))) == percent
    total = boards.read(target, dataclasses.replace(signal, several="sum"))
    assert "is 110; accepted: 0 to 100" in str(total)
    refused = boards.read(target, dataclasses.replace(signal, several="refuse"))
    assert "are 2 series; accepted: one for each node, or signals.dcgm.several: max, avg or sum" in str(refused)
    assert value(boards.read(target, dataclasses.replace(signal, several="refuse", labels=(("gpu", "0"),)))) == 30
    absent = boards.read(target, dataclasses.replace(signal, labels=(("gpu", "7"),)))
    assert f'DCGM_FI_DEV_GPU_UTIL{{instance="{target}",gpu="7"}} is not there' in str(absent)


def test_pods_that_come_and_go_make_no_second_gpu(boards: Boards) -> None:
    target = f"{boards.new()}:9400"
    strict = dataclasses.replace(PRESETS["dcgm"], several="refuse")
    boards.show(target, dcgm(0, 10))
    boards.show(target, dcgm(0, 20, "posture-pi1-x"))
    boards.show(target, dcgm(0, 30, "posture-pi2-y", exporter="dcgm-exporter-9zzzz"))
    boards.show(target, dcgm(0, 40))
    found = boards.read(target, strict)
    assert value(found) == 40
    assert isinstance(found, Reading)
    assert {percent for _, percent in found.of_signal["dcgm"].scrapes} == {10, 20, 30, 40}


def test_a_gpu_that_shows_no_number_makes_its_node_unknown_beside_a_good_one(boards: Boards) -> None:
    target = f"{boards.new()}:9400"
    boards.show(target, dcgm(0, 30), dcgm(1, "NaN"))
    for several in ("max", "avg", "sum"):
        found = boards.read(target, dataclasses.replace(PRESETS["dcgm"], several=several))
        assert "is nan; accepted: 0 to 100" in str(found)


def test_a_gpu_that_is_silent_no_longer_counts_and_when_all_are_the_node_is_unknown(boards: Boards) -> None:
    target = f"{boards.new()}:9400"
    boards.show(target, dcgm(0, 30), dcgm(1, 80))
    boards.exporter.show(target, dcgm(0, 30))
    boards.read_until(lambda found: is_known(found) and found.value == 30, target, PRESETS["dcgm"])
    boards.exporter.down(target)
    found = boards.read_until(is_unknown, target, PRESETS["dcgm"])
    assert "is stale: 30 is" in str(found)
    assert found.value == 30, "what it was, not 0"


def test_nvidia_smi_is_a_share_of_1_and_read_as_percent(boards: Boards) -> None:
    target = f"{boards.new()}:9400"
    boards.show(target, nvidia_smi("df6e7a7c", 0.57), nvidia_smi("0a1b2c3d", 0.08))
    assert value(boards.read(target, PRESETS["nvidia-smi"])) == pytest.approx(57)


@pytest.mark.parametrize(
    ("preset", "metric"), [("gpu", "posture_gpu_usage_percent"), ("jetson", "jetson_gpu_usage_percent")]
)
def test_a_boards_own_metric_is_read_as_it_stands(boards: Boards, preset: str, metric: str) -> None:
    target = f"{boards.new()}:9101"
    boards.show(target, f"{metric} 41.5")
    assert value(boards.read(target, PRESETS[preset])) == 41.5


def test_a_signal_is_stale_where_the_freshness_metric_beside_it_stands_still(boards: Boards) -> None:
    target = f"{boards.new()}:9101"
    measured = "posture_exporter_read_timestamp_seconds"
    boards.show(target, "posture_gpu_usage_percent 20", f"{measured} 1")
    queries = {"node": SignalQuery(target, (PRESETS["gpu"],))}
    client = Prometheus(settings_for(boards.prometheus, freshness_metric=measured, max_age_s=2.0), queries)
    until(client, lambda found: f"is stale: {measured} beside it has stood still" in str(found))
    boards.show(target, "posture_gpu_usage_percent 20", f"{measured} 2")
    until(client, is_known)


# several signals of one node


def test_of_two_signals_the_scarcer_one_counts_and_one_that_is_silent_makes_the_node_unknown(
    boards: Boards,
) -> None:
    host = boards.new()
    both = (PRESETS["gpu"], PRESETS["cpu"])
    boards.show(f"{host}:9101", "posture_gpu_usage_percent 20", "posture_cpu_usage_percent 70")
    found = boards.read_until(is_known, host, *both)
    assert (found.value, dict(found.signals)) == (70, {"gpu": 20, "cpu": 70})
    boards.show(f"{host}:9101", "posture_gpu_usage_percent 20")
    found = boards.read_until(is_unknown, host, *both)
    assert f'signal cpu{{instance="{host}"}} is stale' in str(found)
    assert "posture_gpu_usage_percent" not in str(found)


def test_each_signal_is_one_query_whatever_the_number_of_nodes(boards: Boards) -> None:
    hosts = [boards.new() for _ in range(4)]
    for host in hosts:
        boards.show(f"{host}:9101", "posture_gpu_usage_percent 20", "posture_cpu_usage_percent 70", "old 5")
    by_signal = {host: SignalQuery(host, (PRESETS["gpu"], PRESETS["cpu"])) for host in hosts[:2]}
    by_metric = {host: GpuQuery(f"{host}:9101", "old", 1) for host in hosts[2:]}
    with CountingProxy(boards.prometheus.port) as proxy:
        settings = dataclasses.replace(settings_for(boards.prometheus), url=proxy.url)
        found = Prometheus(settings, {**by_signal, **by_metric}).sample()
    assert [value(found[host]) for host in hosts] == [70, 70, 5, 5]
    assert proxy.requests == ["POST /api/v1/query"] * 3


def test_an_expression_that_prometheus_refuses_is_the_trouble_of_its_own_nodes(boards: Boards) -> None:
    host, other = boards.new(), boards.new()
    boards.show(f"{host}:9101", "posture_gpu_usage_percent 20")
    broken = Signal("own", query="100 * (busy_share", fresh=("busy_share",))
    found = boards.client(
        good=SignalQuery(host, (PRESETS["gpu"],)), bad=SignalQuery(other, (PRESETS["gpu"], broken))
    ).sample()
    assert value(found["good"]) == 20
    assert f"signals.own: Prometheus at {boards.prometheus.url} answers 400: " in str(found["bad"])
    assert "parse error" in str(found["bad"])


def test_a_comment_in_an_expression_hides_nothing_of_the_query(boards: Boards) -> None:
    host = boards.new()
    boards.show(f"{host}:9101", "busy_share 0.25")
    commented = Signal("own", query="100\n* busy_share # of all processors", fresh=("busy_share",))
    assert value(boards.read_until(is_known, host, commented)) == 25.0


# instance with and without port


def test_an_instance_without_a_port_is_the_host_on_any_port_and_with_one_it_is_that_one(boards: Boards) -> None:
    host = boards.new()
    boards.show(f"{host}:9101", "posture_gpu_usage_percent 20")
    assert value(boards.read(host, PRESETS["gpu"])) == 20
    assert "is not there" in str(boards.read(f"{host}:9400", PRESETS["gpu"]))
    boards.show(f"{host}:9400", "posture_gpu_usage_percent 60")
    assert "are 2 series" in str(boards.read(host, PRESETS["gpu"]))
    assert value(boards.read(f"{host}:9400", PRESETS["gpu"])) == 60
    found = boards.client(
        a=SignalQuery(host, (PRESETS["gpu"],)), b=SignalQuery(f"{host}:9400", (PRESETS["gpu"],))
    ).sample()
    assert [value(found["a"]), value(found["b"])] == [20, 60], "what another node has by its port is not this one's"
