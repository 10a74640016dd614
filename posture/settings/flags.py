"""Command-line flags: those that override a setting, and the numbers that other flags take.

A flag that overrides a setting is not parsed by argparse. Its text goes to :func:`posture.settings.loading.load`,
where the setting's own parser judges it, so that a setting has one grammar wherever it is given, and all mistakes
of file, environment and flags are reported together.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posture.runtime import ROOT
from posture.settings import loading, parsers
from posture.settings.edited import Edited
from posture.settings.edited_queries import EditedQueries
from posture.settings.loading import Override
from posture.settings.table import Settings, all_settings


def add_config_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``, the file of settings that :func:`settings_with_flags` reads."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (default: cluster.yaml here)")


def config_arguments(config: Path | None) -> list[str]:
    """Return what passes ``--config`` on to another program, which may run in another folder."""
    return [] if config is None else ["--config", str(config.resolve())]


def add_setting_flag(
    parser: argparse.ArgumentParser,
    flag: str,
    setting: str,
    about: str,
    *,
    metavar: str | None = None,
    default: str = "settings",
    complete: Callable[[str], str] = str,
) -> None:
    """Add a flag that overrides a setting. A setting that is true or false is set to true, without a value.

    Args:
        parser: gets the flag.
        flag: such as ``--listen``.
        setting: section and name, such as ``scaler.listen``.
        about: the help text, without the default.
        metavar: stands for the value in the help.
        default: what the help says is used without the flag.
        complete: makes a text that the setting accepts from a shorter one that the flag takes as well.

    Raises:
        KeyError: there is no such setting.
    """
    known = {f"{section}.{name}": entry for section, name, entry in all_settings()}
    text = f"{about} (default: {default})"
    if known[setting].metadata["parse"] is parsers.boolean:
        parser.add_argument(flag, dest=setting, action="store_const", const=Override(flag, "true"), help=text)
    else:
        metavar = metavar or flag.lstrip("-").replace("-", "_").upper()
        kind = _override_by(flag, complete)
        parser.add_argument(flag, dest=setting, type=kind, metavar=metavar, help=text)


def _override_by(flag: str, complete: Callable[[str], str]) -> Callable[[str], Override]:
    return lambda text: Override(flag, complete(text))


def settings_with_flags(flags: argparse.Namespace) -> Settings:
    """Return the settings of file and environment, overridden by the flags.

    Args:
        flags: parsed by a parser with :func:`add_config_flag`, and :func:`add_setting_flag` for each setting.

    Raises:
        UserError: every mistake found in file, environment and flags, one a line.
    """
    given = {name: value for name, value in vars(flags).items() if isinstance(value, Override)}
    return loading.load(flags.config, os.environ, given)


def edited_queries(flags: argparse.Namespace, settings: Settings) -> EditedQueries:
    """Return what reads GPU_QUERIES anew when the settings' file has changed.

    Args:
        flags: as in :func:`settings_with_flags`.
        settings: what that returned at the program's start.
    """
    path = flags.config or ROOT / "cluster.yaml"
    return EditedQueries(path, lambda: settings_with_flags(flags).gpu_queries, settings.gpu_queries)


def edited_streams(flags: argparse.Namespace, settings: Settings) -> Edited[frozenset[str]]:
    """Return what reads the list of streams anew when the settings' file has changed.

    Args:
        flags: as in :func:`settings_with_flags`.
        settings: what that returned at the program's start.
    """
    path = flags.config or ROOT / "cluster.yaml"
    return Edited(
        "streams", path, lambda: frozenset(settings_with_flags(flags).streams), frozenset(settings.streams)
    )


def text_given(flags: argparse.Namespace, setting: str) -> str:
    """Return the text that a flag gives to a setting; empty if the flag is not given."""
    value: Any = getattr(flags, setting)
    return value.text if isinstance(value, Override) else ""


def positive(text: str) -> float:
    """Parse a number above 0: argparse's ``type`` of a flag.

    Raises:
        ArgumentTypeError: it is none.
    """
    number = _number(text, "a number above 0")
    if not number > 0:
        raise _refusal(text, "a number above 0")
    return number


def at_least_0(text: str) -> float:
    """Parse a number that is not below 0: argparse's ``type`` of a flag.

    Raises:
        ArgumentTypeError: it is none.
    """
    return _number(text, "a number of at least 0")


def whole(text: str) -> int:
    """Parse a whole number above 0: argparse's ``type`` of a flag.

    Raises:
        ArgumentTypeError: it is none.
    """
    number = _number(text, "a whole number above 0")
    if number < 1 or not number.is_integer():
        raise _refusal(text, "a whole number above 0")
    return int(number)


def degrees(text: str) -> float:
    """Parse an angle: argparse's ``type`` of a flag.

    Raises:
        ArgumentTypeError: it is none.
    """
    return _number(text, "-180 to 180 degrees", -180, 180)


def _number(text: str, accepted: str, low: float = 0, high: float = math.inf) -> float:
    try:
        return float(parsers.number(low, high)(text))
    except parsers.NotAcceptedError:
        raise _refusal(text, accepted) from None


def _refusal(text: str, accepted: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text!r} is not accepted; accepted: {accepted}")
