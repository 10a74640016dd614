"""Which streams run, over several readings."""

from __future__ import annotations

import dataclasses

from farm_objects import NOW_S, job, pod, scaled_job, view

from posture.balancer.health import Change, Health
from posture.balancer.view import ClusterView
from posture.kube.annotations import STATE
from posture.kube.objects import Pod

ONE = scaled_job("nano")
READY = pod("j", "nano", ready_since_s=NOW_S)


def reading(later_s: float, *pods: Pod, suspended: bool = False) -> ClusterView:
    return view(ONE, [job("j", "nano", suspended=suspended)], [*pods], NOW_S + later_s)


def reasons(changes: list[Change]) -> list[str]:
    return [change.down.trouble.reason if change.down else "runs" for change in changes]


def test_a_trouble_that_stays_is_told_once_and_its_end_too() -> None:
    health = Health(120)
    readings = [reading(60.0 * number, suspended=True) for number in range(3)]
    assert [reasons(health.see(one)) for one in readings] == [[], ["JobSuspended"], []]
    assert health.summary() == "not running: pi1 (JobSuspended)"
    assert reasons(health.see(reading(180, READY))) == ["runs"]
    assert health.summary() == ""


def test_what_belongs_to_every_start_is_told_only_when_it_has_not_passed() -> None:
    health = Health(120)
    starting = pod("j", "nano", phase="Pending", trouble="ContainerCreating", pulling=True)
    told = [reasons(health.see(reading(seconds, starting))) for seconds in (0.0, 60.0, 120.0, 180.0)]
    assert told == [[], [], [], ["ContainerCreating"]]


def test_the_state_says_since_when_and_why_and_is_not_written_anew_for_each_reading() -> None:
    health = Health(120)
    health.see(reading(0, READY))
    assert health.state_text(ONE) == "Running on nano"
    health.see(reading(60, suspended=True))
    assert health.state_text(ONE) == "", "what lasts for a moment is not written down"
    health.see(reading(120, suspended=True))
    text = health.state_text(ONE)
    assert text.startswith("JobSuspended since 2023-11-14T22:14:20Z: Job j is suspended")
    written = scaled_job("nano", annotations={STATE: text})
    health.see(reading(180, suspended=True))
    assert health.state_text(written) == text
    assert Health(120).state_text(written) == "Running on nano"


def test_streams_that_run_again_are_told_in_the_order_in_which_they_are_read() -> None:
    health = Health(120)
    names = ["cam2", "cam10"]

    def all_of(later_s: float, *pods: Pod, suspended: bool) -> ClusterView:
        one = reading(later_s, *pods, suspended=suspended)
        return dataclasses.replace(one, scaled_jobs={name: dataclasses.replace(ONE, stream=name) for name in names})

    for later_s in (0, 60):
        health.see(all_of(later_s, suspended=True))
    assert [change.stream for change in health.see(all_of(120, READY, suspended=False))] == names
