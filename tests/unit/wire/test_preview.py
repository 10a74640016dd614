"""A small picture says of which row it is, and stays a JPEG for whoever only shows it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from posture.wire.preview import Preview

SAID = Preview("boot1-17", "2026-03-02T09:15:31+00:00", "Bad", "neck", 41.3, None, "upright")


def jpeg() -> bytes:
    return cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()


def test_a_small_picture_says_of_which_row_it_is_and_can_be_shown_as_it_is() -> None:
    picture = SAID.into(jpeg())
    assert Preview.of(picture) == SAID
    shown = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (48, 64, 3)


def broken(said: bytes) -> bytes:
    return b"\xff\xd8\xff\xfe" + (len(said) + 2).to_bytes(2, "big") + said + b"\xff\xd9"


@pytest.mark.parametrize(
    "picture",
    [b"", jpeg(), SAID.into(jpeg())[:20], broken(b"{}"), broken(b"[]"), broken(b"no"), broken(b"[" * 60_000),
     broken(b'{"id":"a","at":"b","status":"Bad","reason":"","neck":"1","body":null,"rule_set":""}'),
     SAID.into(jpeg()) + bytes(1_000_000)],
    ids=["empty", "another's", "cut off", "nothing", "a list", "no JSON", "nested", "a text for an angle", "huge"],
)  # fmt: skip
def test_what_an_analyzer_would_not_send_is_refused(picture: bytes) -> None:
    with pytest.raises(ValueError, match="no JPEG"):
        Preview.of(picture)
