"""The questions for missing rights. What real accounts may do: tests/cluster."""

from __future__ import annotations

from scripted_api import Answer, PatientClient, ScriptedServer

from posture.kube import access, kinds


def test_each_missing_right_is_named_with_its_namespace(server: ScriptedServer, farm: PatientClient) -> None:
    server.answers = [Answer(201, {"status": {"allowed": allowed}}) for allowed in (True, False, False)]
    needed = [(kinds.POD, "list"), (kinds.SCALED_JOB, "patch"), (kinds.NODE, "list")]
    assert access.missing(farm.client, needed) == [
        f"the role lacks verb 'patch' on resource 'scaledjobs.keda.sh' in {farm.client.namespace}",
        "the role lacks verb 'list' on resource 'nodes'",
    ]
    asked = [request.body["spec"]["resourceAttributes"] for request in server.requests]
    assert asked == [
        {"verb": "list", "resource": "pods", "group": "", "namespace": farm.client.namespace},
        {"verb": "patch", "resource": "scaledjobs", "group": "keda.sh", "namespace": farm.client.namespace},
        {"verb": "list", "resource": "nodes", "group": ""},
    ]


def test_an_answer_without_a_status_is_no_permission(server: ScriptedServer, farm: PatientClient) -> None:
    server.answers = [Answer(201, {})]
    assert len(access.missing(farm.client, [(kinds.POD, "list")])) == 1
