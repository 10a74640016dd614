"""ScaledJobs as YAML files: read as data with line numbers, checked, changed in few places, written atomically.

A file is kept as YAML's own nodes, so that nothing but the changed places is written in another way than it was
read: no number becomes a text, no ``on`` a ``true``. Comments are lost, anchors are written out.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from posture.errors import UserError
from posture.kube import affinity, labels
from posture.kube.annotations import PINNED
from posture.kube.objects import DEFAULT_POLLING_S
from posture.manifests.checks import Key, find_mistakes
from posture.settings.parsers import PI_ID
from posture.system.files import replace_all

POD = ("spec", "jobTargetRef", "template", "spec")
CONTAINER = (*POD, "containers", 0)
TRIGGER = ("spec", "triggers", 0)
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
        self._root = _compose(path, text)
        given = self.data()
        mistakes = find_mistakes(given)
        if mistakes:
            raise UserError("\n".join(f"{path}:{self.line(*at)}: {_dotted(at)}: {what}" for at, what in mistakes))
        self.stream = self._stream()
        for where, value in SET_WHERE_ABSENT.items():
            if self.get(*where) is None:
                self.set(value, *where)

    def data(self) -> dict[str, Any]:
        """Return it as plain data."""
        data: dict[str, Any] = _Loader("").construct_document(self._root)
        return data

    def get(self, *where: Key) -> Any:
        """Return a field's value; None if it is not there."""
        node = self._find(where)
        return None if node is None else _Loader("").construct_document(node)

    def line(self, *where: Key) -> int:
        """Return the line of a field, or of the nearest thing around it that is there."""
        for length in range(len(where), -1, -1):
            node = self._find(where[:length])
            if node is not None and node.start_mark is not None:
                return int(node.start_mark.line) + 1
        return 1

    def set(self, value: Any, *where: Key) -> None:
        """Give a field a value; what it has already is left as it is written."""
        if self.get(*where) == value:
            return
        parent: yaml.Node = self._root
        for step, following in pairwise(where):
            child = _child(parent, step)
            if child is None or isinstance(child, yaml.ScalarNode):  # absent, or null
                child = _node({} if isinstance(following, str) else [])
                _put(parent, step, child)
            parent = child
        former, new = _child(parent, where[-1]), _node(value)
        if isinstance(former, yaml.ScalarNode) and isinstance(new, yaml.ScalarNode) and former.tag == new.tag:
            new.style = former.style  # what was in quotes stays in quotes
        _put(parent, where[-1], new)

    def text(self) -> str:
        """Return it as YAML."""
        width = 1 << 30  # nothing is folded
        return str(yaml.serialize(self._root, Dumper=_Dumper, width=width, allow_unicode=True))

    @property
    def node(self) -> str | None:
        """The one node that it requires; None if it leaves a choice."""
        return affinity.node_of(self.get(*POD, "affinity"))

    @property
    def pinned(self) -> bool:
        """Whether a person has said where it runs."""
        said = str((self.get("metadata", "annotations") or {}).get(PINNED, ""))
        return self.node is not None and said.lower() not in {"", "false", "no"}

    @property
    def polling_interval_s(self) -> int:
        """How often KEDA looks whether the stream has its Job."""
        return int(self.get("spec", "pollingInterval") or DEFAULT_POLLING_S)

    @property
    def grace_period_s(self) -> int:
        """How long an analyzer may take to end."""
        return int(self.get(*POD, "terminationGracePeriodSeconds") or 30)

    def place(self, node: str) -> None:
        """Require this node, in each of its ORed terms."""
        self.set(affinity.with_node(self.get(*POD, "affinity"), node), *POD, "affinity")

    def set_image(self, image: str) -> None:
        """Set the analyzer's image, also where other containers of the pod have the same."""
        former = self.get(*CONTAINER, "image")
        for kind in ("initContainers", "containers"):
            for index, container in enumerate(self.get(*POD, kind) or []):
                if container.get("image") == former:
                    self.set(image, *POD, kind, index, "image")

    def set_environment(self, variables: Mapping[str, str]) -> None:
        """Give the analyzer these variables; those that it has already stay as they are."""
        given = self.get(*CONTAINER, "env") or []
        names = {entry.get("name") for entry in given}
        for name in sorted(variables.keys() - names):
            self.set({"name": name, "value": variables[name]}, *CONTAINER, "env", len(given))
            given.append(name)

    def set_scaler_address(self, address: str) -> None:
        """Set where KEDA finds the External Scaler, host:port."""
        self.set(address, *TRIGGER, "metadata", "scalerAddress")

    def set_owner(self, namespace: str, farm: str) -> None:
        """Set the namespace, and the labels by which the farm knows its own."""
        self.set(namespace, "metadata", "namespace")
        ours = {labels.PART_OF: labels.OURS, labels.FARM: farm, labels.STREAM: self.stream}
        for where in (("metadata", "labels"), ("spec", "jobTargetRef", "template", "metadata", "labels")):
            for name, value in ours.items():
                self.set(value, *where, name)

    def _stream(self) -> str:
        """Return the stream's name: its label's, else its file's."""
        by_file = re.fullmatch(r"posture-job-(.+)\.ya?ml", self.path.name)
        by_label = self.get("metadata", "labels", labels.STREAM)
        at = f"{self.path}:{self.line('metadata', 'labels', labels.STREAM)}: metadata.labels.{labels.STREAM}: "
        if by_label and by_file and by_file[1] != by_label:
            raise UserError(f"{at}{by_label!r} is not accepted; accepted: {by_file[1]}, as the file's name has it")
        stream = str(by_label or (by_file and by_file[1]) or "")
        if not PI_ID.fullmatch(stream):
            raise UserError(f"{at}{stream!r} is no stream's name; accepted: a-z, 0-9 and -, up to 32")
        return stream

    def _find(self, where: Sequence[Key]) -> yaml.Node | None:
        node: yaml.Node | None = self._root
        for step in where:
            node = _child(node, step) if node is not None else None
        return node


def load(paths: Iterable[Path]) -> list[Manifest]:
    """Read ScaledJobs.

    Returns:
        One for each path, in that order; streams and names are unique.

    Raises:
        UserError: all mistakes in all of the files.
    """
    found: list[Manifest] = []
    mistakes: list[str] = []
    for path in paths:
        try:
            found.append(Manifest(path, path.read_text(encoding="utf-8")))
        except OSError as error:
            mistakes.append(f"{path}: can't be read: {error.strerror}")
        except UnicodeDecodeError as error:
            mistakes.append(f"{path}: is not YAML: {error}")
        except UserError as error:
            mistakes.append(str(error))
    for what, where in (("stream", None), ("metadata.name", ("metadata", "name"))):
        owners: dict[str, Manifest] = {}
        for one in found:
            value = one.stream if where is None else str(one.get(*where))
            first = owners.setdefault(value, one)
            if first is not one:
                line = one.line(*(where or ("metadata",)))
                mistakes.append(f"{one.path}:{line}: {what}: {value!r} is in {first.path.name}, too")
    if mistakes:
        raise UserError("\n".join(mistakes))
    return found


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


def write(files: Mapping[Path, str]) -> list[Path]:
    """Write files, each replaced as a whole; what can't be written leaves all of them as they were.

    Returns:
        Those whose content is new.

    Raises:
        UserError: one can't be written.
    """
    for path in files:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: can't be written: it is no file")
    changed = {path: text for path, text in files.items() if _content(path) != text}
    try:
        replace_all({path: text.encode() for path, text in changed.items()})
    except OSError as error:
        raise UserError(f"{error.filename}: can't be written: {error.strerror}") from None
    return list(changed)


def _content(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _dotted(where: Sequence[Key]) -> str:
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".") or "the file"


# YAML as Kubernetes reads it: 1:30 and 2024-01-01 are texts, 1e3 is a number.

_INT = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"
_RESOLVERS = {
    first: [item for item in items if item[0].removeprefix(_TAG) not in {"int", "float", "timestamp"}]
    for first, items in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _first in "-+.0123456789":
    _RESOLVERS[_first] = [*_RESOLVERS.get(_first, []), (_TAG + "int", re.compile(f"(?:{_INT.pattern})$"))]
    _RESOLVERS[_first].append((_TAG + "float", re.compile(f"(?:{_FLOAT.pattern})$")))


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _RESOLVERS


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _RESOLVERS

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _compose(path: Path, text: str) -> yaml.MappingNode:
    """Return the nodes of the one document in a text: anchors written out, merges done."""
    try:
        roots = [_expanded(node, path, ()) for node in yaml.compose_all(text, Loader=_Loader) if _is_given(node)]
        for root in roots:
            _Loader("").construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise UserError(f"{path}{line}: is not YAML: {getattr(error, 'problem', None) or error}") from None
    except (ValueError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: is not YAML: {error}") from None
    if len(roots) > 1:
        raise UserError(f"{path}:{roots[1].start_mark.line + 1}: a second document; accepted: one ScaledJob a file")
    if not roots or not isinstance(roots[0], yaml.MappingNode):
        raise UserError(f"{path}:1: is no ScaledJob; accepted: apiVersion: keda.sh/v1alpha1, kind: ScaledJob")
    return roots[0]


def _is_given(node: yaml.Node | None) -> bool:
    """Say whether a document has something in it: what follows a last --- may be empty."""
    return node is not None and not (isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null")


def _expanded(node: yaml.Node, path: Path, around: tuple[int, ...]) -> yaml.Node:
    """Return a copy in which no part is shared, so that changing one place changes no other."""
    if id(node) in around:
        raise UserError(f"{path}:{node.start_mark.line + 1}: is not YAML: it contains itself")
    around = (*around, id(node))
    if isinstance(node, yaml.SequenceNode):
        items = [_expanded(item, path, around) for item in node.value]
        return yaml.SequenceNode(node.tag, items, node.start_mark, node.end_mark, node.flow_style)
    if isinstance(node, yaml.MappingNode):
        return _expanded_fields(node, path, around)
    style = node.style if isinstance(node, yaml.ScalarNode) else None
    return yaml.ScalarNode(node.tag, node.value, node.start_mark, node.end_mark, style)


def _expanded_fields(node: yaml.MappingNode, path: Path, around: tuple[int, ...]) -> yaml.MappingNode:
    seen: set[str] = set()
    for key, _ in node.value:
        name = str(key.value)
        if not isinstance(key, yaml.ScalarNode) or name in seen:
            what = "stands there twice" if name in seen else "is no field's name"
            raise UserError(f"{path}:{key.start_mark.line + 1}: {name[:60]}: {what}")
        seen.add(name)
    pairs = [(_expanded(key, path, around), _expanded(value, path, around)) for key, value in node.value]
    result = yaml.MappingNode(node.tag, pairs, node.start_mark, node.end_mark, node.flow_style)
    _Loader("").flatten_mapping(result)
    # what is merged comes first, and what stands there itself wins
    result.value = list({key.value: (key, value) for key, value in result.value}.values())
    return result


def _child(node: yaml.Node, step: Key) -> yaml.Node | None:
    if isinstance(step, int):
        items = node.value if isinstance(node, yaml.SequenceNode) else []
        return items[step] if step < len(items) else None
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == step), None)


def _put(parent: yaml.Node, step: Key, child: yaml.Node) -> None:
    if isinstance(step, int):
        parent.value[step:] = [child, *parent.value[step + 1 :]]
        return
    for index, (key, _) in enumerate(parent.value):
        if key.value == step:
            parent.value[index] = (key, child)
            return
    parent.value.append((_node(step), child))


def _node(value: Any) -> yaml.Node:
    node: yaml.Node = _Dumper(io.StringIO(), default_flow_style=False).represent_data(value)
    return node
