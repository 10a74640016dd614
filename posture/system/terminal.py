"""Status lines: updated in place on a terminal, else printed every few seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

SHOW_EVERY_S, SHOW_IN_LOG_EVERY_S = 0.5, 5.0


@dataclass
class Screen:
    """Prints status lines repeatedly.

    Attributes:
        terminal: standard output is a terminal, where the lines can be overwritten.
        changes: print the lines whenever they have changed, and only then.
        shown_at: when they were last printed, on the monotonic clock.
        shown: the lines last printed.
    """

    terminal: bool
    changes: bool = False
    shown_at: float = 0.0
    shown: list[str] = field(default_factory=list)

    def show(self, lines: Sequence[str]) -> None:
        """Print the lines if they are due."""
        every = SHOW_EVERY_S if self.terminal else SHOW_IN_LOG_EVERY_S
        if list(lines) == self.shown if self.changes else time.monotonic() - self.shown_at < every:
            return
        self.shown_at = time.monotonic()
        # what was below goes, too: there may be fewer lines than before
        up = f"\x1b[{len(self.shown)}A\x1b[J" if self.terminal and self.shown else ""
        print(up + "\n".join(lines), flush=True)
        self.shown = list(lines)
