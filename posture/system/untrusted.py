"""Text that somebody else has chosen, made fit for a log: one line, no control characters, not too long."""

from __future__ import annotations

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
