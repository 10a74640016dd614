"""A Python package that is not installed is one line that says how to get it, not a traceback.

Imported by each script before what needs packages; knows only the standard library.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from types import TracebackType

USER_ERROR = 2


def explain(role: str) -> None:
    """From now on, let a package that can't be imported end the script with a line about it and status 2.

    Args:
        role: of ``requirements/<role>.txt``, which lists the script's packages.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        name = (error.name if isinstance(error, ModuleNotFoundError) else None) or ""
        package = name.partition(".")[0]
        if package in ("", "posture"):
            sys.__excepthook__(kind, error, trace)
            return
        known = package != name and importlib.util.find_spec(package) is not None
        what = f"{package} is of another version: it has no {name}" if known else f"{name} is missing"
        print(
            f"error: the Python package {what}; get it: python3 -m pip install -r "
            f"requirements/{role}.txt (in a virtual environment, such as the one that make run sets up in .venv)",
            file=sys.stderr,
            flush=True,
        )
        os._exit(USER_ERROR)

    sys.excepthook = hook
