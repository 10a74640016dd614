"""An upgrade of streams that run: several are replaced at a time, and never are more away than is accepted.

A stream's ScaledJob is changed just before its Job is deleted. So whatever ends an upgrade early, such as an image
that does not start, the streams that it had not come to run on as they were, also when their analyzers start again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from posture.errors import FailedError
from posture.kube import kinds
from posture.kube.client import Object
from posture.kube.errors import KubeError, NoConnectionError
from posture.kube.objects import name_of
from posture.lifecycle.rollout import LOOK_EVERY_S, MOST_ROWS, Rollout, Seen, states_of, summary, table
from posture.natural_order import natural, some_of


@dataclass
class Upgrade:
    """One upgrade of some streams of a farm.

    Attributes:
        rollout: applies ScaledJobs and looks at streams.
        most_away: how many streams may be away at once; those that were away before don't count until they run.
        written: returns a stream's ScaledJob as it is to be.
    """

    rollout: Rollout
    most_away: int
    written: Callable[[str], Object]
    _left: list[str] = field(default_factory=list)
    _replacing: set[str] = field(default_factory=set)
    _interrupted: set[str] = field(default_factory=set)
    _down: set[str] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)
    _refused: dict[str, str] = field(default_factory=dict)

    def run(self, streams: Sequence[str]) -> None:
        """Change the ScaledJobs, and replace each Job that was made from an older revision.

        A stream that can't be changed or does not come back is told at once. The others go on around it, as long as
        it is not all that may be away.

        Raises:
            KubeError: the API server does not answer.
            FailedError: streams were refused or do not come back, or the stop was requested.
        """
        found = self.rollout.look()
        self._down = {stream for stream, seen in found.items() if not seen.served}
        # first those that lose nothing by it
        self._left = sorted(streams, key=lambda stream: (stream not in self._down, natural(stream)))
        moved_on_s = time.monotonic()
        while True:
            begun = due(self._left, self.away(found), self._down, self.most_away)
            for stream in begun:
                self._apply(stream)
            found = self.rollout.look()
            self._delete_outdated(found)
            self._down = {stream for stream in self._down if stream in found and not found[stream].served}
            states = states_of(sorted(self._replacing, key=natural), found)
            # one without an outdated Job is as it was: whether it runs is nothing to do with us
            done = {state.stream for state in states if state.runs or state.stream not in self._interrupted}
            self._replacing -= done
            rows = table(states) if len(streams) <= MOST_ROWS else summary(states)
            self.rollout.show([self._progress(len(streams)), *(rows if states else [])])
            if not self._left and not self._replacing:
                break
            if self.rollout.stop.requested:
                raise FailedError(
                    f"interrupted while {some_of(self._replacing) or 'none'} were replaced{self._rest()}"
                )
            if begun or done:
                moved_on_s = time.monotonic()
            elif time.monotonic() - moved_on_s > self.rollout.timeout_s:
                late = states_of(sorted(self.away(found) | self._replacing, key=natural), found)
                raise FailedError(
                    f"{self._progress(len(streams))}; nothing has changed for {self.rollout.timeout_s:g} s"
                    f"{self._rest()}\n{self.rollout.told(late)}"
                )
            if not done:
                self.rollout.stop.wait(LOOK_EVERY_S)
        if self._refused:
            raise FailedError(f"not changed, and as they were: {self._told_refused()}")

    def away(self, found: Mapping[str, Seen]) -> set[str]:
        """Return the streams that are away, or are about to be.

        Args:
            found: what there is of each stream of the farm: one that is being moved is away, too.
        """
        return ({stream for stream, seen in found.items() if not seen.served} | self._replacing) - self._down

    def _apply(self, stream: str) -> None:
        self._left.remove(stream)
        try:
            self.rollout.apply(self.written(stream))
        except NoConnectionError:
            raise
        except KubeError as error:
            self._refused[stream] = str(error)
        else:
            self._replacing.add(stream)

    def _delete_outdated(self, found: Mapping[str, Seen]) -> None:
        for stream in sorted(self._replacing & found.keys(), key=natural):
            for job in found[stream].outdated:
                self._interrupted.add(stream)
                uid = str(job["metadata"]["uid"])
                # one that is already being deleted is a move's, and its successor will be of the present revision
                if uid not in self._asked and "deletionTimestamp" not in job["metadata"]:
                    self._asked.add(uid)
                    self.rollout.cluster.delete(kinds.JOB, name_of(job), uid=uid, propagation="Foreground")

    def _progress(self, total: int) -> str:
        done = total - len(self._left) - len(self._replacing) - len(self._refused)
        parts = [
            f"{done} of {total} are as they are to be",
            f"{len(self._replacing)} being replaced (at most {self.most_away} away at once)"
            if self._replacing
            else "",
            f"{len(self._left)} to come" if self._left else "",
            f"refused: {self._told_refused()}" if self._refused else "",
        ]
        return "; ".join(part for part in parts if part)

    def _told_refused(self) -> str:
        return "; ".join(f"{stream}: {why}" for stream, why in self._refused.items())

    def _rest(self) -> str:
        return f"; not begun, and as they were: {some_of(self._left)}" if self._left else ""


def due(left: Sequence[str], away: Collection[str], down: Collection[str], most_away: int) -> list[str]:
    """Return the streams whose turn it is. Pure.

    Args:
        left: those that have not had it, in their order.
        away: those of the farm that are away and count.
        down: those that were away before: replacing them takes nothing away.
        most_away: how many may be.
    """
    room = max(0, most_away - len(away))
    free = [stream for stream in left if stream in down]
    return free + [stream for stream in left if stream not in down][:room]
