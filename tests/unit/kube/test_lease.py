"""The balancer's Lease. Who gets it among several balancers: tests/cluster."""

from __future__ import annotations

import itertools
import threading

from scripted_api import Answer, PatientClient, Request, ScriptedServer, status

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


def test_a_lease_is_renewed_while_its_holder_is_busy_with_something_else(
    server: ScriptedServer, farm: PatientClient
) -> None:
    now = 0.0
    lease = Lease(farm.client, "default", duration_s=0.4, clock=lambda: now)
    versions, renewed = itertools.count(), threading.Event()

    def answer(request: Request) -> Answer:
        nonlocal now
        if request.method == "GET":
            return status(404, "not found")
        now += 0.1  # only renewals take time, however busy the machine is
        version = next(versions)
        if version >= 5:
            renewed.set()
        spec = {"holderIdentity": lease.identity, "leaseDurationSeconds": 1}
        return Answer(200, {"metadata": {"resourceVersion": str(version)}, "spec": spec})

    server.answer = answer
    with lease.kept():
        assert lease.renew()
        assert renewed.wait(20), "nobody renewed it"
        assert now > 0.4
        assert lease.held
    seen = len(server.requests)
    lease.release()
    assert len(server.requests) > seen
    assert not lease.held


def test_a_lease_that_was_lost_is_not_taken_back_behind_its_former_holders_back(
    server: ScriptedServer, farm: PatientClient
) -> None:
    lease = Lease(farm.client, "default", duration_s=0.2, clock=lambda: 0.0)  # it does not expire meanwhile
    looked = threading.Event()

    def answer(request: Request) -> Answer:
        if request.method == "POST":
            return Answer(200, {"metadata": {"resourceVersion": "1"}, "spec": {}})
        if request.method == "PUT":
            looked.set()
            return status(409, "it has been changed")
        return status(404, "not found")

    server.answer = answer
    with lease.kept():
        assert lease.renew()
        assert looked.wait(20)
    assert [request.method for request in server.requests].count("PUT") == 1
    assert not lease.held
