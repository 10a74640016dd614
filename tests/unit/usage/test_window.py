"""Averages over a window."""

from __future__ import annotations

import dataclasses

from driven_exporter import GpuExporter, gpu_queries
from measured_farm import INTERVAL_S, MeasuredFarm, settings_for
from servers import PrometheusServer

from posture.settings import table
from posture.usage.prometheus import Prometheus
from posture.usage.readings import Reading, SignalReading, UsageUnknownError
from posture.usage.window import Average, Window


def test_a_window_counts_distinct_scrapes_and_averages_them(farm: MeasuredFarm) -> None:
    a, b = farm.nodes(2)
    farm.exporter.set(a, 10)
    farm.exporter.wait_for_scrapes(a)
    settings = settings_for(farm.server)
    asked, window = Prometheus(settings, gpu_queries(a, b)), Window(settings, 2.0)
    window.add(asked.sample())
    farm.exporter.set(a, 20)
    farm.exporter.wait_for_scrapes(a, 5)
    window.add(asked.sample())
    once = window.averages()[a]
    assert isinstance(once, Average)
    window.add(asked.sample())
    window.add(asked.sample())
    average = window.averages()[a]
    assert isinstance(average, Average)
    further = (average.until - once.until) / INTERVAL_S
    assert 4 <= average.scrapes <= once.scrapes + 1 + further, "the same scrape, asked for again, counts once"
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
    asked, window = Prometheus(settings, gpu_queries("a", "b")), Window(settings, 60.0)
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
        assert "accepted: 80 of the 120" in str(average)
    prometheus.start()
    for node in "ab":
        gpu_exporter.wait_for_scrapes(node)
    assert all(isinstance(found, Reading) for found in asked.sample().values()), (
        "it is asked again as if nothing was"
    )


def signal(*scrapes: tuple[float, float]) -> SignalReading:
    return SignalReading(scrapes[-1][1], scrapes[-1][0], scrapes)


def reading(*scrapes: tuple[float, float]) -> Reading:
    return Reading({"gpu": signal(*scrapes)})


def test_two_thirds_of_the_scrapes_are_enough_and_one_less_is_not() -> None:
    settings = dataclasses.replace(table.Prometheus(), scrape_interval_s=5.0)
    window = Window(settings, 30.0)
    for at in (100.0, 105.0, 115.0):
        window.add({"a": reading((90.0, 99.0), (at, 40.0))})
    assert str(window.averages()["a"]) == (
        "a: 3 scrapes in 30 s; accepted: 4 of the 6 that one each 5 s should give"
    )
    window.add({"a": reading((115.0, 40.0), (120.0, 80.0))})
    assert window.averages()["a"] == Average({"gpu": 50.0}, 4, 100.0, 120.0)


def test_r5_scrapes_from_before_our_last_change_are_left_out_where_enough_others_remain() -> None:
    window = Window(table.Prometheus(), 30.0)
    for at in range(5, 35, 5):
        value = 90.0 if at <= 10 else 30.0
        window.add({"a": reading((float(at), value))})
    found = {since: window.averages(lambda node, since=since: since)["a"] for since in (0.0, 15.0, 16.0)}  # type: ignore[misc]
    assert [average.value for average in found.values()] == [50.0, 30.0, 50.0]  # type: ignore[union-attr]
    assert found[15.0].since == 15.0  # type: ignore[union-attr]


def test_each_signal_is_averaged_by_itself_and_the_largest_average_counts() -> None:
    window = Window(table.Prometheus(), 20.0)
    for at in (0.0, 5.0, 10.0, 15.0):
        gpu, cpu = (90.0, 10.0) if at % 10 else (10.0, 60.0)
        window.add({"a": Reading({"gpu": signal((at, gpu)), "cpu": signal((at + 1, cpu))})})
    average = window.averages()["a"]
    assert average == Average({"gpu": 50.0, "cpu": 35.0}, 4, 0.0, 15.0)
    assert average.value == 50.0, "the mean of the larger ones would be 75"


def test_a_node_whose_second_signal_has_too_few_scrapes_is_unknown() -> None:
    window = Window(table.Prometheus(), 20.0)
    for at in (0.0, 5.0, 10.0, 15.0):
        window.add({"a": Reading({"gpu": signal((at, 20.0)), "cpu": signal((0.0, 30.0))})})
    assert str(window.averages()["a"]).startswith("a: 1 scrapes in 20 s")


def test_a_signal_that_is_taken_away_from_a_node_no_longer_counts() -> None:
    window = Window(table.Prometheus(), 20.0)
    window.add({"a": Reading({"gpu": signal((0.0, 90.0)), "cpu": signal((0.0, 90.0))})})
    for at in (5.0, 10.0, 15.0):
        window.add({"a": Reading({"cpu": signal((at, 30.0))})})
    assert window.averages()["a"] == Average({"cpu": 30.0}, 3, 5.0, 15.0)


def test_an_invalid_scrape_is_not_counted_in_a_window(farm: MeasuredFarm) -> None:
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
    farm.exporter.wait_for_scrapes(a, 4)
    window.add(asked.sample())
    average = window.averages()[a]
    assert isinstance(average, Average)
    assert average.value == 10
