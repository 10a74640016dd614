"""Which streams a farm has, and which files are one stream's own: everything that goes by streams asks here.

``streams`` of cluster.yaml is the list. Where it is empty, each ``posture-job-<name>.yaml`` stands for a stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from posture.errors import UserError
from posture.natural_order import natural, some_of
from posture.runtime import ROOT
from posture.settings.parsers import NotAcceptedError, stream_name
from posture.settings.table import Settings

VARIABLE = "POSTURE_STREAM"
"""Names the stream to the common script, which belongs to none."""
COMMON_SCRIPT = "Images_From_Pi.py"
"""The analyzer of each stream that has no script of its own."""

_MANIFEST = re.compile(r"posture-job-(.+)\.yaml")
_SCRIPT = re.compile(r"Images_From_(.+)\.py")


def names(settings: Settings, folder: Path = ROOT) -> list[str]:
    """Return the streams of the farm, in natural order.

    Args:
        settings: whose ``streams`` is the list; empty: the files say.
        folder: where the files are.
    """
    return sorted(settings.streams or _of_files(_MANIFEST, folder), key=natural)


def checked(name: str, where: str = "") -> str:
    """Return a stream's name.

    Args:
        name: the name.
        where: where it stands, for the message.

    Raises:
        UserError: no stream can have it.
    """
    try:
        return stream_name(name)
    except NotAcceptedError as refusal:
        raise UserError(f"{where}{name!r} is no stream's name; {refusal}") from None


def own_manifest(stream: str, folder: Path = ROOT) -> Path | None:
    """Return the file of a stream's own ScaledJob; None if it has none."""
    return _of_files(_MANIFEST, folder).get(stream)


def own_script(stream: str, folder: Path = ROOT) -> Path | None:
    """Return the file of a stream's own analyzer; None if it runs the common one."""
    return {name.lower(): path for name, path in _of_files(_SCRIPT, folder).items()}.get(stream)


def left_out(settings: Settings, folder: Path = ROOT) -> dict[str, list[Path]]:
    """Return the files here that are of no stream of the farm, by the stream that they would be of."""
    known = names(settings, folder)
    found: dict[str, list[Path]] = {}
    for pattern in (_MANIFEST, _SCRIPT):
        for name, path in sorted(_of_files(pattern, folder).items(), key=lambda item: natural(item[0])):
            if name.lower() not in known:
                found.setdefault(name.lower(), []).append(path)
    return found


def from_environment(environ: Mapping[str, str], settings: Settings, *, gone: bool = False) -> str:
    """Return the stream that the environment names.

    Args:
        environ: with ``POSTURE_STREAM``.
        settings: whose streams are known; where none is (in a pod), any name is accepted.
        gone: it may also be one that the farm no longer has.

    Raises:
        UserError: the variable is missing, or what it names is no stream of the farm.
    """
    known = names(settings)
    accepted = f"the name of a stream, such as {some_of(known or ['pi1'])}"
    given = environ.get(VARIABLE, "")
    if not given:
        raise UserError(f"environment: {VARIABLE}: must be given: which camera's pictures? accepted: {accepted}")
    stream = checked(given, f"environment: {VARIABLE}: ")
    if known and stream not in known and not gone:
        raise UserError(
            f"environment: {VARIABLE}: {stream!r} is no stream of this farm, which has them under streams in "
            f"cluster.yaml; accepted: {accepted}"
        )
    return stream


def _of_files(pattern: re.Pattern[str], folder: Path) -> dict[str, Path]:
    """Return what stands in the place of the name -> file; the common script is nobody's."""
    matches = ((pattern.fullmatch(path.name), path) for path in folder.iterdir() if path.name != COMMON_SCRIPT)
    return {match[1]: path for match, path in matches if match}
