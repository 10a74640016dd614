"""The programs that place streams and keep them running, as their figures in Prometheus tell of them. Pure.

Without them the streams that run go on, so nothing else on the page says that one is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

SCALER, BALANCER = "posture-scaler", "posture-balancer"
"""Their jobs in deploy/monitoring's scrape configuration; its alerts name them, too."""
UP, STARTED = "up", "process_start_time_seconds"
ASKED, BALANCES, ACTS = "posture_scaler_keda_age_seconds", "posture_balancer_up", "posture_balancer_acting"
FIGURES = f'{{__name__=~"{"|".join((UP, STARTED, ASKED, BALANCES, ACTS))}",job=~"{SCALER}|{BALANCER}"}}'
MISSED_POLLS = 2
REACHED_S = 5.0
"""A poll of KEDA takes no longer to be heard of."""


@dataclass(frozen=True)
class Program:
    """One of them.

    Attributes:
        name: for people.
        well: it does what it is for.
        says: what it does, or why it does not and what that means.
        since: when it was started, in seconds since 1970; None: not known.
    """

    name: str
    well: bool
    says: str
    since: float | None = None


def programs(series: Iterable[tuple[Mapping[str, str], float]], polling_s: float) -> list[Program]:
    """Return the programs that Prometheus knows of; none where it scrapes none.

    Args:
        series: labels and value of each series of ``FIGURES``.
        polling_s: the longest time between two polls of KEDA for a stream, in seconds.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for labels, value in series:
        found.setdefault((labels.get("__name__", ""), labels.get("job", "")), []).append(value)

    def figure(name: str, job: str, pick: Callable[[list[float]], float] = max) -> float | None:
        values = found.get((name, job))
        return pick(values) if values else None

    scaler, balancer = figure(UP, SCALER), figure(UP, BALANCER)
    told = []
    if scaler is not None:
        told.append(_scaler(bool(scaler), figure(STARTED, SCALER)))
    if scaler:
        told.append(_keda(figure(ASKED, SCALER, min), MISSED_POLLS * polling_s + REACHED_S))
    supervised = figure(BALANCES, SCALER)
    if balancer is not None or supervised is not None:
        runs = 0.0 not in (balancer, supervised)
        told.append(_balancer(runs, figure(ACTS, BALANCER), figure(STARTED, BALANCER)))
    return told


def _scaler(up: bool, since: float | None) -> Program:
    if not up:
        return Program("Scaler", False, "does not answer: streams go on, and one that ends is not started again")
    return Program("Scaler", True, "answers", since)


def _keda(age_s: float | None, late_s: float) -> Program:
    if age_s is not None and age_s <= late_s:
        return Program("KEDA", True, "asks")
    asked = "since the scaler was started" if age_s is None else f"for {age_s:.0f} s"
    return Program("KEDA", False, f"has not asked {asked}: streams go on, and one that ends is not started again")


def _balancer(runs: bool, acts: float | None, since: float | None) -> Program:
    if not runs:
        why = "does not run: no stream is moved off a busy node, or restarted elsewhere when its node is lost"
        return Program("Balancer", False, why)
    if acts == 0:
        return Program(
            "Balancer", False, "does not act: another one has the Lease, or the API server is away", since
        )
    return Program("Balancer", True, "acts" if acts else "runs", since)
