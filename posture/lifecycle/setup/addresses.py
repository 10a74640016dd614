"""Where things are found: the broker by cameras, Prometheus and the registry by everybody. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from posture.kube.client import Object
from posture.kube.labels import OURS, PART_OF
from posture.lifecycle.setup.nodes import Machine
from posture.lifecycle.setup.survey import BROKER, CAMERAS_PORT, REGISTRY, SCALER, Survey
from posture.natural_order import natural

PROMETHEUS_PORT = 9090
STACK_PROMETHEUS = ("monitoring", "prometheus")
REGISTRY_ADDRESS = "127.0.0.1:30500"
"""On nodes by the NodePort, on other machines by kubectl port-forward: an image has one name everywhere."""


def broker_names(survey: Survey, namespace: str, more: Sequence[str]) -> list[str]:
    """Return the names and addresses that the broker's certificate is for."""
    ingress = (_broker_service(survey, namespace).get("status") or {}).get("loadBalancer") or {}
    balanced = [str(one[key]) for one in ingress.get("ingress") or [] for key in ("ip", "hostname") if one.get(key)]
    found = [*service_names(BROKER, namespace), "localhost", "127.0.0.1", *balanced, *more]
    for machine in survey.machines:
        found += [machine.node.host, *machine.addresses]
    return list(dict.fromkeys(found))


def scaler_names(namespace: str) -> list[str]:
    """Return the names that the scaler's certificate is for."""
    return service_names(SCALER, namespace)


def service_names(name: str, namespace: str) -> list[str]:
    """Return a Service's names in the cluster."""
    return [name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local"]


def broker_for_cameras(survey: Survey, namespace: str, more: Sequence[str]) -> str:
    """Return the address that cameras use: what was asked for, a load balancer's, or that of a node that stays.

    Args:
        survey: what was found.
        namespace: the farm's.
        more: names and addresses that were asked for.
    """
    service = _broker_service(survey, namespace)
    ports = (service.get("spec") or {}).get("ports") or []
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if ingress and not more:
        host, port = str(ingress[0].get("hostname") or ingress[0].get("ip")), int(ports[0]["port"])
    else:
        port = next((int(one["nodePort"]) for one in ports if one.get("nodePort")), CAMERAS_PORT)
        host = more[0] if more else _stays(survey.machines)
    return f"mqtts://{f'[{host}]' if ':' in host else host}:{port}"


def _stays(machines: Sequence[Machine]) -> str:
    """Return the address of a control plane, or else of the first node: an IPv4 one if there is one."""
    ordered = sorted(machines, key=lambda one: (one.worker, not one.node.ready, natural(one.node.host)))
    found = [one for machine in ordered for one in sorted(_ip_addresses(machine), key=lambda one: one.version)]
    return str(found[0]) if found else ordered[0].node.host if ordered else "NODE"


def _ip_addresses(machine: Machine) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    for text in machine.addresses:
        try:
            yield ipaddress.ip_address(text)
        except ValueError:
            continue


def _broker_service(survey: Survey, namespace: str) -> Object:
    return survey.services.get((namespace, BROKER)) or {}


def prometheus_services(survey: Survey) -> list[tuple[str, str]]:
    """Return namespace and name of each Service that is a Prometheus, the stack's first."""
    found = [
        place
        for place, item in survey.services.items()
        if "prometheus" in place[1]
        and any(port["port"] == PROMETHEUS_PORT for port in item["spec"].get("ports") or [])
        and item["spec"].get("clusterIP") != "None"
    ]
    return sorted(found, key=lambda place: (not is_ours(survey.services[place]), place))


def is_ours(item: Object) -> bool:
    """Return whether an object is of this project."""
    return (item["metadata"].get("labels") or {}).get(PART_OF) == OURS


def registry(survey: Survey, namespace: str) -> str:
    """Return the stack's registry; empty if it has none."""
    return REGISTRY_ADDRESS if (namespace, REGISTRY) in survey.deployments else ""
