"""The thread that reads the usage again and again."""

from __future__ import annotations

import threading

import pytest
from scaler_process import ANSWER_S

from posture.scaler.refresher import Refresher


def test_a_refresher_that_ends_by_a_bug_does_not_end_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    ended = threading.Event()
    refresher = Refresher(lambda: {}["a bug"], 1.0, lambda _: None, ended.set)
    refresher.start()
    refresher.join(ANSWER_S)
    assert ended.is_set()
    assert told[0].exc_type is KeyError
