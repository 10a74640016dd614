"""The streams as their topics tell of them. Pure: the caller passes messages and their time.

Messages come from a broker on which anybody may have left anything: one that can't be read is counted and
named, and changes nothing. Times are seconds since 1970.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NoReturn, TypeVar

from posture.natural_order import natural
from posture.settings.parsers import PI_ID
from posture.system.untrusted import shown
from posture.wire.calibration import BrokenCalibrationError, Calibration
from posture.wire.commands import Answer
from posture.wire.preview import Preview
from posture.wire.topics import Topics

MOST_STREAMS = 2_000
"""Further names are counted as malformed: retained topics of strangers must not fill the memory."""
MOST_JSON_BYTES = 65_536
MALFORMED_KEPT = 50
ALERTS_KEPT = 50
"""Of all streams."""
STATES = ("Good", "Bad", "Unknown")
CAMERA_STATES = ("live", "silent", "frozen")
CAMERA_SILENT = "camera_silent"
"""The reason of a state that no frame has made."""
LATEST = 253_402_300_799.0
"""The last second of the year 9999."""

Value = TypeVar("Value")


class MalformedMessageError(Exception):
    """A message does not say what its topic is for. The text says why."""


@dataclass(frozen=True)
class Analyzer:
    """What ``status/<pi_id>`` says: which analyzer has the stream."""

    online: bool
    why: str
    """Why it is offline."""
    instance: str
    started: float | None
    host: str
    node: str
    """Its node in the cluster; empty outside of one."""
    delegate: str
    """``gpu`` or ``cpu``."""
    gpu_missing: bool
    """It was told to use the GPU, and uses the CPU."""


@dataclass(frozen=True)
class Camera:
    """What ``camera/<pi_id>`` says: ``live``, ``silent`` or ``frozen``, and since when."""

    state: str
    since: float | None


@dataclass(frozen=True)
class Delay:
    """From capture to committed row."""

    buckets: tuple[tuple[str, float], ...]
    """Upper bound in seconds, as Prometheus writes it -> frames up to it, in ascending order; the last is +Inf."""
    sum_s: float


@dataclass(frozen=True)
class Analysis:
    """How long finding the landmarks took."""

    count: int
    sum_s: float


@dataclass(frozen=True)
class Account:
    """What ``account/<pi_id>`` says: what became of every frame since the analyzer's start."""

    received: int
    rows: int
    analyzed: int
    missing: int
    duplicate: int
    malformed: int
    expired: int
    rejected: Mapping[str, int]
    good: int
    bad: int
    unknown: int
    status: str
    """The last row's ``posture_status``; empty before the first."""
    neck: float | None
    """Of the last row, degrees."""
    body: float | None
    fps: float
    """Frames a second, over the last five seconds."""
    delay: Delay | None = None
    analysis: Analysis | None = None


@dataclass(frozen=True)
class Posture:
    """What ``posture/<pi_id>/state`` says: the smoothed state; an alert is one, too."""

    state: str
    since: float
    neck: float | None
    """Degrees."""
    body: float | None
    away: bool
    reason: str
    advice: str
    rule_set: str
    updated: float
    """When the frame was taken that says so, by its camera."""
    snoozed_until: float | None
    """No alert is raised before; None: they are."""


@dataclass(frozen=True)
class Alert:
    """What ``posture/<pi_id>/alert`` said."""

    pi_id: str
    posture: Posture
    bad_for: float
    """Seconds."""
    at: float
    """When it came."""


@dataclass(frozen=True)
class Picture:
    """The newest of ``posture/<pi_id>/picture``: a JPEG, by the stream's privacy mode."""

    jpeg: bytes = field(repr=False)
    at: float
    """When it came."""
    frame: Preview
    """What the row of its frame says."""


@dataclass(frozen=True)
class Reply:
    """What ``posture/<pi_id>/answer`` said last: what became of a command."""

    answer: Answer
    at: float
    """When it came."""


@dataclass(frozen=True)
class Malformed:
    """A message that could not be read."""

    topic: str
    why: str
    at: float
    retained: bool


@dataclass
class Stream:
    """One stream; what its topics have not said is None."""

    pi_id: str
    analyzer: Analyzer | None = None
    camera: Camera | None = None
    account: Account | None = None
    posture: Posture | None = None
    picture: Picture | None = None
    calibration: Calibration | None = None
    reply: Reply | None = None
    alerts: int = 0
    """That came since we look."""
    last_frame_at: float | None = None
    """When the last frame made itself known here; at first, of what was retained, when it was taken."""
    ahead_s: float | None = None
    """By how much the camera's clock was ahead of ours when its last state came, which takes no time to speak of.
    Less than 0: it is slow, or its frames come late."""

    @property
    def condition(self) -> str:
        """The one word that comes first.

        ``offline`` (no analyzer has it), ``silent`` or ``frozen`` (its camera), ``away`` (nobody is there), or the
        state: ``good``, ``bad``, ``unknown``.
        """
        if self.analyzer is None or not self.analyzer.online:
            return "offline"
        if self.camera is not None and self.camera.state != "live":
            return self.camera.state
        if self.posture is None:
            return "unknown"
        return "away" if self.posture.away else self.posture.state.lower()

    @property
    def is_empty(self) -> bool:
        """Whether no topic that the broker keeps says anything of it (any more)."""
        return not (self.analyzer or self.camera or self.account or self.posture or self.calibration)


class Streams(Mapping[str, Stream]):
    """All streams of a farm, by name: those that messages have told of, and those that are expected.

    Args:
        prefix: the farm's topic prefix, ``mqtt.prefix``.

    Attributes:
        version: grows with each change.
        malformed: kind of topic -> messages that could not be read.
        malformed_last: the newest of them.
        alerts: the newest, oldest first.
    """

    def __init__(self, prefix: str = "") -> None:
        self.version = 0
        self.malformed: Counter[str] = Counter()
        self.malformed_last: deque[Malformed] = deque(maxlen=MALFORMED_KEPT)
        self.alerts: deque[Alert] = deque(maxlen=ALERTS_KEPT)
        self._streams: dict[str, Stream] = {}
        self._expected: frozenset[str] = frozenset()
        self._changed: dict[str, int] = {}
        self._gone: deque[tuple[int, str]] = deque(maxlen=MOST_STREAMS)
        every = Topics("+", prefix)
        self._readers: dict[str, Callable[[Stream, bytes, float, bool], None]] = {
            every.status: self._take_status,
            every.camera: self._take_camera,
            every.account: self._take_account,
            every.state: self._take_state,
            every.alert: self._take_alert,
            every.picture: self._take_picture,
            every.answer: self._take_answer,
            every.calibration: self._take_calibration,
        }
        self._patterns = {
            topic: re.compile(re.escape(topic).replace(re.escape("+"), "([^/]*)")) for topic in self._readers
        }

    def __getitem__(self, pi_id: str) -> Stream:
        return self._streams[pi_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._streams)

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def topics(self) -> list[str]:
        """What to subscribe to."""
        return list(self._readers)

    def take(self, topic: str, payload: bytes, *, at: float, retained: bool) -> None:
        """Take in one message; what can't be read is counted and named, and changes nothing.

        Args:
            topic: as the broker has it.
            payload: nothing at all takes a retained message back.
            at: now.
            retained: the broker had kept it: it is of some time before.
        """
        kind, pi_id = self._address(topic)
        if kind is None:
            self.count_malformed(topic, "nobody here subscribes to it", at=at, retained=retained)
            return
        if not PI_ID.fullmatch(pi_id):
            why = f"{shown(pi_id)} is no stream's name; accepted: a-z, 0-9 and -, up to 32"
            self.count_malformed(topic, why, at=at, retained=retained)
            return
        stream = self._streams.get(pi_id) or Stream(pi_id)
        try:
            if pi_id not in self._streams and len(self._streams) >= MOST_STREAMS:
                _refuse(f"there are {MOST_STREAMS} streams already")
            self._readers[kind](stream, payload, at, retained)
        except MalformedMessageError as error:
            self.count_malformed(topic, str(error), at=at, retained=retained)
            return
        self._keep(stream)

    def expect(self, names: Collection[str]) -> bool:
        """Have these streams also before any topic tells of them, and those before no longer for that reason.

        Args:
            names: those of the farm, as its settings list them.

        Returns:
            Whether that changes anything.
        """
        expected = frozenset(names)
        news = expected ^ self._expected
        self._expected = expected
        for pi_id in sorted(news, key=natural):
            self._keep(self._streams.get(pi_id) or Stream(pi_id))
        return bool(news)

    def _keep(self, stream: Stream) -> None:
        """Take a stream up as it is now, or let it go."""
        self.version += 1
        pi_id = stream.pi_id
        if stream.is_empty and pi_id not in self._expected:
            self._changed.pop(pi_id, None)
            if self._streams.pop(pi_id, None) is not None:
                self._gone.append((self.version, pi_id))
        else:
            self._streams[pi_id] = stream
            self._changed[pi_id] = self.version

    def count_malformed(self, topic: str, why: str, *, at: float, retained: bool) -> None:
        """Count a message that can't be read.

        Args:
            topic: as the broker has it.
            why: what is wrong with it.
            at: now.
            retained: whether the broker keeps it.
        """
        kind, _ = self._address(topic)
        self.malformed[kind or "foreign"] += 1
        self.malformed_last.append(Malformed(shown(topic), why, at, retained))
        self.version += 1

    def changed_since(self, version: int) -> list[str]:
        """Return the streams that have changed after a version, and those that are gone since."""
        gone = [pi_id for at, pi_id in self._gone if at > version]
        return [*gone, *(pi_id for pi_id, changed in self._changed.items() if changed > version)]

    def _address(self, topic: str) -> tuple[str | None, str]:
        """Return the pattern that a topic belongs to, and the stream's name in it."""
        for kind, pattern in self._patterns.items():
            match = pattern.fullmatch(topic)
            if match:
                return kind, match[1]
        return None, ""

    def _take_status(self, stream: Stream, payload: bytes, at: float, retained: bool) -> None:
        del at, retained
        stream.analyzer = None if not payload else _analyzer(_Fields(payload))

    def _take_camera(self, stream: Stream, payload: bytes, at: float, retained: bool) -> None:
        del at, retained
        stream.camera = None if not payload else _camera(_Fields(payload))

    def _take_account(self, stream: Stream, payload: bytes, at: float, retained: bool) -> None:
        before = stream.account.received if stream.account else None
        stream.account = None if not payload else _account(_Fields(payload))
        if stream.account is not None and not retained and stream.account.received != before:
            stream.last_frame_at = at

    def _take_state(self, stream: Stream, payload: bytes, at: float, retained: bool) -> None:
        stream.posture = None if not payload else _posture(_Fields(payload))
        if stream.posture is None or stream.posture.reason == CAMERA_SILENT:
            return  # no frame says so
        if not retained:
            stream.ahead_s = stream.posture.updated - at
        if not retained or stream.last_frame_at is None:
            stream.last_frame_at = min(stream.posture.updated, at) if retained else at

    def _take_alert(self, stream: Stream, payload: bytes, at: float, retained: bool) -> None:
        if retained:
            _refuse("it is retained: an old alert is none")
        fields = _Fields(payload)
        alert = Alert(stream.pi_id, _posture(fields), fields.number("bad_for"), at)
        self.alerts.append(alert)
        stream.alerts += 1

    def _take_picture(self, stream: Stream, payload: bytes, at: float, retained: bool) -> None:
        if not payload:
            stream.picture = None
        elif retained:
            _refuse("it is retained: pictures of people are not to be kept at the broker")
        else:
            try:
                stream.picture = Picture(bytes(payload), at, Preview.of(payload))
            except ValueError as error:
                _refuse(str(error))

    def _take_answer(self, stream: Stream, payload: bytes, at: float, retained: bool) -> None:
        if retained:
            _refuse("it is retained: an old answer is none")
        if len(payload) > MOST_JSON_BYTES:
            _refuse(f"{len(payload)} bytes; accepted: up to {MOST_JSON_BYTES}")
        try:
            stream.reply = Reply(Answer.parse(payload), at)
        except ValueError as error:
            _refuse(str(error))

    def _take_calibration(self, stream: Stream, payload: bytes, at: float, retained: bool) -> None:
        del at, retained
        try:
            stream.calibration = Calibration.parse(payload) if payload else None
        except BrokenCalibrationError as error:
            _refuse(str(error))


def _analyzer(fields: _Fields) -> Analyzer:
    return Analyzer(
        online=fields.choice("state", ("online", "offline")) == "online",
        why=fields.text("why", ""),
        instance=fields.text("instance"),
        started=fields.moment("started", None),
        host=fields.text("host", ""),
        node=fields.text("node", ""),
        delegate=fields.text("delegate", ""),
        gpu_missing=(fields.text("delegate", ""), fields.text("delegate_asked", "")) == ("cpu", "gpu"),
    )


def _camera(fields: _Fields) -> Camera:
    return Camera(fields.choice("state", CAMERA_STATES), fields.moment("since", None))


def _account(fields: _Fields) -> Account:
    return Account(
        received=fields.count("received"),
        rows=fields.count("rows"),
        analyzed=fields.count("analyzed"),
        missing=fields.count("missing"),
        duplicate=fields.count("duplicate"),
        malformed=fields.count("malformed", 0),
        expired=fields.count("expired"),
        rejected=fields.counts("rejected"),
        good=fields.count("good"),
        bad=fields.count("bad"),
        unknown=fields.count("unknown"),
        status=fields.choice("status", ("", *STATES)),
        neck=fields.number("neck", None),
        body=fields.number("body", None),
        fps=fields.number("fps", 0.0),
        delay=_delay(fields.counts("delay"), fields.number("delay_sum_s", 0.0)),
        analysis=_analysis(fields.count("analyzed", 0), fields.number("analysis_sum_s", None)),
    )


def _delay(counts: Mapping[str, int], sum_s: float) -> Delay | None:
    """Return what an account tells as bound -> frames up to it; the last bound is ``+Inf``."""
    if "+Inf" not in counts:
        return None
    try:
        ordered = sorted(((name, float(count)) for name, count in counts.items()), key=lambda one: float(one[0]))
    except ValueError:
        _refuse(f"delay: {shown(json.dumps(dict(counts)), 60)} is not accepted; accepted: seconds, and +Inf")
    return Delay(tuple(ordered), sum_s)


def _analysis(count: int, sum_s: float | None) -> Analysis | None:
    return None if sum_s is None else Analysis(count, sum_s)


def _posture(fields: _Fields) -> Posture:
    return Posture(
        state=fields.choice("state", STATES),
        since=fields.moment("since"),
        neck=fields.number("neck", None),
        body=fields.number("body", None),
        away=fields.flag("away", False),
        reason=fields.text("reason", ""),
        advice=fields.text("advice", ""),
        rule_set=fields.text("rule_set", ""),
        updated=fields.moment("updated"),
        snoozed_until=fields.moment("snoozed_until", None),
    )


REQUIRED: Any = object()
LONGEST_TEXT = 500


class _Fields:
    """A message's JSON object, read with suspicion.

    Raises:
        MalformedMessageError: it is none; or a field is not of its kind, or lacks and has no default.
    """

    def __init__(self, payload: bytes) -> None:
        if len(payload) > MOST_JSON_BYTES:
            _refuse(f"{len(payload)} bytes; accepted: up to {MOST_JSON_BYTES}")
        try:
            fields = json.loads(payload, parse_constant=lambda name: _refuse(f"{name} is no number"))
        except (ValueError, RecursionError):
            _refuse(f"{shown(payload[:60].decode(errors='backslashreplace'))} is no JSON")
        if not isinstance(fields, dict):
            _refuse(f"{shown(fields, 60)} is no JSON object")
        self._fields: Mapping[str, Any] = fields

    def _take(self, name: str, default: Value, accepted: str, parse: Callable[[Any], Value]) -> Value:
        value = self._fields.get(name)
        if value is None:
            if default is REQUIRED:
                _refuse(f"{name} lacks; accepted: {accepted}")
            return default
        try:
            return parse(value)
        except (TypeError, ValueError, OverflowError):
            _refuse(f"{name}: {shown(json.dumps(value), 60)} is not accepted; accepted: {accepted}")

    def text(self, name: str, default: str = REQUIRED) -> str:
        return str(self._take(name, default, "a text", _text))

    def choice(self, name: str, names: tuple[str, ...]) -> str:
        def parse(value: Any) -> str:
            if value not in names:
                raise ValueError
            return str(value)

        return str(self._take(name, REQUIRED, " or ".join(one or "nothing" for one in names), parse))

    def flag(self, name: str, default: bool) -> bool:
        def parse(value: Any) -> bool:
            if not isinstance(value, bool):
                raise TypeError
            return value

        return self._take(name, default, "true or false", parse)

    def number(self, name: str, default: Any = REQUIRED) -> Any:
        return self._take(name, default, "a number", _number)

    def count(self, name: str, default: int = REQUIRED) -> int:
        return self._take(name, default, "a whole number of at least 0", _count)

    def counts(self, name: str) -> Mapping[str, int]:
        def parse(value: Any) -> Mapping[str, int]:
            if not isinstance(value, dict):
                raise TypeError
            return {_text(key): _count(number) for key, number in value.items()}

        return self._take(name, {}, "a map of whole numbers", parse)

    def moment(self, name: str, default: Any = REQUIRED) -> Any:
        return self._take(name, default, "a time in ISO 8601", _moment)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value[:LONGEST_TEXT]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0 or value >= 1 << 63:
        raise TypeError
    return value


def _moment(value: Any) -> float:
    moment = datetime.fromisoformat(_text(value).replace("Z", "+00:00"))
    # without a zone it is UTC, as all our times are
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    if not 0 <= seconds <= LATEST:
        raise ValueError
    return seconds


def _refuse(why: str) -> NoReturn:
    raise MalformedMessageError(why)
