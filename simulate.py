#!/usr/bin/env python3
"""Try the balancer on a simulated farm: will these cameras fit on those boards, and at which threshold?

    python3 simulate.py --jobs 40 --classes agx:1:4.5,orin:2:2.5,nano:4:1 --fit --plot fit.png
    python3 simulate.py scenarios/node-loss.yaml --plot loss.png
    python3 simulate.py scenarios/six-idle.yaml --policy readme --runs 30
    python3 simulate.py --jobs 40 --classes jetson-orin:3     # measured before: bench/capacity.py --write-class
    python3 simulate.py --nodes 1000 --jobs 10000 --load 1.5-7 --noise 3 --dwell 2 --hysteresis 2.5 --json

The planner is the real one (posture/planning/); what the farm around it does is a model (posture/simulator/).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("simulator")

from posture.errors import UserError
from posture.runtime import EXIT_OK, add_version_flag, run_script, setup_logging
from posture.simulator import measured
from posture.simulator.scenario import POLICIES, Scenario, read_scenario, scenario_from

if TYPE_CHECKING:
    from posture.simulator.simulation import Result

log = logging.getLogger("simulate")

Simulate = Callable[[Scenario, Sequence[int]], "list[Result]"]

INSTALL = "python3 -m pip install --require-hashes -r requirements/simulator.txt"
THRESHOLDS = range(5, 101, 5)
"""What --fit tries, in points."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Simulate placement and balancing of a farm.")
    add_version_flag(parser)
    parser.add_argument("scenario", nargs="?", type=Path, help="a YAML file, as in scenarios/; flags override it")
    parser.add_argument("--nodes", metavar="N", help="so many equal boards (default: 7)")
    parser.add_argument("--classes", metavar="NAME:COUNT:SPEED,...", help="boards of several kinds instead")
    parser.add_argument(
        "--measured", type=Path, metavar="FILE", help="speeds of classes that name none (default: classes.yaml)"
    )
    parser.add_argument("--jobs", metavar="N", help="so many streams (default: 11)")
    parser.add_argument("--load", metavar="A-B", help="a stream costs A to B points on a board of speed 1 (5-15)")
    parser.add_argument("--noise", metavar="POINTS", help="each reading is off by up to this (default: 0)")
    parser.add_argument("--policy", metavar="NAME", help=f"{', '.join(POLICIES)} (default: guarded)")
    parser.add_argument("--threshold", metavar="POINTS", help="a node is overloaded above it (default: 50)")
    parser.add_argument("--dwell", metavar="N", help="windows over the threshold before a move (default: 1)")
    parser.add_argument("--hysteresis", metavar="POINTS", help="how far over the threshold (default: 0)")
    parser.add_argument("--loops", metavar="N", help="end after so many loops (default: 60)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of loads, noise and ties (default: 0)")
    parser.add_argument(
        "--runs", type=int, default=1, metavar="N", help="that many seeds, from --seed on (default: 1)"
    )
    parser.add_argument("--fit", action="store_true", help="find the lowest threshold at which all runs end stable")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the first run: load per node over time, moves"
    )
    parser.add_argument("--debug", action="store_true", help="log more")
    flags = parser.parse_args(argv)
    if flags.runs < 1:
        parser.error(f"argument --runs: {flags.runs} is not accepted; accepted: a whole number above 0")
    return flags


def bounds_of(text: str) -> list[str]:
    """Return the least and the highest load of ``A-B``, or of ``A`` alone.

    Raises:
        UserError: they are no numbers.
    """
    bounds = text.split("-") if "-" in text else [text, text]
    if len(bounds) != 2 or not all(bound.replace(".", "", 1).isdecimal() for bound in bounds):
        raise UserError(f"--load {text!r} is not accepted; accepted: A-B, two numbers of points, such as 1.5-7")
    return bounds


def scenario_of(flags: argparse.Namespace) -> Scenario:
    """Return the scenario: the file's, with what the flags override.

    Raises:
        UserError: a value is not accepted, or a file can't be read.
    """
    given: dict[str, Any] = {}
    if flags.nodes is not None and flags.classes is not None:
        raise UserError("--nodes and --classes: only one of them is accepted")
    if flags.nodes is not None:
        if not flags.nodes.isdecimal() or int(flags.nodes) < 1:
            raise UserError(f"--nodes {flags.nodes!r} is not accepted; accepted: a whole number above 0")
        given["classes"] = {"node": {"count": flags.nodes}}
    if flags.classes is not None:
        given["classes"] = classes_of(flags.classes)
    if flags.load is not None:
        given["load"] = bounds_of(flags.load)
    for name in ("jobs", "noise", "policy", "threshold", "dwell", "hysteresis", "loops"):
        if getattr(flags, name) is not None:
            given[name] = getattr(flags, name)
    where = "flags"
    if flags.scenario is not None:
        where = f"{flags.scenario} and flags" if given else str(flags.scenario)
        given = {**read_scenario(flags.scenario), **given}
    return scenario_from(with_measured_speeds(given, flags.measured), where)


def with_measured_speeds(given: dict[str, Any], file: Path | None) -> dict[str, Any]:
    """Return the scenario with the speed of each class that has none and was measured.

    Args:
        given: key -> value, unchecked.
        file: where measured classes are; None: ``classes.yaml``, if there is one.

    Raises:
        UserError: the file is missing, or is not as it must be.
    """
    if file is not None and not file.exists():
        raise UserError(f"--measured {file}: there is no such file; bench/capacity.py --write-class NAME makes one")
    known, classes = measured.read_classes(file or measured.FILE), given.get("classes")
    if not known or not isinstance(classes, dict):
        return given
    found = dict(classes)
    for name, values in classes.items():
        if name in known and isinstance(values, dict) and "speed" not in values:
            found[name] = {**values, "speed": known[name].speed}
            log.info("class %s: speed %g, measured %s", name, known[name].speed, known[name].measured)
    return {**given, "classes": found}


def classes_of(text: str) -> dict[str, dict[str, str]]:
    """Return what ``agx:1:4.5,nano:4`` says, unchecked.

    Raises:
        UserError: a part isn't name:count or name:count:speed, or a name is there twice.
    """
    classes: dict[str, dict[str, str]] = {}
    for part in text.split(","):
        name, *numbers = part.split(":")
        if not name or name in classes or len(numbers) not in (1, 2):
            raise UserError(
                f"--classes {part!r} is not accepted; accepted: NAME:COUNT or NAME:COUNT:SPEED, names once"
            )
        classes[name] = dict(zip(("count", "speed"), numbers, strict=False))
    return classes


def table(results: Sequence[Result]) -> str:
    """Return the report for people: a mean of all runs in each line, and the worst one."""
    rows: list[tuple[str, Callable[[Result], float], Callable[[Result], float] | None]] = [
        ("highest load, points", lambda r: r.max_load, lambda r: r.bounds.max_load),
        ("loops to stable", lambda r: r.loops_to_stable, lambda r: r.bounds.loops),
        ("moves", lambda r: r.moves, lambda r: r.bounds.moves),
        ("repeated moves", lambda r: r.repeated, None),
        ("overloaded node-seconds", lambda r: r.overloaded_node_s, None),
        ("stream downtime, seconds", lambda r: r.downtime_s, None),
        ("longest of one stream", lambda r: r.longest_downtime_s, None),
        ("unplaceable streams", lambda r: r.unplaceable, None),
    ]
    lines = [f"{'':26}{'mean':>10}{'worst':>10}{'lower bound':>13}{'ratio':>8}"]
    for name, value, bound in rows:
        mean = statistics.fmean(value(result) for result in results)
        line = f"{name:26}{mean:10.1f}{max(value(result) for result in results):10.1f}"
        if bound is not None:
            least = statistics.fmean(bound(result) for result in results)
            line += f"{least:13.1f}" + (f"{mean / least:8.2f}" if least else f"{'-':>8}")
        lines.append(line)
    for title, counts in (
        ("", [result.moves_by_kind for result in results]),
        ("veto ", [result.vetoes for result in results]),
    ):
        total = sum(map(Counter, counts), Counter[str]())
        lines += [f"{'  ' + title + name:28}{count:8d}  in all" for name, count in sorted(total.items())]
    return "\n".join(lines)


def verdict(results: Sequence[Result]) -> str:
    """Return the answer in one line."""
    scenario = results[0].scenario
    stable = sum(result.stable for result in results)
    what = f"{scenario.jobs} streams on {len(scenario.nodes)} nodes at threshold {scenario.threshold:g}"
    if stable == len(results):
        return f"{what}: they fit; stable in all of {len(results)} runs"
    feasible = sum(result.feasible for result in results)
    return f"{what}: stable in {stable} of {len(results)} runs; in {feasible} there is a place for every stream"


def fit(simulate: Simulate, scenario: Scenario, seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Return (threshold, runs that ended stable) for each threshold tried."""
    found = []
    for threshold in THRESHOLDS:
        results = simulate(dataclasses.replace(scenario, threshold=float(threshold)), seeds)
        found.append((threshold, sum(result.stable for result in results)))
    return found


def lowest_fit(found: Sequence[tuple[int, int]], runs: int) -> int | None:
    """Return the threshold from which on all runs are stable, or None."""
    lowest = None
    for threshold, stable in reversed(found):
        if stable < runs:
            break
        lowest = threshold
    return lowest


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """Return the report for programs."""
    runs = []
    for result in results:
        values = {entry.name: getattr(result, entry.name) for entry in dataclasses.fields(result)}
        del values["scenario"], values["timeline"]
        values["bounds"] = dataclasses.asdict(result.bounds)
        runs.append(values)
    return {"scenario": dataclasses.asdict(results[0].scenario), "runs": runs}


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate, and report."""
    flags = parse(argv)
    setup_logging(flags.debug)
    scenario = scenario_of(flags)
    if flags.plot is not None:
        draw = plotter(flags.plot)
    simulate = simulator()
    seeds = range(flags.seed, flags.seed + flags.runs)
    log.debug("%s", scenario)
    results = simulate(scenario, seeds)
    found = fit(simulate, scenario, seeds) if flags.fit else []
    lowest = lowest_fit(found, flags.runs)
    if flags.json:
        report = as_json(results)
        if flags.fit:
            report["fit"] = {"lowest_threshold": lowest, "stable_runs": dict(found)}
        print(json.dumps(report))
    else:
        print(verdict(results))
        print(table(results))
    if flags.fit and not flags.json:
        tried = ", ".join(f"{threshold}: {stable}/{flags.runs}" for threshold, stable in found if stable)
        print(f"stable runs by threshold: {tried or 'none at any threshold'}")
        print("lowest threshold that holds: " + (str(lowest) if lowest else "none; these boards are too few"))
    if flags.plot is not None:
        draw(results[0], flags.plot)
        print(f"wrote {flags.plot}", file=sys.stderr)
    return EXIT_OK


def simulator() -> Simulate:
    """Return the function that simulates.

    Raises:
        UserError: numpy is missing.
    """
    try:
        from posture.simulator.simulation import simulate  # noqa: PLC0415 - the balancer's machines have no numpy
    except ImportError:
        raise UserError(f"simulate.py needs numpy: {INSTALL}") from None
    return simulate


def plotter(path: Path) -> Callable[[Result, Path], None]:
    """Return the function that draws; checked before the simulation, which may take long.

    Raises:
        UserError: matplotlib is missing, or the file can't be written.
    """
    try:
        from posture.simulator.heatmap import FORMATS, draw  # noqa: PLC0415 - matplotlib takes its time
    except ImportError:
        raise UserError(f"--plot needs matplotlib: {INSTALL}") from None
    if path.suffix.removeprefix(".").lower() not in FORMATS:
        raise UserError(f"--plot {path} is not accepted; accepted: a name that ends in .{', .'.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--plot {path}: there is no folder {path.absolute().parent}")
    return draw


if __name__ == "__main__":
    run_script(main)
