"""The Secrets and ConfigMaps that the stack's pods wait for, as they are to be."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping, Sequence
from urllib.parse import quote

from posture.kube import kinds, labels, ownership
from posture.kube.client import Object
from posture.kube.kinds import Kind
from posture.lifecycle.scaler_in_cluster import CONFIG_MAP, MADE
from posture.lifecycle.setup import addresses, certificates
from posture.lifecycle.setup.certificates import Pair
from posture.lifecycle.setup.kept import CA_CERTIFICATE, COPY, OF_DATABASE, OF_PICTURES, Kept
from posture.lifecycle.setup.survey import (
    BROKER,
    BY_SETUP,
    DASHBOARD,
    DATABASE,
    KEDA_NAMESPACE,
    PICTURES,
    SCALER,
    Survey,
)
from posture.manifests.scaled_job import IDENTITY_SECRET
from posture.settings.table import Settings

FARM_SECRET = "posture-farm"  # noqa: S105 - a name
CA = "posture-ca"
BROKER_TLS, SERVER_TLS, CLIENT_TLS = "posture-mqtt-tls", "posture-scaler-server-tls", "posture-scaler-client-tls"
TLS_TYPE = "kubernetes.io/tls"
CA_IN_PODS = "/ca/ca.crt"
BROKER_NAMES = "posture-farm/broker-names"
"""Annotation of the Secret with the broker's certificate: names that were asked for, with spaces between them."""
GIVEN = (
    "POSTURE_MQTT_URL", "POSTURE_MQTT_CA_FILE", "POSTURE_DATABASE_URL", "POSTURE_SUPABASE_KEY",
    "POSTURE_PROMETHEUS_PASSWORD", "POSTURE_PROMETHEUS_TOKEN", *OF_PICTURES,
)  # fmt: skip
"""Variables of ``.env`` that go to the pods as they are, and win over what the stack's parts are found at."""


def wanted(
    kept: Kept, settings: Settings, streams: Sequence[str], survey: Survey, names: Sequence[str]
) -> list[Object]:
    """Return every object that is to be there, the copy of what is kept here first.

    Args:
        kept: the secrets.
        settings: the farm's.
        streams: the farm's.
        survey: which parts the stack has, and which certificates are good still.
        names: more names and addresses of the broker.
    """
    makes = _Maker(settings.kubernetes.namespace, settings.kubernetes.farm)
    return [
        makes.secret(COPY, kept.copy()),
        *_of_broker(makes, kept, streams, survey, names),
        makes.secret(FARM_SECRET, of_farm(kept, settings.kubernetes.namespace, survey)),
        *_of_stack(makes, kept, survey),
        *_of_scaler(makes, kept, settings.scaler.client_name, survey),
    ]


def broker_names(survey: Survey, namespace: str, given: Sequence[str]) -> list[str]:
    """Return the broker's names that are asked for now, or else those of the last run that was asked for some."""
    live = survey.held.get((kinds.SECRET.name, namespace, BROKER_TLS)) or {"metadata": {}}
    notes = live["metadata"].get("annotations") or {}
    return list(given) or str(notes.get(BROKER_NAMES, "")).split()


def of_farm(kept: Kept, namespace: str, survey: Survey) -> dict[str, str]:
    """Return the variables that pods get: of the stack's parts, and what ``.env`` has instead."""
    found: dict[str, str] = {}
    if BROKER in survey.stateful_sets:
        found["POSTURE_MQTT_URL"] = f"mqtts://{BROKER}.{namespace}.svc:8883"
        found["POSTURE_MQTT_CA_FILE"] = CA_IN_PODS
    if DATABASE in survey.stateful_sets:
        password = kept.made["POSTURE_PASSWORD"]
        user = f"posture:{quote(password, safe='')}"  # one of a person's choice may hold any sign
        found["POSTURE_DATABASE_URL"] = f"postgresql://{user}@{DATABASE}.{namespace}.svc:5432/posture"
    if PICTURES in survey.stateful_sets:
        found |= {name: kept.made[name] for name in OF_PICTURES}
    given = kept.environment.values
    if "POSTURE_MQTT_URL" in given:
        found.pop("POSTURE_MQTT_CA_FILE", None)
    return found | {name: given[name] for name in GIVEN if name in given and name not in kept.made}


class _Maker:
    def __init__(self, namespace: str, farm: str) -> None:
        self.namespace = namespace
        self._farm = farm

    def secret(self, name: str, values: Mapping[str, str], kind: str = "Opaque") -> Object:
        """Return a Secret."""
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        return {**self._body(kinds.SECRET, name, self.namespace), "type": kind, "data": data}

    def tls(self, name: str, pair: Pair, authority: Pair) -> Object:
        """Return a Secret with a certificate, as cert-manager makes them."""
        values = {"tls.crt": pair.certificate, "tls.key": pair.key, CA_CERTIFICATE: authority.certificate}
        return self.secret(name, values, TLS_TYPE)

    def config_map(self, name: str, values: Mapping[str, str], namespace: str) -> Object:
        """Return a ConfigMap."""
        return {**self._body(CONFIG_MAP, name, namespace), "data": dict(values)}

    def identity(self, name: str) -> str:
        """Return the name of the Secret with one of the broker's users."""
        return ownership.named_for(f"{IDENTITY_SECRET}{name}", self._farm)

    def _body(self, kind: Kind, name: str, namespace: str) -> Object:
        marks = {labels.PART_OF: labels.OURS, labels.FARM: self._farm}
        metadata = {"name": name, "namespace": namespace, "labels": marks, "annotations": {MADE: BY_SETUP}}
        return {"apiVersion": kind.api, "kind": kind.name, "metadata": metadata}


def _of_broker(
    makes: _Maker, kept: Kept, streams: Sequence[str], survey: Survey, names: Sequence[str]
) -> Iterator[Object]:
    if BROKER in survey.stateful_sets:
        files = {name: kept.identities[kept.folder / "mosquitto" / name] for name in ("passwords", "acl")}
        yield makes.secret(BROKER, files)
        known = addresses.broker_names(survey, makes.namespace, names)
        certificate = makes.tls(BROKER_TLS, _certificate(makes, BROKER_TLS, kept, known, survey), kept.authority)
        if names:
            certificate["metadata"]["annotations"][BROKER_NAMES] = " ".join(names)
        yield certificate
        for namespace in (makes.namespace, *([KEDA_NAMESPACE] if survey.keda_namespace else [])):
            yield makes.config_map(CA, {CA_CERTIFICATE: kept.authority.certificate}, namespace)
    for stream in streams:
        yield makes.secret(makes.identity(stream), kept.identity(f"analyzer-{stream}"))
    for program in ("balancer", "dashboard"):
        yield makes.secret(makes.identity(program), kept.identity(program))


def _of_stack(makes: _Maker, kept: Kept, survey: Survey) -> Iterator[Object]:
    if DATABASE in survey.stateful_sets:
        yield makes.secret(DATABASE, {name: kept.made[name] for name in OF_DATABASE})
    if kept.users:
        yield makes.secret(DASHBOARD, {"users": kept.users})


def _of_scaler(makes: _Maker, kept: Kept, client: str, survey: Survey) -> Iterator[Object]:
    """Yield the certificates of scaler and KEDA, where the scaler is deployed with TLS."""
    deployment = survey.own_deployment(makes.namespace, SCALER)
    if deployment is None or SERVER_TLS not in mounted_secrets(deployment):
        return
    server = _certificate(makes, SERVER_TLS, kept, addresses.scaler_names(makes.namespace), survey)
    yield makes.tls(SERVER_TLS, server, kept.authority)
    caller = _certificate(makes, CLIENT_TLS, kept, [client or "keda-operator"], survey, client=True)
    yield makes.tls(CLIENT_TLS, caller, kept.authority)


def mounted_secrets(workload: Object) -> set[str]:
    """Return the Secrets that a Deployment's or StatefulSet's pods mount."""
    volumes = workload["spec"]["template"]["spec"].get("volumes") or []
    return {str(volume["secret"].get("secretName")) for volume in volumes if "secret" in volume}


def _certificate(
    makes: _Maker, name: str, kept: Kept, names: Collection[str], survey: Survey, *, client: bool = False
) -> Pair:
    """Return the certificate that is there while it is good, else a new one."""
    live = survey.data(name, makes.namespace)
    pair = Pair(live.get("tls.crt", ""), live.get("tls.key", ""))
    if live.get(CA_CERTIFICATE) == kept.authority.certificate and certificates.is_good(pair, kept.authority, names):
        return pair
    return certificates.issue(kept.authority, names, client=client)
