from __future__ import annotations

from typing import Any

import pytest

from posture.kube.client import Object
from posture.lifecycle.setup import addresses
from posture.lifecycle.setup.nodes import Machine
from posture.lifecycle.setup.survey import Survey

FARM = "posture-farm"
OURS = {"app.kubernetes.io/part-of": "posture-farm"}


def machine(name: str, *found: str, control_plane: bool = False) -> Machine:
    labels = {"node-role.kubernetes.io/control-plane": "true"} if control_plane else {}
    ready = [{"type": "Ready", "status": "True"}]
    status = {"addresses": [{"type": "InternalIP", "address": one} for one in found], "conditions": ready}
    return Machine.read({"metadata": {"name": name, "labels": labels}, "spec": {}, "status": status})


def service(port: int, ingress: dict[str, str] | None = None, **spec: Any) -> Object:
    balanced = {"loadBalancer": {"ingress": [ingress]}} if ingress else {}
    return {"metadata": {"labels": OURS}, "spec": {"ports": [{"port": port, **spec}]}, "status": balanced}


def surveyed(*machines: Machine, **services: Object) -> Survey:
    found = {(FARM, name.replace("_", "-")): item for name, item in services.items()}
    return Survey(machines=list(machines), services=found)


SERVER = machine("server", "fd00::5", "192.0.2.5", "server", control_plane=True)
BOARD = machine("a-board", "192.0.2.3")
NODE_PORT = service(8883, nodePort=30883)


@pytest.mark.parametrize(
    ("survey", "more", "expected"),
    [
        (surveyed(BOARD, SERVER, posture_mqtt=NODE_PORT), [], "mqtts://192.0.2.5:30883"),
        (surveyed(BOARD, posture_mqtt=NODE_PORT), [], "mqtts://192.0.2.3:30883"),
        (surveyed(machine("a", "fd00::5"), posture_mqtt=NODE_PORT), [], "mqtts://[fd00::5]:30883"),
        (surveyed(machine("a"), posture_mqtt=NODE_PORT), [], "mqtts://a:30883"),
        (surveyed(SERVER, posture_mqtt=NODE_PORT), ["farm.example", "x"], "mqtts://farm.example:30883"),
        (
            surveyed(SERVER, posture_mqtt=service(8883, {"ip": "192.0.2.99"}, nodePort=31111)),
            [],
            "mqtts://192.0.2.99:8883",
        ),
    ],
    ids=["a control plane", "no control plane", "IPv6 alone", "a name alone", "asked for", "a load balancer"],
)
def test_cameras_are_told_an_address_that_stays(survey: Survey, more: list[str], expected: str) -> None:
    assert addresses.broker_for_cameras(survey, FARM, more) == expected


def test_the_brokers_certificate_is_for_whatever_it_may_be_called() -> None:
    names = addresses.broker_names(surveyed(SERVER, BOARD, posture_mqtt=NODE_PORT), FARM, ["farm.example"])
    assert {"posture-mqtt.posture-farm.svc", "127.0.0.1", "fd00::5", "192.0.2.3", "a-board", "farm.example"} <= {
        *names
    }
    assert len(names) == len(set(names))


def test_the_stacks_prometheus_comes_first_and_what_is_none_is_not_among_them() -> None:
    own: Object = {"metadata": {}, "spec": {"ports": [{"port": 9090}], "clusterIP": "10.0.0.1"}}
    survey = Survey(
        services={
            ("a", "prometheus-server"): own,
            ("monitoring", "prometheus"): service(9090),
            ("a", "prometheus-node-exporter"): service(9100),
            ("a", "prometheus-headless"): {"metadata": {}, "spec": {**own["spec"], "clusterIP": "None"}},
            ("a", "cockpit"): own,
        }
    )
    assert addresses.prometheus_services(survey) == [("monitoring", "prometheus"), ("a", "prometheus-server")]


def test_a_registry_is_found_where_the_stack_has_one() -> None:
    assert addresses.registry(Survey(), FARM) == ""
    assert addresses.registry(Survey(deployments={(FARM, "posture-registry"): {}}), FARM) == "127.0.0.1:30500"
