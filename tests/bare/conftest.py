"""A bare Debian: `make bare`. A plain run of the tests leaves it out: it needs root, and package indexes."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("BARE") else ["test_*.py"]
