"""Several series of a node as one."""

from __future__ import annotations

import math

import pytest

from posture.usage.series import Series, combined, merged


def test_series_of_one_gpu_are_one_and_the_larger_value_of_a_scrape_counts() -> None:
    first = Series((0.0, 5.0), (10.0, 20.0), "a:1", (("gpu", "0"),))
    other_pod = Series((5.0, 10.0), (30.0, 40.0), "a:1", (("gpu", "0"),))
    other_port = Series((5.0,), (99.0,), "a:2", (("gpu", "0"),))
    one, two = merged([first, other_pod, other_port])
    assert one == Series((0.0, 5.0, 10.0), (10.0, 30.0, 40.0), "a:1", (("gpu", "0"),))
    assert two == other_port


@pytest.mark.parametrize(
    ("several", "values"), [("max", (30, 90, 90)), ("avg", (30, 60, 70)), ("sum", (30, 120, 140))]
)
def test_gpus_that_are_scraped_apart_count_with_their_newest_value(several: str, values: tuple[float, ...]) -> None:
    found = combined([Series((0.0, 10.0), (30.0, 50.0)), Series((5.0,), (90.0,))], several, 10.0)
    assert found.times == (0.0, 5.0, 10.0)
    assert found.values == values


def test_a_value_that_is_stale_does_not_count_beside_one_that_is_not() -> None:
    found = combined([Series((0.0,), (90.0,)), Series((0.0, 20.0), (10.0, 30.0))], "max", 10.0)
    assert found.values == (90.0, 30.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 150.0, -1.0])
@pytest.mark.parametrize("several", ["max", "avg", "sum"])
def test_what_is_no_percentage_is_not_lost_among_others(bad: float, several: str) -> None:
    for order in ((bad, 10.0), (10.0, bad)):
        (value,) = combined([Series((0.0,), (one,)) for one in order], several, 10.0).values
        assert value == bad or (math.isnan(value) and math.isnan(bad))
