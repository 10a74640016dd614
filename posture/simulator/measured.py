"""Classes of boards that were measured: ``classes.yaml``, written by bench/capacity.py and read by simulate.py."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from posture.errors import UserError
from posture.runtime import ROOT
from posture.system import files

FILE = ROOT / "classes.yaml"
"""Beside cluster.yaml; not part of the repository, for it is about somebody's own boards."""
STREAMS_AT_SPEED_1 = 10
"""Of 5 frames a second: each takes 10 points there, the middle of what simulate.py assumes by itself."""
HEADING = "# Classes of boards, measured by bench/capacity.py --write-class; simulate.py takes speeds from here.\n"


@dataclass(frozen=True)
class MeasuredClass:
    """What one board of a class has carried."""

    streams: int
    """Of 5 frames a second at 640x480, with broker, database and cameras on the same board."""
    cores: int
    processor: float
    """Cores that one stream's analyzer takes."""
    rss_mb: float
    """Memory of one stream's analyzer."""
    pss_mb: float
    """The same, with what analyzers on one node share divided among them."""
    measured: str
    """The day."""

    @property
    def speed(self) -> float:
        """The class speed of simulate.py."""
        return self.streams / STREAMS_AT_SPEED_1


_ACCEPTED = {
    "streams": "a whole number above 0",
    "cores": "a whole number above 0",
    "processor": "cores, a number above 0",
    "rss_mb": "MB, a number above 0",
    "pss_mb": "MB, a number above 0",
    "measured": "a day, such as 2026-11-26",
}


def read_classes(path: Path = FILE) -> dict[str, MeasuredClass]:
    """Return name -> what was measured; nothing if there is no such file.

    Raises:
        UserError: the file is not as ``write_class`` writes it: every mistake found, one a line.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UserError(f"{path}: is not accepted; accepted: what bench/capacity.py --write-class writes")
    mistakes = [mistake for name, values in given.items() for mistake in _mistakes(name, values)]
    if mistakes:
        raise UserError("\n".join(f"{path}: {mistake}" for mistake in mistakes))
    return {
        str(name): MeasuredClass(**{key: _plain(key, value) for key, value in values.items()})
        for name, values in given.items()
    }


def write_class(name: str, measured: MeasuredClass, path: Path = FILE) -> None:
    """Add a class to the file, or replace the one of this name; the others stay.

    Raises:
        UserError: the file there can't be read or replaced, or is not as it must be.
    """
    classes = {**read_classes(path), name: measured}
    plain = {one: dataclasses.asdict(values) for one, values in classes.items()}
    try:
        files.replace(path, (HEADING + yaml.safe_dump(plain, sort_keys=False)).encode())
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None


def _mistakes(name: object, values: object) -> list[str]:
    if not isinstance(values, Mapping):
        return [f"{name}: {values!r} is not accepted; accepted: {', '.join(_ACCEPTED)}"]
    found = [f"{name}: {key}: is not known; accepted: {', '.join(_ACCEPTED)}" for key in values.keys() - _ACCEPTED]
    for key, accepted in _ACCEPTED.items():
        try:
            _plain(key, values[key])
        except KeyError:
            found.append(f"{name}: {key}: is missing; accepted: {accepted}")
        except (TypeError, ValueError):
            found.append(f"{name}: {key}: {values[key]!r} is not accepted; accepted: {accepted}")
    return found


def _plain(key: str, value: Any) -> Any:
    if key == "measured":
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError(key)
    if key in ("streams", "cores"):
        if value != int(value):
            raise ValueError(key)
        return int(value)
    return float(value)
