"""gpu_balancer.py (posture/balancer/{loop,observer}.py) as an operator runs it, on a real control plane."""

from __future__ import annotations

import json
import re

import requests
from balancing import MOVE, Farm, annotations
from driven_exporter import instance_of
from identities import retained
from servers import Mosquitto, free_port

PINNED = {"posture-farm/pinned": "true"}


def test_of_two_balancers_one_acts_and_the_other_takes_over_when_it_is_killed(farm: Farm) -> None:
    busy, idle = farm.add_nodes(10, 10)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    # long enough for the one that acts to keep it on a busy machine
    balancers = [farm.balancer(lease_s=15.0), farm.balancer(lease_s=15.0)]
    acting, waiting = balancers if "acts from now on" in balancers[0].wait_for(" acts") else reversed(balancers)
    acting.wait_for("acts from now on")
    waiting.wait_for("this one waits")
    farm.set_usage(busy, 80)
    farm.until_moved("pi1", idle)
    farm.set_usage(busy, 10)
    assert "acts from now on" not in waiting.said()
    assert len([reason for reason, _ in farm.events("pi1") if reason == "MoveBegun"]) == 1
    acting.kill()
    waiting.wait_for("acts from now on", "0 overloaded")
    assert waiting.stop() == 0


def test_a_balancer_that_is_asked_to_stop_lets_the_next_one_act_at_once(farm: Farm) -> None:
    farm.add_nodes(10, 10)
    first = farm.balancer(lease_s=1000.0)
    first.wait_for("0 overloaded")
    assert first.stop() == 0
    assert farm.balancer("--once", lease_s=1000.0).wait() == 0


def test_a_dry_run_shows_the_plan_and_changes_nothing(farm: Farm) -> None:
    busy, idle = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    before = farm.scaled_job("pi1").metadata.generation, farm.job_uids("pi1")
    balancer = farm.balancer("--dry-run", "--once")
    assert balancer.wait() == 0
    assert f"move pi1: {busy.name} -> {idle.name} (offload;" in balancer.said()
    assert f"node {busy.name}: 80.0 %, 2 streams" in balancer.said()
    assert re.search(rf"veto {busy.name} pi2: pinned", balancer.said())
    assert (farm.scaled_job("pi1").metadata.generation, farm.job_uids("pi1")) == before
    assert MOVE not in annotations(farm.scaled_job("pi1"))
    assert farm.events("pi1") == []


def test_explain_prints_every_veto_with_its_numbers(farm: Farm) -> None:
    busy, _ = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    balancer = farm.balancer("--once", "--explain")
    assert balancer.wait() == 0
    assert f"veto {busy.name}: unplaceable (usage 80, smallest_job 80 (a guess))" in balancer.said()


def test_a_node_that_is_balanced_by_what_its_streams_do_not_use_is_named(farm: Farm, mosquitto: Mosquitto) -> None:
    busy, _ = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    status = {"state": "online", "delegate": "cpu", "delegate_asked": "gpu"}
    retained(mosquitto.port, {"status/pi1": json.dumps(status).encode()})
    broker = {"mqtt": {"url": f"mqtt://127.0.0.1:{mosquitto.port}"}}
    balancer = farm.balancer("--once", "--explain", settings=broker)
    assert balancer.wait() == 0
    assert f"signal {busy.name} is balanced by its GPU, and pi1 runs on its CPU" in balancer.said()
    assert f"gpu pi1 was told to use the GPU, and uses the CPU of {busy.name}" in balancer.said()


def test_the_scarcer_of_two_signals_moves_a_stream_and_a_ratio_without_a_scale_is_named(farm: Farm) -> None:
    busy, idle = farm.add_nodes(10, 10)
    farm.usage.exporter.show(busy.name, "posture_gpu_usage_percent 5", "posture_cpu_usage_percent 80")
    farm.usage.exporter.show(idle.name, "gpu_load_ratio 0.1")
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    queries = {
        busy.name: {"instance": instance_of(busy.name), "signal": ["gpu", "cpu"]},
        idle.name: {"instance": instance_of(idle.name), "metric": "gpu_load_ratio"},
    }
    balancer = farm.balancer(settings={"GPU_QUERIES": queries})
    farm.until_moved("pi1", idle)
    assert f"{busy.name} 80.0 % (gpu 5.0, cpu 80.0), {idle.name} 10.0 %" in balancer.said()
    assert f"{idle.name}: gpu_load_ratio looks like a ratio" in balancer.said()


def test_a_silent_prometheus_moves_nothing(farm: Farm) -> None:
    busy, _ = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    before = farm.job_uids("pi1")
    nowhere = {"prometheus": {"url": "http://127.0.0.1:9", "scrape_interval_s": 0.5}}
    balancer = farm.balancer("--once", settings=nowhere)
    assert balancer.wait() == 0
    assert "no_metrics" in balancer.said()
    assert "can't be reached" in balancer.said()
    assert farm.job_uids("pi1") == before


def test_a_stream_with_the_labels_of_another_farm_is_left_alone(farm: Farm) -> None:
    busy, _ = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    farm.edit("pi1", [{"op": "replace", "path": "/metadata/labels/posture-farm~1farm", "value": "other"}])
    balancer = farm.balancer("--once", "--policy", "readme")
    assert balancer.wait() == 0
    assert "no_job" in balancer.said()


def test_each_veto_counts_as_a_metric_by_its_reason(farm: Farm) -> None:
    busy, _ = farm.add_nodes(80, 70)
    farm.add_stream("pi1", busy)
    port = free_port()
    balancer = farm.balancer(metrics_port=port)
    balancer.wait_for("2 overloaded")
    figures = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    assert re.search(r'^posture_balancer_vetoes_total\{reason="all_overloaded"\} [1-9]', figures, re.MULTILINE)
    assert re.search(r"^posture_balancer_overloaded_nodes 2\.0$", figures, re.MULTILINE)
    assert balancer.stop() == 0
