"""What somebody else has written: text made fit for a log, and JSON of which no byte is trusted."""

from __future__ import annotations

import json
from typing import Any

LONGEST = 200


def shown(text: object, longest: int = LONGEST) -> str:
    """Return a text of somebody else's on one line, without what a terminal would obey.

    Args:
        text: anything; its ``str`` is shown.
        longest: characters; what is longer is cut.
    """
    whole = str(text)
    line = "".join(char if char.isprintable() else " " for char in whole[: 4 * longest])
    line = " ".join(line.split())
    return line if len(line) <= longest and len(whole) <= 4 * longest else f"{line[: longest - 3]}..."


def json_object(payload: bytes, most_bytes: int) -> dict[str, Any]:
    """Return the JSON object of a payload.

    Args:
        payload: from anybody.
        most_bytes: more are not read.

    Raises:
        ValueError: it is none; the text says why, and what is accepted.
    """
    accepted = f"accepted: a JSON object of at most {most_bytes} bytes"
    if len(payload) > most_bytes:
        raise ValueError(f"{len(payload)} bytes; {accepted}")
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise ValueError(f"no JSON object; {accepted}")
    return said
