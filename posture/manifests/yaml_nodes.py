"""YAML with Kubernetes' scalars as a tree of nodes: composed, changed in few places, serialized with its comments.

The nodes keep how each scalar is written, so that nothing but a changed place is written in another way than it was
read: no number becomes a text, no ``on`` a ``true``. Anchors and merges are written out; a comment behind an alias
(``*name``) is the only one that the parser drops.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import CommentMark, MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tokens import CommentToken

from posture.errors import UserError
from posture.manifests.checks import Key

# Kubernetes reads 1:30 and 2024-01-01 as texts, and 1e3 as a number; all else is YAML 1.1, as PyYAML has it.
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


class _Resolver(VersionedResolver):
    @property
    def versioned_resolver(self) -> Any:
        return _RESOLVERS


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _RESOLVERS


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _RESOLVERS

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def compose(path: Path, text: str) -> MappingNode:
    """Return the nodes of the one document in a text: anchors written out, merges done.

    Args:
        path: the file; names it in messages.
        text: its content.

    Raises:
        UserError: it is not YAML, or not one mapping with each field once; with file and line.
    """
    reader = YAML()
    reader.version = (1, 1)
    reader.Resolver = _Resolver
    reader.composer.warn_double_anchors = False
    try:
        roots = [
            _expanded(node, path, (), set())
            for node in reader.compose_all(_without_marker(text))
            if _is_given(node)
        ]
        for root in roots:
            data_of(root)
    except (MarkedYAMLError, yaml.MarkedYAMLError) as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        raise UserError(f"{path}{line}: is not YAML: {error.problem or error}") from None
    except (YAMLError, yaml.YAMLError, ValueError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: is not YAML: {error}") from None
    if len(roots) > 1:
        raise UserError(f"{path}:{roots[1].start_mark.line + 1}: a second document; accepted: one ScaledJob a file")
    if not roots or not isinstance(roots[0], MappingNode):
        raise UserError(f"{path}:1: is no ScaledJob; accepted: apiVersion: keda.sh/v1alpha1, kind: ScaledJob")
    return roots[0]


def serialize(root: Node) -> str:
    """Return a tree as YAML, with its comments."""
    writer = YAML()
    writer.Resolver = _Resolver
    writer.width = 1 << 30  # nothing is folded
    writer.indent(mapping=2, sequence=4, offset=2)
    written = io.StringIO()
    # the emitter marks comments as written: a second call would leave them out
    writer.serialize(copied(root), written)
    return written.getvalue()


def copied(node: Node) -> Node:
    """Return a copy of a tree that shares nothing that is changed; copy.deepcopy takes ten times as long."""
    result = copy.copy(node)
    result.comment = _copied_comment(node.comment)
    if isinstance(node, SequenceNode):
        result.value = [copied(item) for item in node.value]
    elif isinstance(node, MappingNode):
        result.value = [(copied(key), copied(value)) for key, value in node.value]
    return result


def _copied_comment(comment: Any) -> Any:
    """Return a copy of what hangs on a node: comments, or lists of them."""
    return [_copied_comment(one) for one in comment] if isinstance(comment, list) else copy.copy(comment)


def data_of(node: Node) -> Any:
    """Return a node as plain data."""
    return _Loader("").construct_document(_plain(node))


def child(node: Node, step: Key) -> Node | None:
    """Return a field of a mapping or an item of a sequence; None if it is not there."""
    if isinstance(step, int):
        items = node.value if isinstance(node, SequenceNode) else []
        return items[step] if step < len(items) else None
    if not isinstance(node, MappingNode):
        return None
    return next((value for key, value in node.value if key.value == step), None)


def put(root: Node, where: Sequence[Key], value: Any) -> None:
    """Give a field a value, and make what is absent around it.

    What is equal already stays as it is written. Comments stay where they are; those of a removed item go with it.
    """
    step, *inner = where
    before = child(root, step)
    if inner:
        if before is None or isinstance(before, ScalarNode):  # absent, or null
            before = _place(root, step, _node({} if isinstance(inner[0], str) else []))
        put(before, inner, value)
    else:
        _place(root, step, _changed(before, value))


def _place(parent: Node, step: Key, new: Node) -> Node:
    """Put a node in the place of a child, or behind the last one."""
    last = _last_leaf(parent)
    former = child(parent, step)
    if former is not None and former is not new and new.comment is None:
        new.comment, former.comment = former.comment, None
    if isinstance(step, int):
        parent.value[step:] = [new, *parent.value[step + 1 :]]
    elif former is None:
        parent.value.append((_node(step), new))
    else:
        parent.value[:] = [(key, new if key.value == step else value) for key, value in parent.value]
    _move_tail(last, _last_leaf(parent))
    return new


def _changed(node: Node | None, value: Any) -> Node:
    """Return a node with another value, made from the former one as far as they agree."""
    if node is not None and _same(data_of(node), value):
        return node
    if isinstance(node, MappingNode) and isinstance(value, dict):
        last = _last_leaf(node)
        node.value[:] = [(key, former) for key, former in node.value if key.value in value]
        for name, inner in value.items():
            _place(node, name, _changed(child(node, name), inner))
        _move_tail(last, _last_leaf(node))
        return node
    if isinstance(node, SequenceNode) and isinstance(value, list):
        last = _last_leaf(node)
        node.value[:] = _changed_items(node.value, value)
        _move_tail(last, _last_leaf(node))
        return node
    new = _node(value)
    if isinstance(node, ScalarNode) and isinstance(new, ScalarNode) and node.tag == new.tag:
        new.style = node.style  # what was in quotes stays in quotes
    return new


def _changed_items(items: Sequence[Node], values: Sequence[Any]) -> list[Node]:
    """Return nodes for the values of a list: those that are equal already, else one that is no longer needed."""
    left = list(items)
    found: list[Node | None] = []
    for value in values:
        found.append(next((node for node in left if _same(data_of(node), value)), None))
        left = [node for node in left if node is not found[-1]]
    result = []
    for node, value in zip(found, values, strict=True):
        former = node if node is not None else left.pop(0) if left else None
        new = _changed(former, value)
        if former is not None and new is not former:
            new.comment = former.comment
        result.append(new)
    return result


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _last_leaf(node: Node) -> Node:
    """Return what stands last in a block: comments on lines below it hang on this node."""
    while isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        node = node.value[-1][1] if isinstance(node, MappingNode) else node.value[-1]
    return node


def _move_tail(former: Node, last: Node) -> None:
    """Move the comments on lines below what was the last node of a block to what is the last one now."""
    if former is last or not former.comment or not former.comment[0]:
        return
    on_line, newline, below = former.comment[0].value.partition("\n")
    if not below:
        return
    own = last.comment[0].value.rstrip("\n") if last.comment and last.comment[0] else ""
    former.comment = [_comment(on_line + newline, former), *former.comment[1:]] if on_line else None
    last.comment = [_comment(f"{own}\n{below}", last), *(last.comment or [None, None])[1:]]


def _comment(text: str, node: Node) -> CommentToken:
    column = node.comment[0].start_mark.column if node.comment and node.comment[0] else 0
    return CommentToken(text, CommentMark(column), None)


def _without_marker(text: str) -> str:
    """Return a text without the --- between its first comments and its data: the parser drops what is above it."""
    return re.sub(r"\A((?:[ \t]*(?:#.*)?\n)*#.*\n(?:[ \t]*\n)*)---[ \t]*\n", r"\1\n", text)


def _is_given(node: Node | None) -> bool:
    """Say whether a document has something in it: what follows a last --- may be empty."""
    return node is not None and not (isinstance(node, ScalarNode) and node.tag == _TAG + "null")


def _expanded(node: Node, path: Path, around: tuple[int, ...], seen: set[int]) -> Node:
    """Return a copy in which no part is shared, so that changing one place changes no other."""
    if id(node) in around:
        raise UserError(f"{path}:{node.start_mark.line + 1}: is not YAML: it contains itself")
    around = (*around, id(node))
    result = copy.copy(node)
    result.anchor = None
    if id(node) in seen:
        result.comment = None  # it stands where the anchor is
    seen.add(id(node))
    if isinstance(node, SequenceNode):
        result.value = [_expanded(item, path, around, seen) for item in node.value]
    elif isinstance(node, MappingNode):
        names: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if not isinstance(key, ScalarNode) or name in names:
                what = "stands there twice" if name in names else "is no field's name"
                raise UserError(f"{path}:{key.start_mark.line + 1}: {name[:60]}: {what}")
            names.add(name)
        pairs = [
            (_expanded(key, path, around, seen), _expanded(value, path, around, seen)) for key, value in node.value
        ]
        merged = [pair for key, value in pairs if key.tag == _TAG + "merge" for pair in _merged(value)]
        own = [pair for pair in pairs if pair[0].tag != _TAG + "merge"]
        # what is merged comes first, and what stands there itself wins
        result.value = list({key.value: (key, value) for key, value in (*merged, *own)}.values())
    return result


def _merged(node: Node) -> list[tuple[Node, Node]]:
    """Return the fields that a merge key brings: of several mappings the first one wins."""
    mappings = node.value[::-1] if isinstance(node, SequenceNode) else [node]
    for one in mappings:
        if not isinstance(one, MappingNode):
            raise MarkedYAMLError(
                problem="expected a mapping or list of mappings for merging", problem_mark=node.start_mark
            )
    return [pair for one in mappings for pair in one.value]


def _plain(node: Node) -> yaml.Node:
    """Return a node as PyYAML has it, which makes data of it."""
    marks = (node.start_mark, node.end_mark)
    if isinstance(node, MappingNode):
        return yaml.MappingNode(str(node.tag), [(_plain(key), _plain(value)) for key, value in node.value], *marks)
    if isinstance(node, SequenceNode):
        return yaml.SequenceNode(str(node.tag), [_plain(item) for item in node.value], *marks)
    return yaml.ScalarNode(str(node.tag), node.value, *marks)


def _node(value: Any) -> Node:
    """Return data as a node."""
    return _with_comments(_Dumper(io.StringIO(), default_flow_style=False).represent_data(value))


def _with_comments(node: yaml.Node) -> Node:
    """Return a node of PyYAML as one that can have comments."""
    if isinstance(node, yaml.MappingNode):
        pairs = [(_with_comments(key), _with_comments(value)) for key, value in node.value]
        return MappingNode(node.tag, pairs, flow_style=False)
    if isinstance(node, yaml.SequenceNode):
        return SequenceNode(node.tag, [_with_comments(item) for item in node.value], flow_style=False)
    return ScalarNode(node.tag, node.value)
