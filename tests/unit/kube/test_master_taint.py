"""The master's taint. Two writers at once on a real API server: tests/cluster."""

from __future__ import annotations

from scripted_api import Answer, PatientClient, ScriptedServer, status

from posture.kube import master_taint

OTHER = {"key": "other", "effect": "NoExecute"}
OURS = {"key": "default.posture-farm/master", "value": "true", "effect": "NoSchedule"}


def node(*taints: dict[str, str]) -> Answer:
    return Answer(200, {"spec": {"taints": list(taints)} if taints else {}})


def test_ours_is_added_beside_the_others_if_they_are_unchanged(server: ScriptedServer, farm: PatientClient) -> None:
    server.answers = [node(OTHER), node(OTHER, OURS)]
    assert master_taint.add(farm.client, "master", "default")
    assert server.requests[-1].body == [
        {"op": "test", "path": "/spec/taints", "value": [OTHER]},
        {"op": "add", "path": "/spec/taints", "value": [OTHER, OURS]},
    ]


def test_one_that_is_there_is_not_added_again(server: ScriptedServer, farm: PatientClient) -> None:
    server.answers = [node(OURS)]
    assert not master_taint.add(farm.client, "master", "default")
    assert [request.method for request in server.requests] == ["GET"]


def test_the_list_is_read_again_when_somebody_else_has_changed_it(
    server: ScriptedServer, farm: PatientClient
) -> None:
    server.answers = [node(OURS), status(409, "changed"), node(OTHER, OURS), node(OTHER)]
    assert master_taint.remove(farm.client, "master", "default")
    assert server.requests[-1].body[-1] == {"op": "add", "path": "/spec/taints", "value": [OTHER]}


def test_another_farms_taint_stays(server: ScriptedServer, farm: PatientClient) -> None:
    server.answers = [node(OURS)]
    assert not master_taint.remove(farm.client, "master", "another")
    assert master_taint.is_tainted({"spec": {"taints": [OURS]}}, "default")
    assert not master_taint.is_tainted({"spec": {"taints": [OURS]}}, "another")
