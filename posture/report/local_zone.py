"""The time zone of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from posture.errors import UserError
from posture.history.days import zone_of

LOCAL = Path("/etc/localtime")


def local_zone() -> str:
    """Return the IANA name of this machine's time zone, by ``TZ`` or /etc/localtime; UTC where neither says one."""
    for name in (os.environ.get("TZ", "").lstrip(":"), str(LOCAL.resolve()).partition("zoneinfo/")[2]):
        try:
            return zone_of(name).key
        except UserError:
            continue
    return "UTC"
