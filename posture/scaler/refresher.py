"""Reads the nodes' usage periodically, in a thread beside the event loop, and hands it to the scaler's answers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from posture.scaler.servicer import Answers
from posture.usage.readings import Reading, UsageUnknownError

Sampled = Mapping[str, Reading | UsageUnknownError]

_log = logging.getLogger(__name__)


class Refresher(threading.Thread):
    """Samples in a thread of its own, so that a Prometheus that hangs delays neither answers nor shutdown.

    Args:
        sample: asks Prometheus, once for all nodes.
        every_s: how often, seconds.
        take: is given what was found.
        ended: is called when the thread ends, which happens only by a bug.
    """

    def __init__(
        self,
        sample: Callable[[], Sampled],
        every_s: float,
        take: Callable[[Sampled], object],
        ended: Callable[[], object],
    ) -> None:
        super().__init__(name="refresher", daemon=True)
        self._sample = sample
        self._every_s = every_s
        self._take = take
        self._ended = ended

    def run(self) -> None:
        """Sample for ever."""
        try:
            while True:
                started = time.monotonic()
                self._take(self._sample())
                time.sleep(max(0.0, started + self._every_s - time.monotonic()))
        finally:
            self._ended()


class Usage:
    """What is known of each node; passes it on to the answers, and logs what changes.

    Args:
        answers: what KEDA is told.
    """

    def __init__(self, answers: Answers) -> None:
        self.sampled: Sampled = {}
        self.valid_at: float | None = None
        """When there was last a valid sample of any node, by time.monotonic()."""
        self._answers = answers
        self._problems: dict[str, str] = {}

    def take(self, sampled: Sampled) -> None:
        """Take what one query found."""
        self.sampled = sampled
        self._log_problems(
            {node: found.reason for node, found in sampled.items() if isinstance(found, UsageUnknownError)}
        )
        usage = {node: found.value for node, found in sampled.items() if isinstance(found, Reading)}
        now = time.monotonic()
        if usage:
            self.valid_at = now
        if self._answers.observe(usage, now):
            shown = ", ".join(f"{node} {points:.0f} %" for node, points in usage.items())
            _log.info("%s: %s", "Active" if self._answers.debounce.active else "inactive", shown)

    def _log_problems(self, problems: dict[str, str]) -> None:
        """Log once when a node's usage can't be read, and once when it can be read again."""
        nodes_by_reason: dict[str, list[str]] = {}
        for node, reason in problems.items():
            if node not in self._problems:
                nodes_by_reason.setdefault(reason, []).append(node)
        for reason, nodes in nodes_by_reason.items():
            what_holds = "; the last answer holds" if len(problems) == len(self.sampled) else ""
            _log.warning("no usage of %s: %s%s", ", ".join(nodes), reason, what_holds)
        back = [node for node in self._problems if node not in problems]
        if back:
            _log.info("usage of %s is back", ", ".join(back))
        self._problems = problems
