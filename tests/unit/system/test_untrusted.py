"""Text of others in a log: one line, printable, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from posture.system.untrusted import LONGEST, shown


@given(st.text(max_size=3 * LONGEST))
def test_it_is_one_printable_line_of_bounded_length(text: str) -> None:
    line = shown(text)
    assert line.isprintable()
    assert len(line) <= LONGEST


def test_what_is_fit_for_a_log_stays_as_it_is() -> None:
    assert shown("Not authorized: für pi1") == "Not authorized: für pi1"
    assert shown("\x1b[31mred\x1b[0m\r\nERROR forged") == "[31mred [0m ERROR forged"
    assert shown("x" * 10**6) == "x" * (LONGEST - 3) + "..."
