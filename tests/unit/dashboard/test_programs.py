"""What keeps streams running is told, and what it means when one of it is gone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from driven_exporter import SCRAPED_S, GpuExporter
from servers import PrometheusServer

from posture.dashboard.programs import FIGURES, Program, programs
from posture.settings import table as settings
from posture.usage.prometheus import Prometheus

SCALER = 'up{job="posture-scaler"} 1'
BALANCER = 'up{job="posture-balancer"} 1'
POLLING_S = 10.0


def series(*lines: str) -> list[tuple[dict[str, str], float]]:
    """Lines as an exposition has them, without quotes and commas within values."""
    found = []
    for line in lines:
        selector, value = line.rsplit(" ", 1)
        name, _, rest = selector.rstrip("}").partition("{")
        labels = dict(pair.split("=") for pair in rest.replace('"', "").split(",") if pair)
        found.append(({"__name__": name, **labels}, float(value)))
    return found


def told(*lines: str) -> dict[str, Program]:
    return {program.name: program for program in programs(series(*lines), POLLING_S)}


def test_all_is_well_and_says_since_when() -> None:
    found = told(
        SCALER, BALANCER, 'process_start_time_seconds{job="posture-scaler"} 1000',
        'process_start_time_seconds{job="posture-balancer"} 1007', 'posture_balancer_up{job="posture-scaler"} 1',
        'posture_scaler_keda_age_seconds{job="posture-scaler"} 4',
        'posture_balancer_acting{job="posture-balancer"} 1',
    )  # fmt: skip
    assert found == {
        "Scaler": Program("Scaler", True, "answers", 1000.0),
        "KEDA": Program("KEDA", True, "asks"),
        "Balancer": Program("Balancer", True, "acts", 1007.0),
    }


@pytest.mark.parametrize(
    ("lines", "name", "words"),
    [
        pytest.param(['up{job="posture-scaler"} 0'], "Scaler", "does not answer", id="scaler away"),
        pytest.param(
            [SCALER, 'posture_scaler_keda_age_seconds{job="posture-scaler"} 42'], "KEDA", "not asked for 42 s",
            id="KEDA away",
        ),
        pytest.param([SCALER], "KEDA", "has not asked since the scaler was started", id="KEDA never came"),
        pytest.param(
            [SCALER, 'posture_balancer_up{job="posture-scaler"} 0'], "Balancer", "does not run", id="balancer ended"
        ),
        pytest.param(['up{job="posture-balancer"} 0'], "Balancer", "does not run", id="balancer does not answer"),
        pytest.param(
            [BALANCER, 'posture_balancer_acting{farm="default",job="posture-balancer"} 0'], "Balancer",
            "does not act", id="balancer without Lease",
        ),
    ],
)  # fmt: skip
def test_one_that_is_gone_says_what_that_means(lines: list[str], name: str, words: str) -> None:
    program = told(*lines)[name]
    assert not program.well
    assert words in program.says


def test_two_polls_may_be_missed_and_the_slowest_stream_counts() -> None:
    late = [SCALER, 'posture_scaler_keda_age_seconds{job="posture-scaler"} 24']
    assert told(*late)["KEDA"].well


def test_nothing_is_said_of_what_prometheus_does_not_scrape() -> None:
    assert programs([], POLLING_S) == []
    assert list(told(BALANCER, 'posture_balancer_acting{job="posture-balancer"} 1')) == ["Balancer"]


def test_the_figures_of_a_farm_are_asked_for_and_no_others(gpu_exporter: GpuExporter, tmp_path: Path) -> None:
    gpu_exporter.show("scaler", "posture_scaler_keda_age_seconds 4", "posture_scaler_active 1")
    gpu_exporter.show("other", "posture_scaler_keda_age_seconds 900")
    jobs = {"posture-scaler": "scaler", "another-farm": "other", "posture-balancer": "nowhere"}
    server = PrometheusServer(
        tmp_path / "prometheus",
        [],
        scrape_configs=[
            {"job_name": job, "scrape_interval": "500ms", "static_configs": gpu_exporter.targets(node)}
            for job, node in jobs.items()
        ],
    )
    wanted = [("Scaler", True), ("KEDA", True), ("Balancer", False)]
    server.start()
    try:
        for node in ("scaler", "other", "nowhere"):
            gpu_exporter.wait_for_scrapes(node)
        asked = Prometheus(settings.Prometheus(url=server.url, timeout_s=20.0), {})
        deadline = time.monotonic() + SCRAPED_S
        # a scrape that came too late says that its target is down, until the next one
        while (found := [(one.name, one.well) for one in programs(asked.vector(FIGURES), POLLING_S)]) != wanted:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
    finally:
        server.stop()
