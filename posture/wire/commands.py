"""What an operator asks of an analyzer, and what it answers: ``command/<pi_id>`` and ``posture/<pi_id>/answer``.

A command is a JSON object with one of ``calibrate`` (seconds), ``snooze_s`` (seconds) and ``forget_calibration``
(true), and an ``id`` of the sender's choice, which the answers repeat.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from posture.system.untrusted import json_object

CALIBRATE, SNOOZE, FORGET = "calibrate", "snooze_s", "forget_calibration"
COMMANDS = (CALIBRATE, SNOOZE, FORGET)
MOST_BYTES = 1024
"""Of a command."""
COMMAND_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
CALIBRATE_S = (3.0, 60.0)
"""Least and most seconds of a calibration."""
MOST_SNOOZE_S = 86_400.0

STARTED, DONE, REFUSED = "started", "done", "refused"


class RefusedCommandError(Exception):
    """Bytes on the command topic are no command. The text says why, and what is accepted.

    Attributes:
        command_id: that of the command, if it could be read.
    """

    def __init__(self, why: str, command_id: str | None = None) -> None:
        super().__init__(why)
        self.command_id = command_id


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: one of COMMANDS.
        seconds: how long to calibrate or to snooze (0 ends a snooze); 0 for ``forget_calibration``.
        command_id: of the sender's choice; None: it gave none.
    """

    name: str
    seconds: float = 0.0
    command_id: str | None = None

    def to_json(self) -> bytes:
        """Return the payload."""
        fields: dict[str, Any] = {} if self.command_id is None else {"id": self.command_id}
        fields[self.name] = True if self.name == FORGET else self.seconds
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, payload: bytes) -> Command:
        """Return the command of a payload.

        Raises:
            RefusedCommandError: it is none.
        """
        try:
            fields = json_object(payload, MOST_BYTES)
        except ValueError as error:
            raise RefusedCommandError(f'the command: {error}, such as {{"calibrate": 6}}') from None
        command_id = fields.pop("id", None)
        if command_id is not None and not (isinstance(command_id, str) and COMMAND_ID.fullmatch(command_id)):
            raise RefusedCommandError("id: accepted are 1 to 64 letters, digits and . _ : -")
        if len(fields) != 1 or (name := next(iter(fields))) not in COMMANDS:
            names = ", ".join(sorted(name[:40] for name in fields)[:3]) or "nothing"
            raise RefusedCommandError(f"{names}: accepted is one of {', '.join(COMMANDS)}", command_id)
        return cls(name, _seconds(name, fields[name], command_id), command_id)


def _seconds(name: str, value: object, command_id: str | None) -> float:
    if name == FORGET:
        if value is not True:
            raise RefusedCommandError(f"{FORGET}: accepted is true", command_id)
        return 0.0
    low, high = CALIBRATE_S if name == CALIBRATE else (0.0, MOST_SNOOZE_S)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise RefusedCommandError(f"{name}: accepted is a number from {low:g} to {high:g} (seconds)", command_id)
    return float(value)


@dataclass(frozen=True)
class Answer:
    """What became of a command.

    Attributes:
        outcome: STARTED (a calibration looks now; another answer follows), DONE or REFUSED.
        command_id: that of the command; None: it had none, or none that could be read.
        command: its name; None: it has none that is known.
        reason: why it was refused, in words for the operator; else empty.
        result: of a calibration that was started ``seconds``, of one that is done ``calibration`` (as on its
            topic), of a snooze ``snoozed_until`` (ISO 8601 in UTC, or null).
    """

    outcome: str
    command_id: str | None = None
    command: str | None = None
    reason: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as published, with the time."""
        return {
            "id": self.command_id,
            "command": self.command,
            "outcome": self.outcome,
            "reason": self.reason,
            "at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            **self.result,
        }

    @classmethod
    def parse(cls, payload: bytes) -> Answer:
        """Return the answer of a payload.

        Raises:
            ValueError: it is none.
        """
        try:
            said = json.loads(payload)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict) or said.get("outcome") not in (STARTED, DONE, REFUSED):
            raise ValueError("no answer of an analyzer")
        command_id, command, reason = said.get("id"), said.get("command"), said.get("reason", "")
        texts = (command_id or "", command or "", reason)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("no answer of an analyzer")
        known = {"id", "command", "outcome", "reason", "at"}
        result = {name: value for name, value in said.items() if name not in known}
        return cls(said["outcome"], command_id, command, reason, result)
