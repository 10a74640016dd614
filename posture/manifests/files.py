"""The files of ScaledJobs: all read or none, all written or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from posture.errors import UserError
from posture.manifests.scaled_job import Manifest
from posture.system.files import replace_all


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
