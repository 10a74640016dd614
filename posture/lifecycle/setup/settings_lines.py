"""Lines of cluster.yaml that setup_farm.py writes, each with a mark, and takes away again. All else stays as it is.

A line that a person has changed since is theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from posture.errors import UserError

MARK = "  # by setup_farm.py"
GPU_QUERIES = "GPU_QUERIES"
_HEADING = re.compile(r"\w+:")
_QUERY = re.compile(r"(\S+): \{instance: .*, signal: .*\}")


def added(text: str, queries: Mapping[str, str], settings: Mapping[str, str], path: Path) -> str:
    """Return the file with more lines.

    Args:
        text: what is in the file.
        queries: node -> its entry of GPU_QUERIES, as YAML.
        settings: section and name -> value, as YAML.
        path: the file, for messages.

    Raises:
        UserError: it is written in a way to which no line can be added.
    """
    before = _data(text, path)
    for section, name, value in _parts(queries, settings):
        text = _add(text, section, name, value, path)
    wanted = {section: dict(values) if isinstance(values, dict) else values for section, values in before.items()}
    for section, name, value in _parts(queries, settings):
        wanted[section] = {**(wanted.get(section) or {}), name: yaml.safe_load(value)}
    if _data(text, path) != wanted:
        lines = "; ".join(f"{section}: {name}: {value}" for section, name, value in _parts(queries, settings))
        raise UserError(f"{path}: no line can be added to it as it is written; add by hand: {lines}")
    return text


def removed(text: str, queries: Mapping[str, str], settings: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the file without the lines that were added, and those marked lines that somebody has changed since.

    Args:
        text: what is in the file.
        queries: node -> its entry, as it would be added now; a node that has gone is not there.
        settings: section and name -> value, likewise.
    """
    ours = {f"{name}: {value}" for _, name, value in _parts(queries, settings)}
    kept, theirs = [], []
    for line in text.splitlines(keepends=True):
        content = line.rstrip("\n")
        if not content.endswith(MARK):
            kept.append(line)
            continue
        said = content.removesuffix(MARK).strip()
        if _HEADING.fullmatch(said):
            kept.append(line)
            continue
        node = _QUERY.fullmatch(said)
        if said not in ours and (node is None or node[1] in queries):
            kept.append(line)
            theirs.append(said)
    # the heading of a section goes if nothing is left in it
    following = [*kept[1:], ""]
    left = [
        line
        for line, after in zip(kept, following, strict=True)
        if after.startswith(" ") or not line.rstrip("\n").endswith(f":{MARK}")
    ]
    return "".join(left), theirs


def _parts(queries: Mapping[str, str], settings: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for node, entry in queries.items():
        yield GPU_QUERIES, node, entry
    for setting, value in settings.items():
        section, _, name = setting.partition(".")
        yield section, name, value


def _data(text: str, path: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(text) or {})
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None


def _add(text: str, section: str, name: str, value: str, path: Path) -> str:
    """Add one line: behind the last of its section, or where the section shows its default as a comment."""
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    found = next(((key, node) for key, node in pairs if key.value == section), None)
    if found is None:
        return "\n".join([*lines, f"{section}:{MARK}", f"  {name}: {value}{MARK}", ""])
    key, node = found
    if isinstance(node, yaml.MappingNode) and node.flow_style and node.value:
        line = key.start_mark.line + 1
        raise UserError(f"{path}:{line}: {section} stands in braces; accepted: a line of its own for each entry")
    first = key.start_mark.line
    if not (isinstance(node, yaml.MappingNode) and node.value):
        # {} or null: what is added takes its place
        lines[first] = re.sub(r":\s*(\{\s*\}|null|~)", ":", lines[first], count=1)
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    column = entries[0][0].start_mark.column if entries else 2
    later = (one.start_mark.line for one, _ in pairs if one.start_mark.line > first)
    end = min(later, default=len(lines))
    shown = re.compile(rf"\s*#\s*{re.escape(name)}:")
    default = next((number for number in range(first, end) if shown.match(lines[number])), None)
    place = default if default is not None else _last_line(entries[-1][1]) if entries else first
    lines.insert(place + 1, f"{' ' * column}{name}: {value}{MARK}")
    return "\n".join([*lines, ""])


def _last_line(node: yaml.Node) -> int:
    """Return the line on which a value ends: a block's own end is behind the comments below it."""
    while isinstance(node, yaml.MappingNode | yaml.SequenceNode) and not node.flow_style and node.value:
        node = node.value[-1][1] if isinstance(node, yaml.MappingNode) else node.value[-1]
    line = int(node.end_mark.line)
    return line - 1 if isinstance(node, yaml.ScalarNode) and node.style in {"|", ">"} else line
