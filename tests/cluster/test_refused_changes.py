"""A stream whose change the API server refuses holds nothing else up: policies and webhooks of a real one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from balancing import MOVE, Farm, annotations
from control_plane import ScaledJob
from lightkube import ApiError, codecs
from lightkube.types import PatchType
from scaled_jobs import name_of
from watching import wait_for

RULE = {
    "apiGroups": ["keda.sh"],
    "apiVersions": ["*"],
    "operations": ["UPDATE"],
    "resources": ["scaledjobs"],
}


def policy(namespace: str, stream: str) -> list[dict[str, Any]]:
    """A policy of the cluster that forbids changes of one stream's affinity (403 or 422)."""
    forbids = f"object.metadata.namespace != '{namespace}' || object.metadata.name != '{name_of(stream)}'"
    unchanged = "object.spec == oldObject.spec"
    kind = "ValidatingAdmissionPolicy"
    base = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": f"{namespace}-{stream}"}}
    return [
        {
            **base,
            "kind": kind,
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [RULE]},
                "validations": [{"expression": f"{forbids} || {unchanged}", "message": "frozen until Monday"}],
            },
        },
        {
            **base,
            "kind": f"{kind}Binding",
            "spec": {"policyName": f"{namespace}-{stream}", "validationActions": ["Deny"]},
        },
    ]


def dead_webhook(namespace: str, stream: str) -> list[dict[str, Any]]:
    """A webhook that is down, and is asked about changes of one stream (500)."""
    asked = f"object.metadata.namespace == '{namespace}' && object.metadata.name == '{name_of(stream)}'"
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": f"{namespace}-{stream}"},
            "webhooks": [
                {
                    "name": "down.example.org",
                    "clientConfig": {"url": "https://127.0.0.1:9/"},
                    "rules": [RULE],
                    "matchConditions": [
                        {"name": "one", "expression": asked},
                        {"name": "spec", "expression": "object.spec != oldObject.spec"},
                    ],
                    "failurePolicy": "Fail",
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                    "timeoutSeconds": 1,
                }
            ],
        }
    ]


@contextlib.contextmanager
def installed(farm: Farm, objects: list[dict[str, Any]]) -> Iterator[None]:
    made = [farm.cluster.client.create(codecs.from_dict(one)) for one in objects]
    try:
        yield
    finally:
        for one in made:
            farm.cluster.client.delete(type(one), one.metadata.name)


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        pytest.param(policy, "frozen until Monday", id="a policy forbids it"),
        pytest.param(dead_webhook, "failed calling webhook", id="a webhook is down"),
    ],
)
def test_one_refused_stream_of_a_lost_node_keeps_the_others_of_it_waiting_no_longer(
    farm: Farm, refusal: Callable[[str, str], list[dict[str, Any]]], told: str
) -> None:
    lost, *_ = farm.add_nodes(40, 20, 20, 20)
    streams = ["pi1", "pi2", "pi3"]
    for stream in streams:
        farm.add_stream(stream, lost)
    with installed(farm, refusal(farm.namespace, "pi1")):
        refused_by_now(farm, "pi1")
        balancer = farm.balancer(node_grace_s=2.0)
        balancer.wait_for("0 overloaded")
        lost.die()
        for stream in streams[1:]:
            farm.until_ready_elsewhere(stream, lost)
        said = balancer.wait_for("it is passed over", "refused 1")
        assert told in said
        assert "lacks verb" not in said
        assert "was edited" not in said
        assert "the API server answers again" not in said
        assert next(reason for reason, message in farm.events("pi1") if told in message) == "ChangeRefused"
        assert MOVE not in annotations(farm.scaled_job("pi1"))
    farm.until_ready_elsewhere("pi1", lost)
    assert "takes changes of it again" in balancer.said()
    assert balancer.stop() == 0


def refused_by_now(farm: Farm, stream: str) -> None:
    """Wait until the API server heeds what was installed: it reads policies and webhooks in the background."""

    operations = [{"op": "add", "path": "/spec/jobTargetRef/template/spec/nodeSelector", "value": {}}]
    where = {"namespace": farm.namespace, "patch_type": PatchType.JSON}

    def refused() -> bool:
        try:
            farm.cluster.client.patch(ScaledJob, name_of(stream), operations, dry_run=True, **where)
        except ApiError:
            return True
        return False

    wait_for(refused)
