"""The balancer's Lease. Who gets it among several balancers: tests/cluster."""

from __future__ import annotations

from scripted_api import Answer, PatientClient, ScriptedServer, status

from posture.kube.lease import Lease


def test_a_laptop_that_was_closed_does_not_act_on_the_lease_that_it_held(
    server: ScriptedServer, farm: PatientClient
) -> None:
    now = 100.0
    lease = Lease(farm.client, "default", duration_s=30.0, clock=lambda: now)

    def held_by(name: str) -> Answer:
        body = {"metadata": {"resourceVersion": name}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 30}}
        return Answer(200, body)

    server.answers = [status(404, "not found"), held_by(lease.identity)]
    assert lease.renew()
    assert lease.held
    now += 3600.0
    assert not lease.held
    server.answers = [status(409, "it has been changed"), held_by("another")]
    assert not lease.renew()
    assert not lease.renew()
    assert lease.holder == "another"
