"""``--calibrate``: six seconds of sitting straight become the baseline of a stream."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping

from paho.mqtt import client as paho

from posture.analyzer.pose import PoseEstimator
from posture.errors import FailedError, UserError
from posture.runtime import EXIT_OK, Stop
from posture.settings.paths import path_of
from posture.settings.table import Settings
from posture.verdict import rule_sets
from posture.verdict.rule_sets import CALIBRATION_S, Baseline, Landmarks
from posture.wire import decoding, frame, mqtt
from posture.wire.topics import Topics

log = logging.getLogger(__name__)

WAIT_S = 60.0
"""How long the first frame may take."""


def calibrate(settings: Settings, pi_id: str, stop: Stop) -> int:
    """Watch the live stream, print the baseline to put into cluster.yaml. The analyzer's session is not touched.

    Raises:
        UserError: no frame came, too few show a person well, or the person moved.
        FailedError: stopped before the end.
    """
    options = settings.for_stream(pi_id)
    limits = frame.Limits(options.max_payload_bytes, options.max_pixels)
    pictures = _record(settings, pi_id, stop)
    seen: list[Landmarks | None] = []
    with PoseEstimator(path_of(options.model), options.delegate) as pose:
        for index, payload in enumerate(pictures):
            try:
                unwrapped = frame.unwrap(payload, options.image_key)
                picture = decoding.decode(unwrapped, limits, options.picture_max_width)
            except frame.UndecodableError as error:
                log.warning("a frame was passed over: %s", error.reason)
                continue
            seen.append(pose.detect(pose.view(picture), index * 100 + 1))
    baseline = rule_sets.calibrate(seen, options.camera_roll_deg)
    print(f"{len(pictures)} frames. Put this into cluster.yaml:\n")
    rule_set, values = settings_of(baseline)
    print(f"streams:\n  {pi_id}:\n    rule_set: {rule_set}")
    for name, value in values.items():
        print(f"    {name}: {value:g}")
    return EXIT_OK


def settings_of(baseline: Baseline) -> tuple[str, dict[str, float]]:
    """Return the rule set that uses a calibrated pose, and the settings that make it a stream's."""
    if baseline.head_height is None:
        seen = {
            "baseline_neck_deg": baseline.neck,
            "baseline_body_deg": baseline.body,
            "baseline_sitting_height": baseline.sitting_height,
        }
        return "baseline", _rounded(seen)
    seen = {"baseline_head_height": baseline.head_height}
    if baseline.placement is not None:
        seen["baseline_shoulder_x"] = baseline.placement.x
        seen["baseline_shoulder_y"] = baseline.placement.y
        seen["baseline_shoulder_width"] = baseline.placement.width
    return "auto", _rounded(seen)


def _rounded(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items() if value is not None}


def _record(settings: Settings, pi_id: str, stop: Stop) -> list[bytes]:
    """Return the payloads of six seconds of the live stream."""
    images = Topics(pi_id, settings.mqtt.prefix).images
    pictures: list[bytes] = []
    first_at: list[float] = []

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if not message.retain:
            first_at.append(time.monotonic())
            pictures.append(bytes(message.payload))

    broker = mqtt.parse_broker(settings.mqtt.url)
    protocol = "5" if settings.mqtt.protocol == "5" else "3.1.1"
    client_id = f"posture-{pi_id}-calibrate-{random.randrange(1 << 32):08x}"  # noqa: S311 - only to be unique
    client = mqtt.make_client(client_id, protocol, settings.mqtt, keep_session=False)
    client.on_connect = lambda c, *_: c.subscribe(images, qos=0)
    client.on_message = on_message
    refused: list[str] = []
    client.on_subscribe = lambda *args: refused.extend(mqtt.refused_subscriptions([images], args[3]))
    try:
        mqtt.connect(client, settings.mqtt, session_expiry_s=0)
    except OSError as error:
        raise UserError(f"broker {broker}: {mqtt.explain(error)}") from None
    print(f"Sit straight, seen from the side or from the front; recording {CALIBRATION_S:g} s of {pi_id}.")
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and not stop.requested:
        if client.loop(timeout=0.1) != 0:
            raise UserError(f"broker {broker}: closed the connection, check POSTURE_MQTT_USERNAME and its password")
        if refused:
            raise UserError(f"broker {broker}: {refused[0]}")
        if first_at and time.monotonic() > first_at[0] + CALIBRATION_S:
            break
    mqtt.abandon(client)
    if stop.requested:
        raise FailedError(f"stream {pi_id}: stopped before {CALIBRATION_S:g} s were recorded; there is no baseline")
    if not pictures:
        raise UserError(f"stream {pi_id}: no frame came within {WAIT_S:g} s on {images}")
    return pictures
