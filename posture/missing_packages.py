"""A Python package that is not installed, or can't be loaded, is one line that says how to get it, not a traceback.

Imported by each script before what needs packages; knows only the standard library.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from types import TracebackType

USER_ERROR = 2
NO_LIBRARY = "cannot open shared object file"
LIBRARIES = "libegl1 libgles2 libgl1 libglib2.0-0"
"""What mediapipe and its cv2 need of the system, by Debian's names."""


def explain(role: str) -> None:
    """From now on, let a package that can't be imported end the script with a line about it and status 2.

    Args:
        role: of ``requirements/<role>.txt``, which lists the script's packages.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        name = (error.name if isinstance(error, ImportError) else None) or ""
        package = name.partition(".")[0]
        if package in ("", "posture"):
            sys.__excepthook__(kind, error, trace)
            return
        known = not isinstance(error, ModuleNotFoundError) or (package != name and find_spec(package) is not None)
        what = f"{package} can't be used as it is: {error}" if known else f"{name} is missing"
        cure = (
            f"python3 -m pip install -r requirements/{role}.txt (in a virtual environment, such as the one that "
            "make run sets up in .venv)"
        )
        if NO_LIBRARY in str(error):
            cure = f"sudo apt-get install {LIBRARIES}"
        print(f"error: the Python package {what}; get it: {cure}", file=sys.stderr, flush=True)
        os._exit(USER_ERROR)

    sys.excepthook = hook
