"""What the page is told, as JSON: streams, sources and what could not be read. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from posture.dashboard import words
from posture.dashboard.sources import Sources
from posture.dashboard.streams import Alert, Picture, Reply, Stream, Streams


def of_stream(stream: Stream) -> dict[str, Any]:
    """Return a stream; times are seconds since 1970, angles degrees."""
    return {
        "id": stream.pi_id,
        "condition": stream.condition,
        "why": words.of_stream(stream),
        "clock": words.of_clock(stream),
        "analyzer": None if stream.analyzer is None else asdict(stream.analyzer),
        "camera": None if stream.camera is None else asdict(stream.camera),
        "account": None if stream.account is None else asdict(stream.account),
        "posture": None if stream.posture is None else asdict(stream.posture),
        "last_frame_at": stream.last_frame_at,
        "picture": None if stream.picture is None else _of_picture(stream.picture),
        "calibrated_at": None if stream.calibration is None else stream.calibration.at.timestamp(),
        "reply": None if stream.reply is None else _of_reply(stream.reply),
    }


def _of_picture(picture: Picture) -> dict[str, Any]:
    frame = picture.frame
    return {**asdict(frame), "at": picture.at, "taken_at": frame.at, "why": words.of_reason(frame.reason)}


def _of_reply(reply: Reply) -> dict[str, Any]:
    answer = reply.answer
    return {
        "at": reply.at,
        "id": answer.command_id,
        "command": answer.command,
        "outcome": answer.outcome,
        "reason": answer.reason,
    }


def of_streams(streams: Streams, names: Iterable[str]) -> dict[str, Any]:
    """Return streams by name; one that is gone is None."""
    return {name: of_stream(streams[name]) if name in streams else None for name in names}


def of_sources(sources: Sources) -> dict[str, Any]:
    """Return the sources by name."""
    return {
        name: {"state": source.state.value, "why": source.why, "since": source.since}
        for name, source in sources.items()
    }


def of_malformed(streams: Streams) -> dict[str, Any]:
    """Return how many messages could not be read, and the newest of them."""
    return {"count": sum(streams.malformed.values()), "last": [asdict(one) for one in streams.malformed_last]}


def of_alerts(alerts: Iterable[Alert]) -> list[dict[str, Any]]:
    """Return alerts, oldest first."""
    return [
        {
            "id": alert.pi_id,
            "at": alert.at,
            "bad_for": alert.bad_for,
            "why": words.of_reason(alert.posture.reason),
            "neck": alert.posture.neck,
            "body": alert.posture.body,
        }
        for alert in alerts
    ]


def as_event(name: str, data: Any) -> bytes:
    """Return a server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
