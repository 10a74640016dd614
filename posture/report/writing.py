"""Files of a report: which ones, and each written as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from posture.errors import UserError
from posture.system.files import replace_all

SUFFIXES = (".html", ".png")


@dataclass(frozen=True)
class Output:
    """Where a report goes.

    Attributes:
        html: the page; None makes none.
        png: the picture; None makes none.
        csv: rows; None writes none.
    """

    html: Path | None
    png: Path | None
    csv: Path | None


def output_of(given: Path, *, with_csv: bool) -> Output:
    """Return the files that ``--output`` means: one by its suffix, otherwise HTML and PNG of that name.

    Raises:
        UserError: files can't be made there.
    """
    base = given.with_suffix("") if given.suffix in SUFFIXES else given
    if not given.name or given.is_dir():
        raise UserError(f"--output {given}: is a folder; accepted: a file's name, with .html or .png or neither")
    folder = given.parent
    if not folder.is_dir():
        raise UserError(
            f"--output {given}: there is no folder {folder}; accepted: a file in a folder that is there"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--output {given}: {folder} can't be written; accepted: a folder that we may write")
    html, png, csv = (base.with_name(base.name + suffix) for suffix in (".html", ".png", ".csv"))
    files = Output(
        html if given.suffix != ".png" else None,
        png if given.suffix != ".html" else None,
        csv if with_csv else None,
    )
    for path in (files.html, files.png, files.csv):
        if path is not None and path.is_dir():
            raise UserError(f"--output {given}: {path} is a folder; accepted: a file's name")
    return files


def write_files(files: dict[Path, bytes]) -> None:
    """Write the files, each as a whole.

    Raises:
        UserError: one can't be written; those that were there before are as they were.
    """
    try:
        replace_all(files, mode=0o640)
    except OSError as error:
        names = ", ".join(str(path) for path in files)
        raise UserError(f"--output {names}: {error.strerror}; accepted: files that we may write") from None


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file line by line, under another name until it is complete.

    Raises:
        UserError: it can't be written; what was there before is as it was.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o640)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UserError(f"--output {path}: {error.strerror}; accepted: a file that we may write") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
