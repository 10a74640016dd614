"""What the codes of rows and topics mean, in plain words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from posture.dashboard.streams import Analyzer, Stream

AHEAD_S, LATE_S = 30.0, 60.0
"""What passes these is no matter of seconds any more that clocks and networks differ by."""
MEASURES = {
    "neck": "the neck leans too far",
    "body": "the trunk leans too far",
    "head_height": "the head has sunk towards the shoulders",
    "sitting_height": "the person sits lower than calibrated",
}
CONDITIONS = {
    "silent": "The camera sends no frames.",
    "frozen": "The camera sends the same picture again and again.",
    "away": "Nobody is there.",
}
UNKNOWN = {
    "no_person": "nobody is in the picture",
    "several_people": "several people are in the picture",
    "partial_landmarks": "head, shoulder or hip can't be seen",
    "not_side_view": "the person is not seen from the side",
    "not_front_view": "the person is not seen from the front",
    "not_calibrated": "this stream is not calibrated",
    "calibrate_again": "camera or seat has moved since the calibration",
    "upside_down": "head and feet were mistaken for each other",
    "camera_silent": "the camera sends no frames",
    "settling": "the first seconds are being watched",
    "expired": "the frame waited for too long",
    "not_a_picture": "what the camera sent is no picture",
    "empty": "the camera sent an empty message",
    "truncated": "the picture ends too early",
    "damaged": "the picture is damaged",
    "undecodable": "the picture can't be decoded",
    "too_many_bytes": "the picture has too many bytes",
    "too_many_pixels": "the picture has too many pixels",
    "too_many_scans": "the picture has too many scans",
    "analysis_failed": "the analysis met an error of ours",
    "ended_the_process": "the frame ended the analyzer, so it is not opened again",
}


def of_reason(reason: str) -> str:
    """Return what a reason of Bad or Unknown means; an unknown one is returned as it is."""
    if not reason:
        return ""
    parts = reason.split("+")
    if all(part in MEASURES for part in parts):
        return _sentence([MEASURES[part] for part in parts])
    return _sentence([UNKNOWN.get(reason, reason.replace("_", " "))])


def of_stream(stream: Stream) -> str:
    """Return why a stream is in its condition; empty where there is nothing to explain."""
    if stream.condition == "offline":
        return _offline(stream.analyzer)
    if stream.condition in CONDITIONS:
        return CONDITIONS[stream.condition]
    return of_reason(stream.posture.reason) if stream.posture else "No frame has been analyzed yet."


def of_clock(stream: Stream) -> str:
    """Return what is wrong with the times of a stream's frames; empty if nothing is known to be."""
    ahead_s = stream.ahead_s
    if ahead_s is None or -LATE_S <= ahead_s <= AHEAD_S or stream.condition in ("offline", "silent"):
        return ""
    if ahead_s > 0:
        return f"The camera's clock is {_length(ahead_s)} ahead."
    return f"Frames come {_length(-ahead_s)} late, or the camera's clock is slow."


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def _offline(analyzer: Analyzer | None) -> str:
    if analyzer is None:
        return "No analyzer has this stream."
    return f"The analyzer is offline{f': {analyzer.why}' if analyzer.why else ''}."


def _sentence(parts: Sequence[str]) -> str:
    text = " and ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."
