"""``.env``: names and values that a shell and ``kubectl create secret --from-env-file`` read alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from posture.errors import UserError

OWNER_ONLY = 0o600
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")


class EnvironmentFile:
    """The file as it is; a variable without a value counts as absent.

    Args:
        path: the file, which may be absent.

    Raises:
        UserError: it can't be read, or a line is none. No message repeats what stands there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.text = path.read_text(encoding="utf-8") if path.exists() else ""
            self.others_may_read = path.exists() and bool(path.stat().st_mode & 0o077)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from None
        self.values: dict[str, str] = {}
        for number, line in enumerate(self.text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            match = _LINE.fullmatch(line)
            if match is None:
                raise UserError(f"{path}:{number}: is no variable; accepted: NAME=value, or # and a comment")
            if value := _unquoted(match[2].strip()):
                self.values[match[1]] = value

    def with_values(self, values: Mapping[str, str]) -> str:
        """Return the file's text with these values; everything else stays as it is written."""
        new = {name: value for name, value in values.items() if self.values.get(name) != value}
        lines = []
        for line in self.text.splitlines():
            match = _LINE.fullmatch(line)
            lines.append(f"{match[1]}={new.pop(match[1])}" if match and match[1] in new else line)
        return "".join(f"{line}\n" for line in [*lines, *(f"{name}={value}" for name, value in new.items())])


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text
