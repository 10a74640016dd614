"""Hours with faults: nothing grows, and no frame is lost. `make soak`."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest
from faults import FIRST, OTHERS, SEED, Fault, befall
from real_farm import RealFarm
from soak import GROWS_FILES, GROWS_KIB, Uses, growths

UP_S = 900.0
MINUTES = float(os.environ.get("SOAK_MINUTES") or 120)
FAULT_MINUTES = float(os.environ.get("SOAK_FAULT_MINUTES") or 5)
SETTLED_S = min(600.0, MINUTES * 60 / 3)
"""So long after its start a program has taken what it needs."""
CALM_S = 90.0
"""No fault begins so late, so that the last sample is of a farm at rest."""
SAMPLE_S = 60.0
LISTED = tuple(fault for fault in FIRST + OTHERS if not fault.clocks)
"""A camera's clock is wrong from its start, and these cameras run on."""


def drawn(rng: random.Random) -> Iterator[Fault]:
    """Yield faults at random, each once before one comes again."""
    while True:
        yield from rng.sample(LISTED, len(LISTED))


def test_over_hours_with_faults_no_frame_is_lost_and_no_program_grows(farm: RealFarm) -> None:
    print(f"E2E_SEED={SEED}, {MINUTES:g} minutes, a fault every {FAULT_MINUTES:g}")
    rng, faults = random.Random(SEED), drawn(random.Random(SEED))
    farm.timeline.facts["seed of the soak's faults"] = str(SEED)
    farm.bring_up(UP_S)
    farm.be_quick()
    farm.until_each_runs_once()
    failures: list[tuple[str, str]] = []
    happened: list[tuple[float, str]] = []
    with farm.exporters_on_nodes(), farm.traffic("soak"):
        uses = Uses(farm.programs, SAMPLE_S)
        try:
            while (due_s := (len(happened) + 1) * FAULT_MINUTES * 60) < MINUTES * 60 - CALM_S:
                time.sleep(max(0.0, due_s - uses.lasted_s))
                fault = next(faults)
                happened.append((uses.lasted_s, fault.name))
                print(f"{uses.lasted_s / 60:.0f} min: {fault.name}", flush=True)
                try:
                    farm.mend()
                    with farm.looked_at(fault.seen, fault.name):
                        befall(farm, fault, rng)
                except AssertionError as error:
                    failures.append((fault.name, str(error)))
            time.sleep(max(0.0, MINUTES * 60 - uses.lasted_s))
        finally:
            uses.close()
            print(uses.write(farm.timeline.folder, happened, SETTLED_S))
    assert not failures, failures
    grown = growths(uses.samples, SETTLED_S)
    assert grown, "nothing was there for long enough to be compared"
    leaks = [one for one in grown if one.leaks]
    if leaks:
        pytest.fail(f"grown by more than {GROWS_KIB} KiB or {GROWS_FILES} files: {leaks}")
