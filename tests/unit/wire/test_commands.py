"""Commands come from anybody who may publish them: what is none is refused with what would be accepted."""

from __future__ import annotations

import json

import pytest

from posture.wire.commands import DONE, MOST_BYTES, REFUSED, Answer, Command, RefusedCommandError

ACCEPTED = {
    '{"calibrate": 6}': Command("calibrate", 6.0),
    '{"id": "a-1", "snooze_s": 1800}': Command("snooze_s", 1800.0, "a-1"),
    '{"snooze_s": 0, "id": "b"}': Command("snooze_s", 0.0, "b"),
    '{"forget_calibration": true, "id": "c:1"}': Command("forget_calibration", 0.0, "c:1"),
}


@pytest.mark.parametrize("payload", ACCEPTED)
def test_a_command_is_read_as_it_is_written(payload: str) -> None:
    command = Command.parse(payload.encode())
    assert command == ACCEPTED[payload]
    assert Command.parse(command.to_json()) == command


REFUSALS = {
    "empty": (b"", "no JSON object"),
    "no JSON": (b"\xff\xd8\xff", "no JSON object"),
    "nested": (b"[" * 1000, "no JSON object"),
    "a list": (b"[1]", "no JSON object"),
    "nothing": (b"{}", "nothing: accepted is one of calibrate, snooze_s, forget_calibration"),
    "id alone": (b'{"id": "a"}', "nothing: accepted"),
    "unknown": (b'{"reboot": 1}', "reboot: accepted is one of"),
    "two at once": (b'{"calibrate": 6, "snooze_s": 1}', "calibrate, snooze_s: accepted is one of"),
    "text": (b'{"calibrate": "6"}', "calibrate: accepted is a number from 3 to 60"),
    "yes": (b'{"calibrate": true}', "calibrate: accepted is a number"),
    "not a number": (b'{"snooze_s": NaN}', "snooze_s: accepted is a number from 0 to 86400"),
    "endless": (b'{"snooze_s": Infinity}', "snooze_s: accepted"),
    "negative": (b'{"snooze_s": -1}', "snooze_s: accepted"),
    "no end in sight": (b'{"snooze_s": ' + b"9" * 400 + b"}", "snooze_s: accepted"),
    "too short": (b'{"calibrate": 0.5}', "calibrate: accepted"),
    "forget nothing": (b'{"forget_calibration": false}', "forget_calibration: accepted is true"),
    "id of odd letters": (b'{"id": "a b", "calibrate": 6}', "id: accepted"),
    "id as a number": (b'{"id": 7, "calibrate": 6}', "id: accepted"),
    "oversized": (
        b'{"calibrate": 6}' + b" " * MOST_BYTES,
        "bytes; accepted: a JSON object of at most 1024 bytes, such as",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_no_command_is_refused_with_what_is_accepted(name: str) -> None:
    payload, why = REFUSALS[name]
    with pytest.raises(RefusedCommandError, match=why):
        Command.parse(payload)


def test_a_refused_command_keeps_its_id_so_that_its_sender_knows_of_it() -> None:
    with pytest.raises(RefusedCommandError) as refused:
        Command.parse(b'{"id": "a1", "calibrate": 1e9}')
    assert refused.value.command_id == "a1"


def test_an_answer_is_read_as_it_is_written() -> None:
    answer = Answer(DONE, "a1", "snooze_s", result={"snoozed_until": None})
    assert Answer.parse(json.dumps(answer.as_dict()).encode()) == answer


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"[]", b'{"outcome": "maybe"}', b'{"outcome": "done", "id": 3}', b"[" * 100_000],
    ids=["empty", "nothing", "a list", "no outcome", "a number for an id", "nested"],
)
def test_what_is_no_answer_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="no answer"):
        Answer.parse(payload)


def test_a_refusal_says_why() -> None:
    assert Answer(REFUSED, None, None, "why").as_dict()["reason"] == "why"
