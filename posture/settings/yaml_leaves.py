"""YAML as a flat list of key paths and values, each with its line, for error messages."""

from __future__ import annotations

from typing import Any

import yaml

Leaf = tuple[str, tuple[str, ...], Any]
"""Position (``file:line``), path of keys, value."""

LISTS_OF_NAMES = frozenset({("streams",)})
"""Where a list may stand for a map: its items are names, each alone or with keys of its own below it."""


def read_yaml(text: str, source: str, key: tuple[str, ...], mistakes: list[str]) -> list[Leaf]:
    """Parse YAML into leaves.

    Args:
        text: the YAML.
        source: what messages call it: a file or an environment variable.
        key: path of keys put before each leaf's own.
        mistakes: what is wrong is appended: syntax errors, duplicate keys, values that YAML cannot construct.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mistakes.append(f"{source}: is not YAML: {' '.join(str(error).split())}")
        return []
    if root is None or not (key or root.value):
        return []
    if not key and not isinstance(root, yaml.MappingNode):
        what = "a list" if isinstance(root, yaml.SequenceNode) else "a text or number"
        mistakes.append(f"{source}:{root.start_mark.line + 1}: the file is {what}; accepted: keys with values")
        return []
    leaves: list[Leaf] = []
    _collect(root, key, source, leaves, mistakes, frozenset())
    return leaves


def _collect(
    node: yaml.Node,
    key: tuple[str, ...],
    source: str,
    leaves: list[Leaf],
    mistakes: list[str],
    around: frozenset[int],
) -> None:
    where = f"{source}:{node.start_mark.line + 1}"
    if id(node) in around:
        mistakes.append(f"{where}: {'.'.join(key)}: is an alias of what it stands in; accepted: values that end")
        return
    around |= {id(node)}
    if key in LISTS_OF_NAMES and isinstance(node, yaml.SequenceNode):
        node = _as_map(node, key, source, mistakes)
    if not isinstance(node, yaml.MappingNode) or not node.value:
        try:
            leaves.append((where, key, yaml.SafeLoader("").construct_object(node, deep=True)))
        except (yaml.YAMLError, ValueError) as error:  # an unknown tag; a day that no month has
            mistakes.append(f"{where}: {'.'.join(key)}: is no value: {' '.join(str(error).split())}")
        return
    seen: set[str] = set()
    for name_node, value_node in node.value:
        line = name_node.start_mark.line + 1
        if not isinstance(name_node, yaml.ScalarNode):
            around_it = ".".join(key) or "the file"
            mistakes.append(
                f"{source}:{line}: {around_it}: a list or map stands where a key must; accepted: a name"
            )
            continue
        name = str(name_node.value)
        if name in seen:
            mistakes.append(f"{source}:{line}: {'.'.join((*key, name))} stands there twice")
        seen.add(name)
        _collect(value_node, (*key, name), source, leaves, mistakes, around)


def _as_map(items: yaml.SequenceNode, key: tuple[str, ...], source: str, mistakes: list[str]) -> yaml.MappingNode:
    """Return the map that a list of names stands for: name -> what the list has below it."""
    pairs: list[tuple[yaml.Node, yaml.Node]] = []
    for item in items.value:
        if isinstance(item, yaml.ScalarNode):
            nothing = yaml.ScalarNode("tag:yaml.org,2002:null", "", item.start_mark, item.end_mark)
            pairs.append((item, nothing))
        elif isinstance(item, yaml.MappingNode) and len(item.value) == 1:
            pairs += item.value
        else:
            mistakes.append(
                f"{source}:{item.start_mark.line + 1}: {'.'.join(key)}: this item is no name; accepted: - NAME, "
                "or - NAME: {KEY: VALUE, ...}, each name in an item of its own"
            )
    return yaml.MappingNode("tag:yaml.org,2002:map", pairs, items.start_mark, items.end_mark)
