"""What others have written: a log's line, printable and bounded; JSON: an object of bounded size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture.system.untrusted import LONGEST, json_object, shown


@given(st.text(max_size=3 * LONGEST))
def test_it_is_one_printable_line_of_bounded_length(text: str) -> None:
    line = shown(text)
    assert line.isprintable()
    assert len(line) <= LONGEST


def test_what_is_fit_for_a_log_stays_as_it_is() -> None:
    assert shown("Not authorized: für pi1") == "Not authorized: für pi1"
    assert shown("\x1b[31mred\x1b[0m\r\nERROR forged") == "[31mred [0m ERROR forged"
    assert shown("x" * 10**6) == "x" * (LONGEST - 3) + "..."


def test_a_json_object_is_read_and_anything_else_refused_with_what_is_accepted() -> None:
    assert json_object(b'{"a": 1}', 8) == {"a": 1}
    for payload in (b"", b"[1]", b"\xff", b"[" * 1000, b"7"):
        with pytest.raises(ValueError, match="no JSON object; accepted: a JSON object of at most 1000 bytes"):
            json_object(payload, 1000)
    with pytest.raises(ValueError, match="9 bytes; accepted: a JSON object of at most 8 bytes"):
        json_object(b'{"a": 10}', 8)
