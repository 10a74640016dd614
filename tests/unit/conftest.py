"""Fixtures: a broker that may take its time."""

from __future__ import annotations

import pytest

from posture.wire import mqtt, retained, statuses


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the broker for as long as it takes: on a busy machine it, or we, may stand still for seconds."""
    for module, name in ((mqtt, "ANSWER_S"), (retained, "ANSWER_S"), (retained, "READ_S"), (statuses, "MOST_S")):
        monkeypatch.setattr(module, name, 60.0)
    for module in (retained, statuses):
        monkeypatch.setattr(module, "QUIET_S", 3.0)
