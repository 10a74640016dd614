"""The commands of a page as somebody types them, so that what is tested can't drift from what is documented."""

from __future__ import annotations

import re
from pathlib import Path


def blocks_of(page: Path, heading: str) -> list[str]:
    """Return the code blocks below a heading of a page, up to the next one of that level or higher."""
    text = page.read_text()
    level = heading.split(" ", maxsplit=1)[0]
    (start,) = [found.end() for found in re.finditer(f"^{re.escape(heading)}$", text, re.M)]
    parts = re.split(r"^(```\w*)\n", text[start:], flags=re.M)
    blocks: list[str] = []
    for number, part in enumerate(parts):
        if number % 2:
            continue
        inside = number % 4 == 2
        if inside:
            blocks.append(part)
        elif re.search(rf"^#{{1,{len(level)}}} ", part, re.M):
            break
    return blocks


def with_changes(commands: str, changes: dict[str, str]) -> str:
    """Return commands for another machine: address, port, source. What is to be changed has to be there."""
    for old, new in changes.items():
        assert old in commands, f"{old} is not in:\n{commands}"
        commands = commands.replace(old, new)
    return commands
