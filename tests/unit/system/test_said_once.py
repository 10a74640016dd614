"""Each kind of warning once, and no more kinds than there is room for."""

from __future__ import annotations

import logging

import pytest

from posture.system.said_once import MOST, SaidOnce


def test_a_warning_is_logged_once_by_its_line_or_its_kind(caplog: pytest.LogCaptureFixture) -> None:
    said = SaidOnce(logging.getLogger("test"))
    for _ in range(3):
        said.warning("the same")
        said.warning("one of a kind", "kind")
        said.warning("another of the kind", "kind")
    assert caplog.messages == ["the same", "one of a kind"]
    said.forget()
    said.warning("the same")
    assert caplog.messages[2:] == ["the same"]


def test_strangers_can_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    said = SaidOnce(logging.getLogger("test"))
    for number in range(10 * MOST):
        said.warning(f"line {number}")
    assert len(caplog.messages) == MOST
