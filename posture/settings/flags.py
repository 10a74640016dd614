"""Command-line flags that override a setting."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from posture.settings.parsers import NotAcceptedError
from posture.settings.table import all_settings


def flag_type(section: str, name: str) -> Callable[[str], Any]:
    """Return argparse's ``type`` of a flag that overrides a setting: it is parsed as the setting is."""
    (entry,) = (entry for part, known, entry in all_settings() if (part, known) == (section, name))

    def parse(text: str) -> Any:
        try:
            return entry.metadata["parse"](text)
        except NotAcceptedError:
            accepted = entry.metadata["accepted"]
            raise argparse.ArgumentTypeError(f"{text!r} is not accepted; accepted: {accepted}") from None

    return parse
