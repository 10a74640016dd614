"""What the README promises, seen on real nodes with real containers: the farm's life from the first image to the end."""

from __future__ import annotations

from real_farm import RealFarm
from watching import wait_for

UP_S = 900.0
"""The first time, all layers of the images are built, pushed and pulled."""


def test_streams_are_placed_evenly_where_their_pods_really_run(farm: RealFarm) -> None:
    farm.usage.foreign["nano"] = 5.0  # the fast node has least to do, with or without ties
    farm.usage.foreign["orin"] = 5.0
    farm.bring_up(UP_S)
    places = farm.until_each_runs_once()
    farm.usage.foreign.update(nano=0.0, orin=0.0)
    assert sorted(list(places.values()).count(node) for node in farm.nodes) == [1, 1, 2]
    assert list(places.values()).count("agx") == 2
    with farm.traffic("first placement"):
        wait_for(lambda: len(farm.usage.running) == 4)
