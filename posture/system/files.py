"""Files that are replaced as a whole: written beside, synced, renamed. A reader sees the old content or the new."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from posture.errors import UserError

ANYBODY = 0o666
"""Permissions as Python gives them; the umask takes some of them away."""


def replace(
    path: Path, data: bytes, *, temporary: Path | None = None, sync: bool = True, mode: int = ANYBODY
) -> None:
    """Replace a file as a whole, or create it.

    Args:
        path: the file.
        data: its new content.
        temporary: written first and then renamed, in the same folder; None: a hidden name with our process id.
        sync: return only when the disk has content and name, so that a power cut does not take them back.
        mode: permissions of the file, less the umask.

    Raises:
        OSError: the file can't be written; it is as it was.
    """
    _replace_all({path: (temporary or _temporary_for(path), data)}, sync=sync, mode=mode)


def replace_all(files: Mapping[Path, bytes], *, mode: int = ANYBODY) -> None:
    """Replace files, each as a whole: all are written beside before the first is renamed.

    Args:
        files: path -> new content.
        mode: permissions of the files, less the umask.

    Raises:
        OSError: one can't be written; if it is for lack of space or permission, all are as they were.
    """
    _replace_all({path: (_temporary_for(path), data) for path, data in files.items()}, sync=True, mode=mode)


def _temporary_for(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


def _replace_all(files: Mapping[Path, tuple[Path, bytes]], *, sync: bool, mode: int = ANYBODY) -> None:
    try:
        for temporary, data in files.values():
            with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                write(file, data, sync=sync)
        for path, (temporary, _) in files.items():
            os.replace(temporary, path)
    except OSError:
        for temporary, _ in files.values():
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise
    if sync:
        for folder in {path.parent for path in files}:
            sync_folder(folder)


def check_writable(folder: Path, setting: str) -> None:
    """Refuse a folder in which no file can be made; one that is full may have room again later.

    Args:
        folder: made if it is not there.
        setting: what names it, for the message.

    Raises:
        UserError: it can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise UserError(
                f"{setting}: {folder} can't be written: {error.strerror}; accepted: a folder that can be written"
            ) from None


def write(file: BinaryIO, data: bytes, *, sync: bool = True) -> None:
    """Write all data to an open file.

    Args:
        file: open for writing.
        data: what to write.
        sync: return only when the disk has it.

    Raises:
        OSError: it can't be written.
    """
    file.write(data)
    file.flush()
    if sync:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the disk has the names in a folder, such as that of a file just renamed.

    Raises:
        OSError: they can't be written.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync names by themselves
            raise
    finally:
        os.close(descriptor)
