"""A ScaledJob of a file: checked, read with line numbers, changed in few places, written with its comments."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml.nodes import Node

from posture.errors import UserError
from posture.kube import affinity, labels, ownership
from posture.kube.annotations import ENVIRONMENT, PINNED, is_pinned
from posture.kube.objects import DEFAULT_POLLING_S
from posture.manifests import yaml_nodes
from posture.manifests.checks import Key, find_mistakes
from posture.settings.parsers import NotAcceptedError, stream_name

POD = ("spec", "jobTargetRef", "template", "spec")
CONTAINER = (*POD, "containers", 0)
TRIGGER = ("spec", "triggers", 0)
_ENVIRONMENT_NOTE = ("metadata", "annotations", ENVIRONMENT)
LONGEST_NAME = 63
HOST_FOLDER = "/var/lib/posture-farm/"
"""On the nodes, where farms keep pictures."""
IDENTITY_SECRET = "posture-mqtt-"  # noqa: S105 - a name
"""And the stream's name: the Secret with its user at the broker."""
PACE_MARGIN_S = 10
"""For KEDA to notice that a Job has ended."""

SET_WHERE_ABSENT: Mapping[tuple[Key, ...], Any] = {
    ("spec", "maxReplicaCount"): 1,
    ("spec", "rollout", "strategy"): "gradual",
    ("spec", "rollout", "propagationPolicy"): "foreground",
    ("spec", "scalingStrategy", "strategy"): "default",
    (*POD, "restartPolicy"): "Never",
}
"""What a stream needs and KEDA's defaults don't give: those start 100 Jobs, and kill them all at each change.

A scalingStrategy that is left out KEDA adds itself, and takes the changed ScaledJob up a second time: both first
polls may start a Job.
"""


class Manifest:
    """One ScaledJob in one file.

    Args:
        path: the file; names it in messages.
        text: its content.

    Raises:
        UserError: it is not YAML, or no ScaledJob that the farm can use: all mistakes, with file, line and field.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._root: Node = yaml_nodes.compose(path, text)
        given = self.data()
        mistakes = find_mistakes(given)
        if mistakes:
            raise UserError("\n".join(f"{path}:{self.line(*at)}: {_dotted(at)}: {what}" for at, what in mistakes))
        self.stream = self._stream()
        for where, value in SET_WHERE_ABSENT.items():
            if self.get(*where) is None:
                self.set(value, *where)

    def copy(self) -> Manifest:
        """Return one that can be changed without changing this one."""
        result = copy.copy(self)
        result._root = yaml_nodes.copied(self._root)
        return result

    def data(self) -> dict[str, Any]:
        """Return it as plain data."""
        data: dict[str, Any] = yaml_nodes.data_of(self._root)
        return data

    def get(self, *where: Key) -> Any:
        """Return a field's value; None if it is not there."""
        node = self._find(where)
        return None if node is None else yaml_nodes.data_of(node)

    def line(self, *where: Key) -> int:
        """Return the line of a field, or of the nearest thing around it that is there."""
        for length in range(len(where), -1, -1):
            node = self._find(where[:length])
            if node is not None and node.start_mark is not None:
                return int(node.start_mark.line) + 1
        return 1

    def set(self, value: Any, *where: Key) -> None:
        """Give a field a value; what it has already is left as it is written."""
        if self.get(*where) != value:
            yaml_nodes.put(self._root, where, value)

    def text(self) -> str:
        """Return it as YAML, with its comments."""
        return yaml_nodes.serialize(self._root)

    @property
    def node(self) -> str | None:
        """The one node that it requires; None if it leaves a choice."""
        return affinity.node_of(self.get(*POD, "affinity"))

    @property
    def pinned(self) -> bool:
        """Whether a person has said where it runs."""
        return self.node is not None and is_pinned(self.get("metadata", "annotations"))

    @property
    def polling_interval_s(self) -> int:
        """How often KEDA looks whether the stream has its Job."""
        return int(self.get("spec", "pollingInterval") or DEFAULT_POLLING_S)

    @property
    def grace_period_s(self) -> int:
        """How long an analyzer may take to end."""
        return int(self.get(*POD, "terminationGracePeriodSeconds") or 30)

    def place(self, node: str) -> None:
        """Require this node, in each of its ORed terms.

        Raises:
            UserError: each of them keeps the stream off this node.
        """
        if affinity.excludes(self.get(*POD, "affinity"), node):
            at = f"{self.path}:{self.line(*POD, 'affinity')}: {_dotted((*POD, 'affinity'))}"
            raise UserError(
                f"{at}: keeps {self.stream} off {node}, where the plan puts it; accepted: one that lets it go "
                f"there, or the node of your choice by {affinity.NODE_LABEL} and annotation {PINNED}"
            )
        self.set(affinity.with_node(self.get(*POD, "affinity"), node), *POD, "affinity")

    def set_image(self, image: str) -> None:
        """Set the analyzer's image, also where other containers of the pod have the same."""
        former = self.get(*CONTAINER, "image")
        for kind in ("initContainers", "containers"):
            for index, container in enumerate(self.get(*POD, kind) or []):
                if container.get("image") == former:
                    self.set(image, *POD, kind, index, "image")

    def set_environment(self, variables: Mapping[str, str]) -> None:
        """Give the analyzer these variables in place of those that were given to it before.

        What the file itself says of a variable stays as it is: an annotation says which ones were written here.
        """
        self.forget_environment()
        given = self.get(*CONTAINER, "env") or []
        names = sorted(variables.keys() - {entry.get("name") for entry in given})
        for index, name in enumerate(names, len(given)):
            self.set({"name": name, "value": variables[name]}, *CONTAINER, "env", index)
        if names:
            self.set(" ".join(names), *_ENVIRONMENT_NOTE)

    def forget_environment(self) -> None:
        """Take the variables that were given to the analyzer away again."""
        written = str(self.get(*_ENVIRONMENT_NOTE) or "").split()
        if written:
            kept = [one for one in self.get(*CONTAINER, "env") or [] if one.get("name") not in written]
            self.set(kept, *CONTAINER, "env")
            self.remove(*_ENVIRONMENT_NOTE)

    def remove(self, *where: Key) -> None:
        """Remove a field of a mapping, and what is around it if nothing else is there."""
        *around, name = where
        left = {key: value for key, value in (self.get(*around) or {}).items() if key != name}
        if left:
            self.set(left, *around)
        else:
            self.remove(*around)

    def set_scaler_address(self, address: str) -> None:
        """Set where KEDA finds the External Scaler, host:port."""
        self.set(address, *TRIGGER, "metadata", "scalerAddress")

    def set_scaler_authentication(self, name: str) -> None:
        """Let KEDA connect to the scaler by TLS, with what a TriggerAuthentication of this name has."""
        self.set("true", *TRIGGER, "metadata", "enableTLS")
        self.set(name, *TRIGGER, "authenticationRef", "name")

    def set_owner(self, namespace: str, farm: str) -> None:
        """Set namespace and name, the labels by which the farm knows its own, and its own folders on the nodes.

        Raises:
            UserError: with the farm's name in it, the ScaledJob's name is too long.
        """
        self.set(namespace, "metadata", "namespace")
        if not self._is_named_for(farm):
            name = ownership.named_for(self.get("metadata", "name"), farm)
            if len(name) > LONGEST_NAME:
                at = f"{self.path}:{self.line('metadata', 'name')}: metadata.name"
                raise UserError(
                    f"{at}: {name!r}, which has kubernetes.farm in it, is too long; accepted: up to {LONGEST_NAME}"
                )
            self.set(name, "metadata", "name")
            self._set_folders(farm)
            self._set_identity(farm)
        ours = {labels.PART_OF: labels.OURS, labels.FARM: farm, labels.STREAM: self.stream}
        for where in (("metadata", "labels"), ("spec", "jobTargetRef", "template", "metadata", "labels")):
            for name, value in ours.items():
                self.set(value, *where, name)

    def _is_named_for(self, farm: str) -> bool:
        """Say whether this was done before: the file is one that was written for this farm."""
        owner = self.get("metadata", "labels", labels.FARM)
        return farm == ownership.DEFAULT_FARM or (
            owner == farm and str(self.get("metadata", "name")).endswith(f"-{farm}")
        )

    def _set_folders(self, farm: str) -> None:
        """Let a farm keep its pictures apart from other farms' on the same node."""
        for index, volume in enumerate(self.get(*POD, "volumes") or []):
            path = str((volume.get("hostPath") or {}).get("path", ""))
            if path.startswith(HOST_FOLDER):
                own = f"{HOST_FOLDER}{farm}/{path.removeprefix(HOST_FOLDER)}"
                self.set(own, *POD, "volumes", index, "hostPath", "path")

    def _set_identity(self, farm: str) -> None:
        """Let a farm's analyzers be other users at the broker than those of the streams of the same name."""
        for index, entry in enumerate(self.get(*CONTAINER, "env") or []):
            reference = (entry.get("valueFrom") or {}).get("secretKeyRef") or {}
            if reference.get("name") == f"{IDENTITY_SECRET}{self.stream}":
                own = ownership.named_for(reference["name"], farm)
                self.set(own, *CONTAINER, "env", index, "valueFrom", "secretKeyRef", "name")

    def _stream(self) -> str:
        """Return the stream's name: its label's, else its file's."""
        by_file = re.fullmatch(r"posture-job-(.+)\.ya?ml", self.path.name)
        by_label = self.get("metadata", "labels", labels.STREAM)
        at = f"{self.path}:{self.line('metadata', 'labels', labels.STREAM)}: metadata.labels.{labels.STREAM}: "
        if by_label and by_file and by_file[1] != by_label:
            raise UserError(f"{at}{by_label!r} is not accepted; accepted: {by_file[1]}, as the file's name has it")
        stream = str(by_label or (by_file and by_file[1]) or "")
        try:
            return stream_name(stream)
        except NotAcceptedError as refusal:
            raise UserError(f"{at}{stream!r} is no stream's name; {refusal}") from None

    def _find(self, where: Sequence[Key]) -> Node | None:
        node: Node | None = self._root
        for step in where:
            node = yaml_nodes.child(node, step) if node is not None else None
        return node


def check_pace(streams: Iterable[Manifest], stabilize_s: float) -> None:
    """Refuse streams of which KEDA could lose sight during a move.

    Args:
        streams: their ScaledJobs.
        stabilize_s: how long the scaler stays active after the last time a node had room, seconds.

    Raises:
        UserError: polling interval, grace period and a margin together are longer than that.
    """
    longest_s = stabilize_s - PACE_MARGIN_S
    mistakes = [
        f"{one.path}:{one.line('spec', 'pollingInterval')}: spec.pollingInterval: {one.polling_interval_s} s and a "
        f"grace period of {one.grace_period_s} s are together more than is accepted: {longest_s:g} s, which is "
        f"scaler.stabilize_s less {PACE_MARGIN_S} s; the farm could turn inactive while a stream moves"
        for one in streams
        if one.polling_interval_s + one.grace_period_s > longest_s
    ]
    if mistakes:
        raise UserError("\n".join(mistakes))


def _dotted(where: Sequence[Key]) -> str:
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".") or "the file"
