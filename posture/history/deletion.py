"""All that is kept about a stream goes, when its operator says so: rows, minutes, pictures, damaged frames."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from posture.errors import FailedError, UserError
from posture.history.questions import History
from posture.pictures.base import PicturesUnavailableError
from posture.pictures.opening import open_pictures
from posture.settings.parsers import PI_ID
from posture.settings.paths import quarantine_of
from posture.settings.table import Analyzer
from posture.system.untrusted import shown


@dataclass(frozen=True)
class Deleted:
    """What went.

    Attributes:
        rows: how many rows, with their minutes.
        files: how many pictures, and damaged frames of those on this machine.
    """

    rows: int
    files: int


def delete_stream(history: History, pi_id: str, options: Analyzer) -> Deleted:
    """Delete a stream's rows, minutes, pictures, and the damaged frames that this machine has of it.

    The files go first: if the database is away then, the rows still say what there was. An analyzer that runs goes
    on with new ones. Files on other nodes stay; without a bucket, pictures are on the node that analysed them.

    Args:
        history: of the database.
        pi_id: the stream.
        options: where its pictures are.

    Raises:
        StoreUnavailableError: the database does not answer now; call again.
        StoreRefusedError: it does not let us.
        UserError: a stream's name that no camera of ours has is no name of a folder; its rows are deleted by SQL.
        FailedError: a picture or file can't be deleted; the rows are still there.
    """
    if not PI_ID.fullmatch(pi_id):
        raise UserError(f"stream {shown(pi_id, 60)}: accepted: a name of a-z, 0-9 and -, up to 32 characters")
    try:
        pictures = open_pictures(options, pi_id).delete_all()
    except PicturesUnavailableError as error:
        raise FailedError(str(error)) from None
    files = pictures + _remove(quarantine_of(options, pi_id))
    return Deleted(history.delete(pi_id), files)


def _remove(folder: Path) -> int:
    """Delete a folder of files; return how many there were."""
    try:
        files = sum(1 for entry in folder.iterdir())
        shutil.rmtree(folder)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise FailedError(f"{folder}: can't be deleted: {error.strerror}") from None
    return files
