"""deploy/posture-job.yaml, of which the ScaledJob of each stream is made that has no file of its own."""

from __future__ import annotations

import re
from pathlib import Path

from posture.errors import UserError
from posture.runtime import ROOT

NAME = Path("deploy", "posture-job.yaml")
"""Where it is, below the scripts' folder."""
_PLACEHOLDER = re.compile(r"\bSTREAM\b")
_HEAD = re.compile(r"\A(#.*\n)*")
_HEAD_OF_ITS_OWN = """\
# Stream {stream} for KEDA: one Job with one analyzer at a time, and a successor whenever it ends or is moved.
# patch_scaledjob.py makes patched-job-{stream}.yaml of it: node, namespace, image, scaler's address, settings of
# cluster.yaml. What else is to be different from other streams is edited here.
"""


def rendered(stream: str, folder: Path = ROOT) -> str:
    """Return a stream's ScaledJob as the template has it; its lines are those of the template.

    Raises:
        UserError: the template can't be read.
    """
    try:
        text = (folder / NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{folder / NAME}: can't be read, and {stream} has no file of its own: {why}") from None
    return _PLACEHOLDER.sub(stream, text)


def of_its_own(stream: str, folder: Path = ROOT) -> str:
    """Return the same as the beginning of a file of the stream's own.

    Raises:
        UserError: the template can't be read.
    """
    return _HEAD.sub(_HEAD_OF_ITS_OWN.format(stream=stream), rendered(stream, folder), count=1)
