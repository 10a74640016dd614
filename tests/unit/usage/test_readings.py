"""What counts as a node's usage and what doesn't, read from a real Prometheus."""

from __future__ import annotations

import re
import time

import pytest
from driven_exporter import METRIC, instance_of
from measured_farm import INTERVAL_S, MeasuredFarm, is_unavailable, sample, sample_until

from posture.usage.readings import Reading, UsageUnknownError


def scrapes_of(reading: Reading) -> tuple[tuple[float, float], ...]:
    (only,) = reading.of_signal.values()
    return only.scrapes


def test_a_fresh_value_is_read_with_the_time_of_its_own_scrape(farm: MeasuredFarm) -> None:
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
    assert len(scrapes_of(first)) >= 2
    times = [at for at, _ in scrapes_of(first)]
    # one by one they may be closer: after a late scrape the next one is on time
    assert times[-1] - times[0] >= (len(times) - 1) * INTERVAL_S / 2, "scrapes, not evaluations"
    assert first.at in dict(scrapes_of(again)), "the same scrape has the same time, whenever it is asked for"


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
def test_what_is_no_percentage_is_refused_naming_node_and_value(farm: MeasuredFarm, usage: str, shown: str) -> None:
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


def test_an_exporter_that_is_down_is_stale_after_two_scrapes_and_never_reads_as_0(farm: MeasuredFarm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 7)
    farm.exporter.wait_for_scrapes(a)
    sample_until(farm.server, a, lambda found: isinstance(found, Reading), max_age_s=0.0, scrape_interval_s=2.0)
    farm.exporter.down(a)
    farm.exporter.wait_for_scrapes(a, 1)
    found = sample_until(farm.server, a, is_unavailable, max_age_s=0.0, scrape_interval_s=2.0)
    assert found.value == 7
    assert re.fullmatch(
        rf'{a}: .*instance="{a}\.test:9100".* is stale: 7 is \d+\.\d s old; accepted: 4 s', str(found)
    )


def test_an_exporter_that_stamps_old_times_is_stale_though_its_scrape_is_fresh(farm: MeasuredFarm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.show(a, f"{METRIC} 7 {int((time.time() - 10) * 1000)}")
    farm.exporter.wait_for_scrapes(a)
    found = sample(farm.server, a)[a]
    assert isinstance(found, UsageUnknownError)
    assert re.search(r" is stale: 7 is \d\d\.\d s old", str(found))


def test_a_node_that_nobody_measures_is_named_with_its_series(farm: MeasuredFarm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 7, metric="another_name")
    farm.exporter.wait_for_scrapes(a)
    found = sample(farm.server, a, "unheard-of")
    for node in (a, "unheard-of"):
        reason = "the target is down, or the metric has another name"
        assert str(found[node]) == f'{node}: {METRIC}{{instance="{instance_of(node)}"}} is not there: {reason}'


def test_a_series_that_is_renamed_is_no_longer_read(farm: MeasuredFarm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 7)
    farm.exporter.wait_for_scrapes(a)
    assert isinstance(sample(farm.server, a)[a], Reading)
    farm.exporter.set(a, 7, metric="gpu_usage_ratio")
    assert "is stale" in str(sample_until(farm.server, a, is_unavailable))


def test_two_series_for_one_instance_are_an_error_of_that_node_alone(farm: MeasuredFarm) -> None:
    a, b = farm.nodes(2)
    farm.exporter.show(a, f'{METRIC}{{gpu="0"}} 10', f'{METRIC}{{gpu="1"}} 90')
    farm.exporter.set(b, 50)
    farm.exporter.wait_for_scrapes(a)
    farm.exporter.wait_for_scrapes(b)
    found = sample(farm.server, a, b)
    assert str(found[a]) == f'{a}: {METRIC}{{instance="{a}.test:9100"}} are 2 series; accepted: one for each node'
    assert isinstance(found[b], Reading)


def test_series_that_differ_only_in_who_uses_the_gpu_are_one(farm: MeasuredFarm) -> None:
    (a,) = farm.nodes(1)
    users = ("pod", "namespace", "container", "vgpu", "exported_pod", "exported_job", "exported_anything")
    farm.exporter.show(a, f'{METRIC}{{gpu="0"}} 30', *(f'{METRIC}{{gpu="0",{user}="x"}} 40' for user in users))
    farm.exporter.wait_for_scrapes(a, 3)
    farm.exporter.show(a, f'{METRIC}{{gpu="0",pod="y"}} 50')
    found = sample_until(farm.server, a, lambda found: isinstance(found, Reading) and found.value == 50)
    assert {value for _, value in scrapes_of(found)} == {40, 50}, "what others used it for counts as before"


def test_an_exporter_that_comes_back_with_other_labels_is_read_again(farm: MeasuredFarm) -> None:
    (a,) = farm.nodes(1)
    farm.exporter.set(a, 10, driver="1")
    farm.exporter.wait_for_scrapes(a)
    farm.exporter.set(a, 20, driver="2")
    found = sample_until(farm.server, a, lambda found: isinstance(found, Reading) and found.value == 20)
    assert {value for _, value in scrapes_of(found)} == {20}


def test_a_value_that_nobody_measures_any_more_is_stale_where_a_freshness_metric_stands_still(
    farm: MeasuredFarm,
) -> None:
    a, b = farm.nodes(2)
    measured = "gpu_measured_at_seconds"
    farm.exporter.show(a, f"{METRIC} 7", f"{measured} 1")
    farm.exporter.set(b, 7)
    farm.exporter.wait_for_scrapes(b)
    still = f"is stale: {measured} beside it has stood still"
    sample_until(farm.server, a, lambda found: still in str(found), freshness_metric=measured)
    assert isinstance(sample(farm.server, b, freshness_metric=measured)[b], Reading), (
        "it has none: not judged by it"
    )
    farm.exporter.show(a, f"{METRIC} 7", f"{measured} 2")
    farm.exporter.wait_for_scrapes(a)
    assert isinstance(sample(farm.server, a, freshness_metric=measured)[a], Reading)
