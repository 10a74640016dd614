"""What is simulated: nodes, jobs, times and events, from YAML or from flags; and lower bounds for any balancer.

name: seven boards
classes: {agx: {count: 2, speed: 4.5}, nano: {count: 5, speed: 1}}
jobs: 40
load: [5, 12]
events:
  - {at_s: 600, node: nano-1, what: down}

Of several signals, load and speed are maps: {gpu: [5, 12], cpu: [2, 30]}, {gpu: 4.5, cpu: 2}.
"""

from __future__ import annotations

import difflib
import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from posture.errors import UserError
from posture.planning.model import ONE_SIGNAL, ROUNDING, Policy

EVENTS = ("down", "up", "cordon", "uncordon", "broken", "mended", "silent", "stale", "speaking", "foreign")
"""What can happen to a node: it is lost or returns; is cordoned or uncordoned; can't start pods, or can again; its
exporter is silent, repeats its last value, or works again; a load that is not the farm's (``points``) runs."""
STARTS = ("even", "random")
NONE = "none"
POLICIES = (*(policy.value for policy in Policy), NONE)


@dataclass(frozen=True)
class NodeClass:
    """Boards of one kind."""

    count: int
    speed: float | Mapping[str, float] = 1.0
    """How many times as fast as a board of speed 1, in each signal where they differ."""
    signals: tuple[str, ...] = ()
    """What the balancer reads of these; empty: the scenario's."""

    def speed_in(self, signal: str) -> float:
        """Return its speed in a signal."""
        return self.speed.get(signal, 1.0) if isinstance(self.speed, Mapping) else self.speed


@dataclass(frozen=True)
class Event:
    """Something that happens to a node."""

    at_s: float
    node: str
    what: str
    points: float | Mapping[str, float] = 0.0
    """Of ``foreign``: the load from now on that is not the farm's, in each signal; one number: in all."""

    def points_in(self, signal: str) -> float:
        """Return the load in a signal."""
        return self.points.get(signal, 0.0) if isinstance(self.points, Mapping) else self.points


@dataclass(frozen=True)
class Scenario:
    """A farm, and how it behaves. Loads are points on a board of speed 1."""

    name: str = "farm"
    classes: Mapping[str, NodeClass] = field(default_factory=lambda: {"node": NodeClass(7)})
    jobs: int = 11
    load: tuple[float, float] | Mapping[str, tuple[float, float]] = (5.0, 15.0)
    """Each job's load is drawn uniformly from this range, in each signal."""
    signals: tuple[str, ...] = ()
    """What the balancer reads; empty: all that ``load`` names."""
    start: str = "even"
    """First placement: ``even`` as patch_scaledjob.py does it, or ``random``."""
    idle: int = 0
    """So many nodes have just joined and have no jobs at the start."""
    policy: str = Policy.GUARDED.value
    threshold: float = 50.0
    dwell: int = 1
    hysteresis: float = 0.0
    noise: float = 0.0
    """Each reading has a uniform error of up to this many points."""
    loops: int = 60
    window_s: float = 30.0
    interval_s: float = 30.0
    """The pause between two windows."""
    scrape_s: float = 5.0
    lag_s: float = 2.0
    """How old a reading is when it arrives."""
    poll_s: float = 10.0
    """KEDA's polling interval."""
    stop_s: float = 3.0
    """From the deletion of a Job to the end of its pod."""
    start_s: float = 8.0
    """From the new Job to a Ready pod; varies by a quarter."""
    warm_up_s: float = 10.0
    """How long a job costs more after it became Ready."""
    start_cost: float = 1.5
    """How many times its load a job costs until it is warm."""
    notready_s: float = 40.0
    """How long after its loss Kubernetes marks a node NotReady."""
    events: tuple[Event, ...] = ()

    @property
    def loads(self) -> Mapping[str, tuple[float, float]]:
        """Return signal -> the range of loads."""
        return self.load if isinstance(self.load, Mapping) else {ONE_SIGNAL: self.load}

    def read_of(self, kind: NodeClass) -> tuple[str, ...]:
        """Return the signals that the balancer reads of a class of nodes."""
        return kind.signals or self.signals or tuple(self.loads)

    @property
    def nodes(self) -> dict[str, NodeClass]:
        """Return node -> its class."""
        return {
            f"{name}-{number}": kind for name, kind in self.classes.items() for number in range(1, kind.count + 1)
        }


@dataclass(frozen=True)
class Bounds:
    """Lower bounds for any balancer, given the first placement."""

    max_load: float
    """The fullest node's load in points, for the best placement."""
    loops: int
    """With one move from a node in a loop, and a last loop without moves."""
    moves: int


def lower_bounds(work: Sequence[float], speeds: Sequence[float], on: Sequence[int], threshold: float) -> Bounds:
    """Return the bounds.

    Args:
        work: each job's load on a node of speed 1.
        speeds: each node's speed.
        on: each job's node, as an index.
        threshold: points.
    """
    heaviest = sorted(work, reverse=True)
    n = len(speeds)
    max_load = max(sum(work) / sum(speeds), heaviest[0] / max(speeds) if heaviest else 0.0)
    if len(heaviest) > n:  # two of the n + 1 heaviest share a node
        max_load = max(max_load, (heaviest[n - 1] + heaviest[n]) / max(speeds))
    leaving = surplus_jobs(work, speeds, on, threshold)
    return Bounds(max_load, max(leaving) + 1, sum(leaving))


def surplus_jobs(work: Sequence[float], speeds: Sequence[float], on: Sequence[int], threshold: float) -> list[int]:
    """Return for each node how many of its jobs must leave at least: its heaviest ones first."""
    there: list[list[float]] = [[] for _ in speeds]
    for points, node in zip(work, on, strict=True):
        if node >= 0:
            there[node].append(points / speeds[node])
    counts = []
    for costs in there:
        over, count = sum(costs) - threshold, 0
        for cost in sorted(costs, reverse=True):
            if over <= ROUNDING:
                break
            over -= cost
            count += 1
        counts.append(count)
    return counts


def fits(
    work: Iterable[Sequence[float]],
    speeds: Iterable[Sequence[float]],
    foreign: Iterable[Sequence[float]],
    threshold: float,
) -> bool:
    """Say whether the heaviest-first rule finds a place at or under the threshold for each job.

    If so, the farm is feasible; if not, it may still be. A job goes where the scarcest signal ends lowest among the
    emptiest nodes of each speed, or else where it fits at all.

    Args:
        work: of each job, in each signal.
        speeds: of each node, in each signal.
        foreign: what others take of each node, in each signal.
        threshold: points.
    """
    nodes: _Nodes = {}
    for speed, points in zip(speeds, foreign, strict=True):
        heapq.heappush(nodes.setdefault(tuple(speed), []), (max(points), tuple(points)))
    for job in sorted(work, key=max, reverse=True):
        place = _place(job, nodes, threshold + ROUNDING)
        if place is None:
            return False
        speed, number = place
        loads = _with_job(job, speed, nodes[speed][number][1])
        if number:
            nodes[speed][number] = (max(loads), loads)
            heapq.heapify(nodes[speed])
        else:
            heapq.heapreplace(nodes[speed], (max(loads), loads))
    return True


_Nodes = dict[tuple[float, ...], list[tuple[float, tuple[float, ...]]]]
"""Speed -> a heap of the nodes' loads, each after the largest of them."""


def _place(job: Sequence[float], nodes: _Nodes, limit: float) -> tuple[tuple[float, ...], int] | None:
    """Return the speed of the node where a job fits, and its number in the heap; None: nowhere."""
    lowest, speed = min((max(_with_job(job, speed, alike[0][1])), speed) for speed, alike in nodes.items())
    if lowest <= limit:
        return speed, 0
    places = ((speed, number, loads) for speed, alike in nodes.items() for number, (_, loads) in enumerate(alike))
    able = ((speed, number) for speed, number, loads in places if max(_with_job(job, speed, loads)) <= limit)
    return next(able, None)


def _with_job(job: Sequence[float], speed: Sequence[float], loads: Sequence[float]) -> tuple[float, ...]:
    return tuple(points + work / fast for points, work, fast in zip(loads, job, speed, strict=True))


def read_scenario(path: Path) -> dict[str, Any]:
    """Return the keys and values of a scenario's file, unchecked.

    Raises:
        UserError: it can't be read, or is no YAML of keys and values.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # a day that no month has; a thousand brackets
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(given, dict):
        raise UserError(f"{path}: is no scenario; accepted: keys and values, such as those in scenarios/")
    return given


def scenario_from(given: Mapping[Any, Any], where: str) -> Scenario:
    """Return the scenario that plain values describe.

    Args:
        given: key -> value, as in YAML.
        where: named by errors.

    Raises:
        UserError: every mistake found, one a line, with key, value and what is accepted.
    """
    mistakes: list[str] = []
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            mistakes.append(f"{where}: {key}: is not known{hint}")
            continue
        accepted, parse = _KEYS[key]
        try:
            values[key] = parse(value)
        except (TypeError, ValueError, KeyError, AttributeError):
            mistakes.append(f"{where}: {key}: {value!r} is not accepted; accepted: {accepted}")
    if not mistakes:
        _cross_check(Scenario(**values), where, mistakes)
    if mistakes:
        raise UserError("\n".join(mistakes))
    return Scenario(**values)


def _cross_check(scenario: Scenario, where: str, mistakes: list[str]) -> None:
    mistakes += [
        f"{where}: events: {event.node!r} is none of the nodes; they are named class-number"
        for event in scenario.events
        if event.node not in scenario.nodes
    ]
    if scenario.idle >= len(scenario.nodes):
        mistakes.append(f"{where}: idle: {scenario.idle} of {len(scenario.nodes)} nodes leaves none for the jobs")
    named = {"signals": set(scenario.signals)}
    for name, kind in scenario.classes.items():
        named[f"classes: {name}"] = {*kind.signals, *(kind.speed if isinstance(kind.speed, Mapping) else ())}
    for event in scenario.events:
        named[f"events: {event.node}"] = {*(event.points if isinstance(event.points, Mapping) else ())}
    mistakes += [
        f"{where}: {key}: {signal!r} is no signal; accepted: those that load names"
        + (f", {', '.join(scenario.loads)}" if isinstance(scenario.load, Mapping) else "; it names none")
        for key, signals in named.items()
        for signal in sorted(signals - scenario.loads.keys())
    ]
    if scenario.window_s < 2 * scenario.scrape_s:
        mistakes.append(f"{where}: window_s: {scenario.window_s:g} holds fewer than two scrapes")


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _number(low: float, high: float = math.inf) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        _require(not isinstance(value, bool))
        number = float(value)
        _require(math.isfinite(number) and low <= number <= high)
        return number

    return parse


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        number = _number(low, high)(value)
        _require(number == int(number))
        return int(number)

    return parse


def _one_of(names: Sequence[str]) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        _require(value in names)
        return str(value)

    return parse


def _name(value: Any) -> str:
    _require(isinstance(value, str) and bool(value))
    return str(value)


def _range(value: Any) -> tuple[float, float]:
    low, high = (_number(0.01, 1000)(part) for part in value)
    _require(low <= high)
    return low, high


def _of_each_signal(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Accept one value, or a map of signals to values."""

    def parse_each(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return parse(value)
        _require(bool(value))
        return {_name(signal): parse(one) for signal, one in value.items()}

    return parse_each


def _signals(value: Any) -> tuple[str, ...]:
    _require(isinstance(value, list) and len(set(value)) == len(value))
    return tuple(_name(signal) for signal in value)


def _classes(value: Any) -> dict[str, NodeClass]:
    _require(bool(value))
    for kind in value.values():
        _require(set(kind) <= {"count", "speed", "signals"})
    return {
        _name(name): NodeClass(
            _whole(1, 100_000)(kind["count"]),
            _of_each_signal(_number(0.01, 1000))(kind.get("speed", 1)),
            _signals(kind.get("signals", [])),
        )
        for name, kind in value.items()
    }


def _events(value: Any) -> tuple[Event, ...]:
    events = []
    for entry in value:
        _require(set(entry) <= {"at_s", "node", "what", "points"})
        what = _one_of(EVENTS)(entry["what"])
        points = _of_each_signal(_number(0, 100))(entry.get("points", 0))
        events.append(Event(_number(0)(entry["at_s"]), _name(entry["node"]), what, points))
    return tuple(events)


def _times() -> dict[str, tuple[str, Callable[[Any], Any]]]:
    lowest = {"lag_s": 0.0, "stop_s": 0.0, "warm_up_s": 0.0, "notready_s": 0.0, "interval_s": 0.0}
    names = [entry.name for entry in fields(Scenario) if entry.name.endswith("_s")]
    return {
        name: (f"seconds, {lowest.get(name, 1):g} to 3600", _number(lowest.get(name, 1.0), 3600)) for name in names
    }


_KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "name": ("text", _name),
    "classes": (
        "name: {count: 1 or more, speed: above 0 (or one for each signal), signals: a list} for each class",
        _classes,
    ),
    "jobs": ("a whole number, 1 to 1000000", _whole(1, 1_000_000)),
    "load": (
        "[least, most] points on a board of speed 1, or such a range for each signal",
        _of_each_signal(_range),
    ),
    "signals": ("a list of some of the signals that load names, each once", _signals),
    "start": ("one of " + ", ".join(STARTS), _one_of(STARTS)),
    "idle": ("a whole number, 0 to 100000", _whole(0, 100_000)),
    "policy": ("one of " + ", ".join(POLICIES), _one_of(POLICIES)),
    "threshold": ("0 to 100", _number(0, 100)),
    "dwell": ("a whole number, 1 to 100", _whole(1, 100)),
    "hysteresis": ("0 to 100", _number(0, 100)),
    "noise": ("0 to 100", _number(0, 100)),
    "loops": ("a whole number, 1 to 100000", _whole(1, 100_000)),
    "start_cost": ("1 to 10", _number(1, 10)),
    "events": ("a list of {at_s, node, what: one of " + ", ".join(EVENTS) + "}", _events),
    **_times(),
}
