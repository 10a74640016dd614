"""What a loop remembers for the next one: jobs' loads, nodes' speeds, spoiled windows, cooldowns. Pure.

The balancer and the simulator keep one :class:`Ledger` each and tell it what happened; it answers with the
histories that :mod:`posture.planning` plans with. A stream's history also survives in an annotation.

A job's load is learned from its own move: one move per source and loop, and a source is never a destination in
the same loop, so the source's drop between the window before and the first clean window after is that job's load.
Each signal of a node teaches by itself. One that does not fall teaches that the job does not use it, if another one
has shown that the move was measured.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from posture.planning.model import ONE_SIGNAL, Move, MoveKind, NodeHistory, Points, Rules, StreamHistory

CLIPPED = 95.0
"""R11, points: a source at or above it may have needed more than it got, so its drop says too little."""
NO_DROP = 0.1
"""A source that fell by less than this share of what its moves should have taken off was not relieved by them."""
ANOTHER_LOAD = 10.0
"""Points; a node whose usage has changed by more since the last move away from it carries another load by now."""
AGREEING = 5.0
"""Points by which a source's drop and its destination's rise may differ in any case."""
LEAST_RISE = 1.0
"""Points; a smaller rise says too little about the speed of a class."""
ENOUGH_RATIOS = 3
"""So many streams must have been seen on two classes before their speed ratio can refute a measurement."""

NO_HISTORY = StreamHistory()
"""The history of a stream that was never moved."""


@dataclass
class _Observation:
    """A move whose effect has not been read yet."""

    stream: str
    source: str
    destination: str
    relief: Points
    """What the source was expected to lose."""
    source_before: Points
    """Its averages in the window before; empty: that window can't teach a load (R5)."""
    destination_before: Points
    changes: tuple[int, int]
    """How many changes source and destination had seen, this move included."""


@dataclass(frozen=True)
class _Effect:
    """What a move did to its source."""

    drop: float
    """Points by which it fell."""
    relief: float
    """Points by which it should have fallen."""
    left: float
    """Points that it was at then."""


class Ledger:
    """The memory of one balancer.

    Order of calls in each loop: :meth:`change_begins` and :meth:`change_ends` whenever they happen,
    :meth:`window` when a window is complete, then a plan, then :meth:`moved` for each move that was begun.
    """

    def __init__(
        self, rules: Rules, classes: Mapping[str, str] | None = None, speeds: Mapping[str, float] | None = None
    ) -> None:
        """Start without any memory.

        Args:
            rules: the plan's rules.
            classes: node -> its class of hardware; nodes of one class are equally fast. Read at each use.
            speeds: class -> speed, where it is known beforehand; learned speeds replace it.
        """
        self._rules = rules
        # never a copy, even if it is empty: the balancer fills it when it has read the nodes
        self._classes = {} if classes is None else classes
        self._given_speeds = {} if speeds is None else speeds
        self._speeds: dict[str, dict[str, float]] | None = None
        self._streams: dict[str, StreamHistory] = {}
        self._open: dict[str, set[str]] = {}
        self._open_on: Counter[str] = Counter()
        self._settled_s: dict[str, float] = {}
        self._others_settled_s: dict[str, float] = {}
        self._changes: Counter[str] = Counter()
        self._averages: Mapping[str, Points | None] = {}
        self._spoiled: Counter[str] = Counter()
        self._mixed: set[str] = set()
        self._over: Counter[str] = Counter()
        self._effects: dict[str, list[_Effect]] = {}
        self._observations: list[_Observation] = []

    def change_begins(self, stream: str, *nodes: str) -> None:
        """Note that a job of ours starts, stops or moves on these nodes: their windows are spoiled (R5)."""
        already = self._open.setdefault(stream, set())
        for node in set(nodes) - already:
            already.add(node)
            self._open_on[node] += 1
            self._changes[node] += 1

    def change_ends(self, stream: str, settled_s: float) -> None:
        """Note when the change settles: pod Ready (or gone) + warm-up + one scrape, in seconds (R5)."""
        for node in self._open.pop(stream, ()):
            self._open_on[node] -= 1
            self._settled_s[node] = max(settled_s, self._settled_s.get(node, -math.inf))

    def settle_by(self, latest_s: float) -> None:
        """Let no change that has ended settle later than this, in seconds."""
        for settled in (self._settled_s, self._others_settled_s):
            for node, settled_s in settled.items():
                settled[node] = min(settled_s, latest_s)

    def others_change(self, node: str, settled_s: float) -> None:
        """Note that a pod of somebody else came or went on a node: no load is learned there meanwhile.

        The node stays source and destination (R5 is about our own changes): others may never come to rest.

        Args:
            node: where.
            settled_s: when the change has settled, in seconds.
        """
        self._changes[node] += 1
        self._others_settled_s[node] = settled_s

    def settles_s(self, node: str) -> float:
        """Return since when samples of a node are free of our changes; infinite while one is under way (R5).

        An average of later samples only is a clean one, if there are enough of them (R6).
        """
        return math.inf if self._open_on[node] else self._settled_s.get(node, -math.inf)

    def window(
        self, start_s: float, averages: Mapping[str, Points | None], late: Mapping[str, float] | None = None
    ) -> None:
        """Take the averages of a complete window: learn from finished moves, count spoiled and hot windows.

        Args:
            start_s: when the window began.
            averages: node -> the average of each of its signals, or None (R6).
            late: node -> when its samples begin, where the average leaves out earlier ones (R5).
        """
        late = late or {}
        limit = self._rules.threshold + self._rules.hysteresis
        self._averages = averages
        begins = {node: late.get(node, start_s) for node in averages}
        self._mixed = {node for node in averages if self._others_settled_s.get(node, -math.inf) > begins[node]}
        for node, found in averages.items():
            points = max(found.values()) if found else None
            clean = self.settles_s(node) <= begins[node]
            self._spoiled[node] = 0 if clean else self._spoiled[node] + 1
            self._over[node] = self._over[node] + 1 if points is not None and points > limit else 0
            if clean and points is not None and self._is_another_load(node, points):
                self._effects.pop(node, None)
        self._observations = [seen for seen in self._observations if not self._read(seen)]

    def moved(self, move: Move, now_s: float) -> None:
        """Note that a move was begun; its nodes' windows are spoiled until :meth:`change_ends`."""
        history = self._streams.get(move.stream, NO_HISTORY)
        self.change_ends(move.stream, now_s)
        self.change_begins(move.stream, move.source, move.destination)
        if move.kind is MoveKind.OFFLOAD:
            history = replace(
                history,
                moves=history.moves + 1,
                last_move_s=now_s,
                tried=history.tried or not self._knows(history, move.source),
            )
            self._observe(move)
        elif move.kind is MoveKind.RESTART:
            failures = history.closed.get(move.source, (0.0, 0))[1]
            closed_s = min(self._rules.closed_base_s * 2.0 ** min(failures, 60), self._rules.closed_cap_s)
            history = replace(history, closed={**history.closed, move.source: (now_s + closed_s, failures + 1)})
        self._streams[move.stream] = replace(history, origin=move.source)

    def node(self, name: str) -> NodeHistory:
        """Return what is remembered about a node."""
        spoiled = self._spoiled[name]
        effects = self._effects.get(name, [])
        useless = sum(one.drop for one in effects) < NO_DROP * sum(one.relief for one in effects)
        return NodeHistory(spoiled == 0, spoiled, max(0, self._over[name] - 1), len(effects) if useless else 0)

    def speed(self, name: str, signal: str = ONE_SIGNAL) -> float:
        """Return a node's learned speed in a signal, relative to the first class; 1 where nothing is known (R8)."""
        return self._class_speeds(signal).get(self._class(name), 1.0)

    def stream(self, name: str) -> StreamHistory:
        """Return what is remembered about a stream."""
        history = self._streams.get(name, NO_HISTORY)
        if not history.loads:
            return history
        return replace(history, work={signal: self._work(history, signal) for signal in _signals_of(history)})

    def restore(self, name: str, history: StreamHistory) -> None:
        """Take a stream's history from its annotation, unless something newer is remembered."""
        known = self._streams.get(name)
        if known is None or known.last_move_s < history.last_move_s:
            self._streams[name] = history
            self._speeds = None

    def forget(self, streams: Iterable[str]) -> None:
        """Drop streams that are no longer part of the farm."""
        gone = set(streams)
        for stream in gone:
            self.change_ends(stream, -math.inf)
            self._streams.pop(stream, None)
        self._observations = [seen for seen in self._observations if seen.stream not in gone]

    def _class(self, node: str) -> str:
        return self._classes.get(node, "")

    def _work(self, history: StreamHistory, signal: str) -> float:
        speeds = self._class_speeds(signal)
        seen = ((c, points[signal]) for c, points in history.loads.items() if signal in points)
        return statistics.median(points * speeds.get(c, 1.0) for c, points in seen)

    def _knows(self, history: StreamHistory, node: str) -> bool:
        """Say whether a stream's load was seen in each signal of a node."""
        seen = _signals_of(history)
        return bool(seen) and seen >= (self._averages.get(node) or {}).keys()

    def _observe(self, move: Move) -> None:
        """Keep what is needed to learn from a move."""
        before = [
            {} if self._is_disturbed(node) else self._averages.get(node) or {}
            for node in (move.source, move.destination)
        ]
        changes = (self._changes[move.source], self._changes[move.destination])
        self._observations.append(
            _Observation(move.stream, move.source, move.destination, move.relief, before[0], before[1], changes)
        )

    def _is_disturbed(self, node: str) -> bool:
        """Say whether the window holds more than the load of the streams that were there all along."""
        return self._spoiled[node] > 0 or node in self._mixed

    def _read(self, seen: _Observation) -> bool:
        """Learn from a settled move where that is possible; return whether the observation is over."""
        if self._changes[seen.source] != seen.changes[0]:
            self._give_back(seen)
            return True  # another change happened there
        source, destination = self._averages.get(seen.source), self._averages.get(seen.destination)
        if self._spoiled[seen.source] or source is None:
            return False
        drops = {
            signal: before - source[signal]
            for signal, before in seen.source_before.items()
            if before < CLIPPED and signal in source
        }
        if not drops:
            self._give_back(seen)
            return True
        if self._changes[seen.destination] != seen.changes[1]:
            self._note_effect(seen, source)
            self._give_back(seen)
            return True
        if self._spoiled[seen.destination] or destination is None:
            return False
        self._note_effect(seen, source)
        if seen.destination_before:
            before, after = seen.destination_before, destination
            self._learn(seen, drops, {one: after[one] - before[one] for one in before if one in after})
        self._give_back(seen)
        return True

    def _give_back(self, seen: _Observation) -> None:
        """Let a stream be moved on a guess again if its move could not teach its load.

        The figures were clipped, or disagree: somebody else's load has hidden it, and may be gone next time.
        """
        history = self._streams.get(seen.stream, NO_HISTORY)
        if history.tried and not self._knows(history, seen.source):
            self._streams[seen.stream] = replace(history, tried=False)

    def _note_effect(self, seen: _Observation, left: Points) -> None:
        """Keep the measured and the expected drop of a source: if they differ much, its load may not be ours.

        What counts are the signals in which it was overloaded.
        """
        before = seen.source_before
        highest = max(before.values())
        if highest >= CLIPPED:
            return
        least = min(highest, self._rules.threshold)
        signals = [signal for signal, points in before.items() if points >= least and signal in left]
        drop = sum(before[signal] - left[signal] for signal in signals)
        relief = sum(seen.relief.get(signal, 0.0) for signal in signals)
        self._effects.setdefault(seen.source, []).append(_Effect(drop, relief, max(left.values())))

    def _is_another_load(self, node: str, points: float) -> bool:
        """Say whether a node's usage proves nothing any more about whose load it was when streams left it."""
        effects = self._effects.get(node)
        return points <= self._rules.threshold or bool(effects and abs(points - effects[-1].left) > ANOTHER_LOAD)

    def _learn(self, seen: _Observation, drops: Points, rises: Points) -> None:
        """Accept the drops as the job's load in each signal in which the destination's rise agrees."""
        here, there = self._class(seen.source), self._class(seen.destination)
        agreeing = {
            signal: max(0.0, drop)
            for signal, drop in drops.items()
            if -AGREEING <= drop <= seen.source_before[signal]
            and self._agrees(signal, max(0.0, drop), rises.get(signal), here, there)
        }
        if not any(agreeing.values()):
            return
        loads = {name: dict(points) for name, points in self._streams[seen.stream].loads.items()}
        loads.setdefault(here, {}).update(agreeing)
        for signal, rise in rises.items():
            is_new = signal not in seen.source_before or (here != there and signal in agreeing)
            if is_new and rise >= LEAST_RISE:
                loads.setdefault(there, {})[signal] = rise
        self._streams[seen.stream] = replace(self._streams[seen.stream], loads=loads)
        self._speeds = None

    def _agrees(self, signal: str, drop: float, rise: float | None, here: str, there: str) -> bool:
        """Say whether nothing speaks against a drop: the rise can't, while the ratio of the classes isn't known."""
        if rise is None or (here != there and len(self._ratios(here, there, signal)) < ENOUGH_RATIOS):
            return True
        speeds = self._class_speeds(signal)
        expected = rise * speeds.get(there, 1.0) / speeds.get(here, 1.0)
        return abs(expected - drop) <= max(AGREEING, 0.3 * drop)

    def _ratios(self, one: str, other: str, signal: str) -> list[float]:
        """Return, for each stream that ran on both classes, how many times as fast the other one was."""
        found = []
        for history in self._streams.values():
            loads = [history.loads.get(name, {}).get(signal, 0.0) for name in (one, other)]
            if all(loads):
                found.append(loads[0] / loads[1])
        return found

    def _class_speeds(self, signal: str) -> dict[str, float]:
        """Return class -> speed: from class to class by the median ratio of the streams that ran on both."""
        if self._speeds is None:
            self._speeds = {}
        if signal not in self._speeds:
            ratios = defaultdict(list)
            for history in self._streams.values():
                seen = {name: points[signal] for name, points in history.loads.items() if points.get(signal)}
                for one, other in itertools.permutations(seen, 2):
                    ratios[one, other].append(seen[one] / seen[other])
            medians = {pair: statistics.median(found) for pair, found in ratios.items()}
            self._speeds[signal] = _speeds_along(medians, self._given_speeds)
        return self._speeds[signal]


def _signals_of(history: StreamHistory) -> set[str]:
    """Return the signals in which a stream's load was seen."""
    return {signal for points in history.loads.values() for signal in points}


def _speeds_along(ratios: Mapping[tuple[str, str], float], given: Mapping[str, float]) -> dict[str, float]:
    """Return class -> speed by the ratios; the first class of each connected set has its given speed, or 1."""
    speeds = dict(given)
    done: set[str] = set()
    for first in sorted({one for one, _ in ratios}):
        reached = [] if first in done else [first]
        speeds.setdefault(first, 1.0)
        done.add(first)
        while reached:
            one = reached.pop()
            for (start, other), ratio in sorted(ratios.items()):
                if start == one and other not in done:
                    speeds[other] = speeds[one] * ratio
                    done.add(other)
                    reached.append(other)
    return speeds


def history_to_json(history: StreamHistory) -> dict[str, Any]:
    """Return a history as plain JSON values, for its annotation.

    Loads of a farm with one signal stand in ``loads``, as they always have; those of several signals beside them in
    ``signals``, which a balancer from before there were any passes over.
    """
    loads = {
        name: {signal: round(points, 3) for signal, points in seen.items()} for name, seen in history.loads.items()
    }
    several = {name: {one: points for one, points in seen.items() if one} for name, seen in loads.items()}
    text: dict[str, Any] = {
        "loads": {name: seen[ONE_SIGNAL] for name, seen in loads.items() if ONE_SIGNAL in seen},
        "moves": history.moves,
        "last_move_s": None if history.last_move_s == -math.inf else round(history.last_move_s, 3),
        "origin": history.origin,
        "tried": history.tried,
        "closed": {node: [round(until, 3), times] for node, (until, times) in history.closed.items()},
    }
    if any(several.values()):
        text["signals"] = {name: seen for name, seen in several.items() if seen}
    return text


def history_from_json(value: Any) -> StreamHistory:
    """Return the history in an annotation's JSON value; an unreadable one counts as no history."""
    try:
        last_move_s = -math.inf if value["last_move_s"] is None else float(value["last_move_s"])
        loads = {str(name): {ONE_SIGNAL: float(points)} for name, points in value["loads"].items()}
        for name, seen in value.get("signals", {}).items():
            loads.setdefault(str(name), {}).update({str(one): float(points) for one, points in seen.items() if one})
        history = StreamHistory(
            loads=loads,
            moves=int(value["moves"]),
            last_move_s=last_move_s,
            origin=str(value["origin"]),
            tried=bool(value["tried"]),
            closed={str(node): (float(until), int(times)) for node, (until, times) in value["closed"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return NO_HISTORY
    # 0 in one of several signals says that the stream does not use it
    figures = [(signal, points) for seen in loads.values() for signal, points in seen.items()]
    loads_make_sense = all(0 < points <= 100 or (signal and points == 0) for signal, points in figures)
    return history if loads_make_sense and history.moves >= 0 else NO_HISTORY
