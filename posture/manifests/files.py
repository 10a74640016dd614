"""The ScaledJobs of streams, from their own files or from the template: all read or none, all written or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from posture.errors import UserError
from posture.kube import labels
from posture.manifests import template
from posture.manifests.scaled_job import Manifest
from posture.runtime import ROOT
from posture.settings.streams import own_manifest
from posture.system.files import replace_all


def load(paths: Iterable[Path]) -> list[Manifest]:
    """Read ScaledJobs.

    Returns:
        One for each path, in that order; streams and names are unique.

    Raises:
        UserError: all mistakes in all of the files.
    """
    return _all_of(partial(_read, path) for path in paths)


def of_streams(streams: Iterable[str], folder: Path = ROOT) -> list[Manifest]:
    """Read the ScaledJobs of streams: each one's own file, or else the template.

    Args:
        streams: their names.
        folder: where the files are.

    Returns:
        One for each stream, in that order; their names are unique.

    Raises:
        UserError: all mistakes in all of the files.
    """
    owns = ((stream, own_manifest(stream, folder)) for stream in streams)
    return _all_of(partial(_read, own) if own else partial(_render, stream, folder) for stream, own in owns)


def _read(path: Path) -> Manifest:
    try:
        return Manifest(path, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not YAML: {error}") from None


def _render(stream: str, folder: Path) -> Manifest:
    one = Manifest(folder / template.NAME, template.rendered(stream, folder))
    if one.stream != stream:
        at = f"{one.path}:{one.line('metadata', 'labels', labels.STREAM)}: metadata.labels.{labels.STREAM}"
        raise UserError(f"{at}: {one.stream!r} is not accepted; accepted: STREAM, for the name of any stream")
    return one


def _all_of(readers: Iterable[Callable[[], Manifest]]) -> list[Manifest]:
    found: list[Manifest] = []
    mistakes: list[str] = []
    for read in readers:
        try:
            found.append(read())
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
        # of the template, once and not for each stream
        raise UserError("\n".join(dict.fromkeys(mistakes)))
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
