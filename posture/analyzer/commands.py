"""What an operator asks of a running analyzer: calibrate, forget that, snooze alerts. Each command has its answer.

A command comes from whoever may publish on its topic, and none of them ends the analyzer or delays a frame: what is
no command is counted, named in the log, and answered.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from datetime import datetime, timedelta, timezone

from posture.analyzer.calibration import settings_of
from posture.analyzer.counts import Account
from posture.analyzer.delivery import Acknowledger
from posture.analyzer.judging import Judging
from posture.analyzer.recording import Recording
from posture.errors import UserError
from posture.settings.table import Analyzer
from posture.system.said_once import SaidOnce
from posture.system.untrusted import shown
from posture.wire.calibration import BrokenCalibrationError, Calibration
from posture.wire.commands import (
    CALIBRATE,
    DONE,
    MOST_SNOOZE_S,
    REFUSED,
    SNOOZE,
    STARTED,
    Answer,
    Command,
    RefusedCommandError,
)
from posture.wire.topics import Topics

log = logging.getLogger(__name__)

FIRST_FRAME_S = 10.0
"""A calibration waits so long for a frame."""
CALIBRATED = ("auto", "baseline", "head-height")
"""Rule sets that judge by a calibrated pose."""
MOST_STATE_BYTES = 10_000
REMEMBERED = 100
"""Ids of commands: QoS 1 may deliver one twice."""


class Commands:
    """Obeys the commands for one stream.

    Args:
        options: the stream's settings.
        topics: the stream's topics.
        judging: the stage that judges by the pose, and raises alerts.
        stream: publishes.
        account: counts the commands.
    """

    def __init__(
        self, options: Analyzer, topics: Topics, judging: Judging, stream: Acknowledger, account: Account
    ) -> None:
        self._options = options
        self._topics = topics
        self._judging = judging
        self._stream = stream
        self._account = account
        self._said = SaidOnce(log)
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._calibrating: tuple[Command, Recording] | None = None

    def obey(self, payload: bytes, *, retained: bool) -> None:
        """Carry out a command, or begin to.

        Args:
            payload: as it came.
            retained: it is an old one, which the broker has kept.
        """
        try:
            command = Command.parse(payload)
        except RefusedCommandError as refusal:
            self._refuse(Answer(REFUSED, refusal.command_id, None, str(refusal)))
            return
        if retained:
            self._refuse(_refusal(command, "a retained command is old; accepted: one that is not retained"))
        elif self._is_repeated(command):
            return
        elif command.name == CALIBRATE:
            self._calibrate(command)
        elif command.name == SNOOZE:
            self._snooze(command)
        else:
            self._forget(command)

    def recall(self, topic: str, payload: bytes) -> None:
        """Take up what an analyzer before this one has left: the pose, and until when alerts are held."""
        if not payload:
            return
        if topic == self._topics.calibration:
            try:
                calibration = Calibration.parse(payload)
                self._use(calibration)
            except (BrokenCalibrationError, UserError) as error:
                log.warning("the pose on %s is not used, but that of the settings: %s", topic, error)
            else:
                log.info("judged by the pose of %s, calibrated %s", topic, calibration.at.isoformat(" ", "minutes"))
        elif (until := _snoozed_until(payload)) is not None:
            self._judging.snooze(until)
            log.info("alerts are held until %s", until.isoformat(" ", "seconds"))

    def check(self) -> None:
        """End a calibration for which no more frames come; cheap enough to be called often."""
        with self._lock:
            calibrating = self._calibrating
        if calibrating is not None and calibrating[1].overdue(time.monotonic()):
            self._judging.record(None)
            self._finish()

    def _use(self, calibration: Calibration) -> None:
        """Judge by a pose.

        Raises:
            UserError: the rule set uses none, or not one from this view.
        """
        self._check_that_a_pose_is_used()
        self._judging.use(calibration.over(self._options))

    def _check_that_a_pose_is_used(self) -> None:
        if self._options.rule_set not in CALIBRATED:
            accepted = ", ".join(CALIBRATED)
            raise UserError(f"rule_set {self._options.rule_set} uses no calibrated pose; accepted: {accepted}")

    def _calibrate(self, command: Command) -> None:
        try:
            self._check_that_a_pose_is_used()
        except UserError as error:
            self._refuse(_refusal(command, str(error)))
            return
        recording = Recording(command.seconds, FIRST_FRAME_S, time.monotonic(), self._finish)
        with self._lock:
            busy = self._calibrating is not None
            self._calibrating = self._calibrating or (command, recording)
        if busy:
            self._refuse(_refusal(command, "another calibration is under way; send it again when that is done"))
            return
        self._count(command.name)
        self._answer(Answer(STARTED, command.command_id, command.name, result={"seconds": command.seconds}))
        log.info("calibrating for %g s", command.seconds)
        self._judging.record(recording)

    def _finish(self) -> None:
        """Make the pose of what was recorded the stream's; called once for each recording, in any thread."""
        with self._lock:
            calibrating, self._calibrating = self._calibrating, None
        if calibrating is None:
            return
        command, recording = calibrating
        try:
            baseline = recording.baseline(self._options.camera_roll_deg)
            rule_set, values = settings_of(baseline)
            calibration = Calibration(datetime.now(timezone.utc), recording.frames, rule_set, values)
            self._use(calibration)
        except UserError as error:
            self._refuse(_refusal(command, str(error)))
            return
        said = calibration.as_dict()
        self._stream.publish(self._topics.calibration, said, retain=True)
        self._answer(Answer(DONE, command.command_id, command.name, result={"calibration": said}))
        log.info("calibrated: judged by %s", said)

    def _snooze(self, command: Command) -> None:
        until = datetime.now(timezone.utc) + timedelta(seconds=command.seconds) if command.seconds else None
        self._stream.publish(self._topics.state, self._judging.snooze(until), retain=True)
        self._count(command.name)
        text = None if until is None else until.isoformat(timespec="milliseconds")
        self._answer(Answer(DONE, command.command_id, command.name, result={"snoozed_until": text}))
        log.info("alerts are held until %s", text or "now: they come again")

    def _forget(self, command: Command) -> None:
        self._judging.use(self._options)
        self._stream.publish(self._topics.calibration, None, retain=True)
        self._count(command.name)
        self._answer(Answer(DONE, command.command_id, command.name))
        log.info("the calibration is forgotten: judged by the pose of the settings")

    def _is_repeated(self, command: Command) -> bool:
        if command.command_id is None:
            return False
        repeated = command.command_id in self._ids
        self._ids[command.command_id] = None
        if len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)
        return repeated

    def _refuse(self, answer: Answer) -> None:
        self._count("refused")
        self._said.warning(f"a command on {self._topics.command} is refused: {shown(answer.reason)}")
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        self._stream.publish(self._topics.answer, answer.as_dict())

    def _count(self, name: str) -> None:
        self._account.commands[name] += 1


def _refusal(command: Command, why: str) -> Answer:
    return Answer(REFUSED, command.command_id, command.name, why)


def _snoozed_until(state: bytes) -> datetime | None:
    """Return until when a retained state holds alerts; None for anything that is no such time in the future."""
    if len(state) > MOST_STATE_BYTES:
        return None
    try:
        until = datetime.fromisoformat(json.loads(state)["snoozed_until"])
        left_s = (until - datetime.now(timezone.utc)).total_seconds()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):  # a naive time is a TypeError
        return None
    return until.astimezone(timezone.utc) if 0 < left_s <= MOST_SNOOZE_S else None
