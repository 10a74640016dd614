"""Work as a list of steps: shown as a plan, done one by one; after a failure it is clear what was done."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from posture.errors import FailedError, UserError
from posture.kube.errors import KubeError
from posture.runtime import Stop
from posture.system.commands import StoppedError


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        what: in words, such as ``taint node master``.
        commands: the commands that are run, or that do the same by hand.
        do: does it.
        undo: the command that takes it back; empty where there is nothing to take back.
    """

    what: str
    commands: Sequence[Sequence[str]]
    do: Callable[[], object]
    undo: str = ""


@dataclass
class Journal:
    """Does steps, and keeps account of them.

    Attributes:
        stop: ends the work between two steps.
        done: the steps that are done.
    """

    stop: Stop
    done: list[Step] = field(default_factory=list)

    def run(self, steps: Sequence[Step]) -> bool:
        """Do the steps in their order, until one fails.

        Returns:
            Whether all were done. Otherwise it has been said on standard error what was done, what failed and why,
            and what undoes it.
        """
        for number, step in enumerate(steps, 1):
            print(f"[{number}/{len(steps)}] {step.what}", flush=True)
            try:
                if self.stop.requested:
                    raise StoppedError("interrupted")
                step.do()
            except (FailedError, KubeError, UserError) as error:
                self._report(step, steps[number:], error)
                return False
            self.done.append(step)
        return True

    def _report(self, failed: Step, left: Sequence[Step], error: Exception) -> None:
        lines = [f"error: {failed.what}: {error}", "done so far:"]
        lines += [f"  {step.what}{f'   (undo: {step.undo})' if step.undo else ''}" for step in self.done]
        lines += [] if self.done else ["  nothing"]
        lines += [f"not finished: {failed.what}{f'   (undo: {failed.undo})' if failed.undo else ''}"]
        lines += [f"not begun: {'; '.join(step.what for step in left)}"] if left else []
        print("\n".join(lines), file=sys.stderr, flush=True)


def show_plan(steps: Sequence[Step]) -> None:
    """Print the steps with their commands."""
    for number, step in enumerate(steps, 1):
        print(f"{number}. {step.what}")
        for command in step.commands:
            print(f"     {shlex.join(command)}")
