"""What a ScaledJob must be for the farm: a table of fields, and why. Pure; the API server checks all the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from posture.kube.affinity import HOST_LABEL, NODE_LABEL, names_node
from posture.kube.annotations import PINNED

Key = str | int
"""A step in a path of fields: a name, or an index of a list."""

_JOB = ("spec", "jobTargetRef")
_POD = (*_JOB, "template", "spec")
_TRIGGER = ("spec", "triggers", 0)
_TERMS = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class _Check:
    where: tuple[Key, ...]
    accepts: Callable[[Any], bool]
    accepted: str
    needed: bool = False


def _is(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(one) and value == one for one in values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_fields(value: Any) -> bool:
    return isinstance(value, dict)


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int for one in value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _is_one(value: Any) -> bool:
    return _is_list(value) and len(value) == 1


def _never(value: Any) -> bool:
    return False


_TEXTS = "fields with texts; numbers, yes and no need quotes"

# A field that is not as it must be spares those inside it: outer ones come first.
_CHECKS = (
    _Check(("apiVersion",), _is("keda.sh/v1alpha1"), "keda.sh/v1alpha1", needed=True),
    _Check(("kind",), _is("ScaledJob"), "ScaledJob", needed=True),
    _Check(("metadata",), _is_fields, "fields", needed=True),
    _Check(("metadata", "name"), _is_name, "a-z, 0-9 and -, up to 63", needed=True),
    _Check(("metadata", "namespace"), _is_name, "a-z, 0-9 and -, up to 63"),
    _Check(("metadata", "labels"), _is_texts, _TEXTS),
    _Check(("metadata", "annotations"), _is_texts, _TEXTS),
    _Check(("spec",), _is_fields, "fields", needed=True),
    _Check(("spec", "pollingInterval"), _is_count, "whole seconds, at least 1"),
    _Check(("spec", "minReplicaCount"), _is(0), "0: KEDA calls what has more active, whatever the scaler says"),
    _Check(("spec", "maxReplicaCount"), _is(1), "1: a stream has one analyzer"),
    _Check(("spec", "rollout"), _is_fields, "fields"),
    _Check(
        ("spec", "rollout", "strategy"), _is("gradual"), "gradual: with immediate each change kills the analyzer"
    ),
    _Check(_JOB, _is_fields, "fields", needed=True),
    _Check((*_JOB, "parallelism"), _is(1), "1: a stream has one analyzer"),
    _Check((*_JOB, "completions"), _is(1), "1: a stream has one analyzer"),
    _Check((*_JOB, "activeDeadlineSeconds"), _never, "nothing: it would end a healthy analyzer"),
    _Check((*_JOB, "template"), _is_fields, "fields", needed=True),
    _Check((*_JOB, "template", "metadata"), _is_fields, "fields"),
    _Check((*_JOB, "template", "metadata", "labels"), _is_texts, _TEXTS),
    _Check(_POD, _is_fields, "fields", needed=True),
    _Check((*_POD, "restartPolicy"), _is("Never"), "Never: KEDA brings the successor"),
    _Check((*_POD, "terminationGracePeriodSeconds"), _is_count, "whole seconds, at least 1"),
    _Check((*_POD, "activeDeadlineSeconds"), _never, "nothing: it would end a healthy analyzer"),
    _Check((*_POD, "nodeName"), _never, "nothing: it would pass the scheduler by"),
    _Check((*_POD, "nodeSelector"), _is_texts, _TEXTS),
    _Check((*_POD, "nodeSelector", NODE_LABEL), _never, "nothing: the node is set in the affinity"),
    _Check((*_POD, "nodeSelector", HOST_LABEL), _never, "nothing: the node is set in the affinity"),
    *(_Check((*_POD, *_TERMS[:length]), _is_fields, "fields") for length in range(1, len(_TERMS))),
    _Check((*_POD, *_TERMS), _is_list, "a list of terms"),
    _Check((*_POD, "tolerations"), _is_list, "a list of tolerations"),
    _Check((*_POD, "runtimeClassName"), _is_text, "a runtime class's name"),
    _Check((*_POD, "securityContext"), _is_fields, "fields"),
    _Check((*_POD, "securityContext", "supplementalGroups"), _is_numbers, "a list of groups' numbers"),
    _Check(
        (*_POD, "containers"), lambda value: _is_list(value) and value != [], "a list of containers", needed=True
    ),
    _Check((*_POD, "containers", 0, "name"), _is_name, "a-z, 0-9 and -, up to 63", needed=True),
    _Check((*_POD, "containers", 0, "image"), _is_text, "an image's name", needed=True),
    _Check((*_POD, "containers", 0, "env"), _is_list, "a list of variables"),
    _Check((*_POD, "containers", 0, "resources"), _is_fields, "fields"),
    _Check((*_POD, "containers", 0, "resources", "limits"), _is_named, "fields"),
    _Check((*_POD, "initContainers"), _is_list, "a list of containers"),
    _Check(("spec", "triggers"), _is_one, "one trigger: KEDA would sum several", needed=True),
    _Check(
        (*_TRIGGER, "type"), _is("external"), "external: external-push polls as well, and says less", needed=True
    ),
    _Check((*_TRIGGER, "metricType"), _never, "nothing: with it KEDA refuses the ScaledJob"),
    _Check((*_TRIGGER, "metadata"), _is_texts, _TEXTS, needed=True),
    _Check((*_TRIGGER, "metadata", "scalerAddress"), _is_text, "host:port", needed=True),
)


_ONE_PLACE = (
    f"a node named by {NODE_LABEL} alone, which is what placing and moving set; annotation {PINNED} keeps it there"
)


def _is_one_text(values: Any) -> bool:
    return isinstance(values, list) and len(values) == 1 and isinstance(values[0], str)


def find_mistakes(manifest: Mapping[str, Any]) -> list[tuple[tuple[Key, ...], str]]:
    """Return where a ScaledJob is not as it must be, and what is accepted there."""
    mistakes: list[tuple[tuple[Key, ...], str]] = []
    for check in _CHECKS:
        if any(check.where[: len(where)] == where for where, _ in mistakes):
            continue
        value = _value(manifest, check.where)
        if value is None and check.needed:
            mistakes.append((check.where, f"must be given; accepted: {check.accepted}"))
        elif value is not None and not check.accepts(value):
            mistakes.append((check.where, f"{_shown(value)} is not accepted; accepted: {check.accepted}"))
    if not any((*_POD, *_TERMS)[: len(where)] == where for where, _ in mistakes):
        mistakes += _mistakes_of_terms(_value(manifest, (*_POD, *_TERMS)) or [])
    return mistakes


def _mistakes_of_terms(terms: list[dict[str, Any]]) -> Iterator[tuple[tuple[Key, ...], str]]:
    """Yield what contradicts the node that placing and moving write into each of the ORed terms."""
    named: set[str] = set()
    for index, term in enumerate(terms):
        for part in ("matchExpressions", "matchFields"):
            where = (*_POD, *_TERMS, index, part)
            items = term.get(part)
            if items is not None and not _is_list(items):
                yield where, f"{_shown(items)} is not accepted; accepted: a list of requirements"
                continue
            for number, item in enumerate(items or []):
                operator, values = item.get("operator"), item.get("values") or []
                if names_node(part, item) and operator not in ("NotIn", "Exists"):
                    yield (*where, number), f"{_shown(item)} is not accepted; accepted: {_ONE_PLACE}"
                elif item.get("key") == NODE_LABEL and operator == "In" and _is_one_text(values):
                    named.update(values)
                elif item.get("key") == NODE_LABEL and operator != "Exists":
                    yield (*where, number), f"{_shown(item)} is not accepted; accepted: Exists, or In with one node"
    if len(named) > 1:
        yield (*_POD, *_TERMS), f"{' and '.join(sorted(named))} are not accepted; accepted: one node in all terms"


def _value(data: Any, where: tuple[Key, ...]) -> Any:
    for step in where:
        if isinstance(step, int):
            data = data[step] if isinstance(data, list) and step < len(data) else None
        else:
            data = data.get(step) if isinstance(data, dict) else None
    return data


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
