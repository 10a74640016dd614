"""The files of one more camera: its ScaledJob and its script, made from those of a stream that is there."""

from __future__ import annotations

import re
from pathlib import Path

from posture.errors import UserError
from posture.settings.parsers import PI_ID


def files_for(pi_id: str, model: str, source: Path, target: Path) -> dict[Path, str]:
    """Return the two new files and what they are to contain.

    Args:
        pi_id: the new stream.
        model: the stream whose files are taken as a model.
        source: where these are.
        target: where the new ones go.

    Raises:
        UserError: the name is not accepted, a new file is there already, or a model is missing.
    """
    if not PI_ID.fullmatch(pi_id) or not re.fullmatch(r"pi[a-z0-9-]+", pi_id):
        raise UserError(f"--new-stream {pi_id!r} is not accepted; accepted: pi and then a-z, 0-9 and -, up to 32")
    files: dict[Path, str] = {}
    for name in (f"posture-job-{model}.yaml", f"Images_From_{model.capitalize()}.py"):
        path = target / _renamed(name, model, pi_id)
        if path.exists():
            raise UserError(f"{path}: is there already, and is not overwritten")
        try:
            files[path] = _renamed((source / name).read_text(encoding="utf-8"), model, pi_id)
        except OSError as error:
            raise UserError(f"{source / name}: can't be read, and is the model of it: {error.strerror}") from None
    for path, text in files.items():
        for number, line in enumerate(text.splitlines(), 1):
            if model in line.replace(pi_id, ""):
                raise UserError(f"{path}:{number}: would still speak of {model}: {line.strip()}; write it by hand")
    return files


def _renamed(text: str, model: str, pi_id: str) -> str:
    """Replace one stream's name by another's, wherever it stands by itself."""
    for old, new in ((model, pi_id), (model.capitalize(), pi_id.capitalize())):
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(old)}(?![A-Za-z0-9-])", new, text)
    return text
