"""One reading of the cluster: its order, which pods count, and when KEDA was active. All else: tests/cluster."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import api_farm
import pytest
from farm_objects import NOW_S, job, pod, scaled_job, view
from scripted_api import write_kubeconfig

from posture.balancer.open_move import OpenMove
from posture.balancer.view import owned_by, read_view
from posture.kube.annotations import MOVE
from posture.kube.client import connect
from posture.kube.troubles import Complaint
from posture.planning.model import Move, MoveKind
from posture.settings.table import Kubernetes


def test_streams_are_read_in_the_order_in_which_people_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("cam1", "cam10", "cam100", "cam2")
    server = api_farm.answering({"scaledjobs": [api_farm.scaled_job(name, "n1") for name in names]})
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", server.address)))
    with connect(Kubernetes()) as cluster:
        assert list(read_view(cluster, "default").scaled_jobs) == ["cam1", "cam2", "cam10", "cam100"]
    server.close()


def test_pods_that_are_deleted_or_belong_to_another_node_are_not_current() -> None:
    one = scaled_job("nano")
    jobs = [job("old", "agx"), job("new", "nano"), job("gone", "nano")]
    pods = [pod("old"), pod("new", "nano"), pod("gone", "nano", deleting=True), pod("without-a-job", "nano")]
    assert view(one, jobs, pods).current_pods(one) == [pods[1]]


def test_a_scaledjob_that_was_never_active_was_so_infinitely_long_ago() -> None:
    one = scaled_job()
    assert view(one, [], [], NOW_S + 40).keda(one).last_active_age_s == 40
    # the controller's clock may be ahead
    assert view(one, [], [], NOW_S - 40).keda(one).last_active_age_s == 0
    never = dataclasses.replace(one, last_active_s=None)
    assert view(never, [], []).keda(never).last_active_age_s == math.inf


def test_jobs_belong_to_their_scaledjob_by_uid_and_pods_to_their_job() -> None:
    one = scaled_job(uid="ours")
    ours = job("ours", "nano", owner_uid="ours")
    former, labelled = job("former", "nano", owner_uid="deleted"), job("labelled", "nano", owner_uid="")
    left_over = pod("gone")
    jobs, pods = owned_by(
        [one],
        [former, ours, labelled],
        [pod("former"), pod("ours"), pod("labelled"), left_over, pod("alone", job_uid="")],
    )
    assert jobs == {"sj": [ours]}
    assert pods == {"sj": [pod("ours"), left_over]}, "what outlived its Job is still to go"


def test_a_stream_with_an_open_move_is_where_that_goes_whatever_others_have_written() -> None:
    move = Move(MoveKind.FAILOVER, "pi1", "agx", "nano", {"": 1.0}, {"": 1.0}, None, 5.0, "agx has been away")
    one = scaled_job("agx", annotations={MOVE: OpenMove("abc", move, NOW_S).to_text()})
    assert view(one, [job("old", "agx")], []).place(one) == "nano"


def test_streams_whose_job_is_refused_its_pod_are_named() -> None:
    one = scaled_job()
    seen = view(one, [job("refused", "nano")], [])
    told = {"uid-refused": Complaint("FailedCreate", "exceeded quota: small", NOW_S)}
    assert dataclasses.replace(seen, complaints=told).without_pods() == ["pi1"]
    assert seen.without_pods() == []
    started = view(one, [job("refused", "nano")], [pod("refused", "nano")])
    assert dataclasses.replace(started, complaints=told).without_pods() == []
