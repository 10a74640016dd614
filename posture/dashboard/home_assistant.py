"""Home Assistant's MQTT discovery: a retained message makes each stream a device there, which goes with its stream.

Pure: messages and times come in, messages to publish go out. The payloads are those of device discovery (Home
Assistant 2024.12 and newer); entities read the farm's own topics, so nothing else is published for them.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from random import Random
from typing import Any

from posture import __version__
from posture.settings.parsers import PI_ID
from posture.wire.topics import Topics

ROOT = "homeassistant"
STATUS = f"{ROOT}/status"
"""Where Home Assistant says that it has (re)started."""
DEVICES = f"{ROOT}/device/+/config"
ORIGIN = "Posture Farm"
MOST_DELAY_S = 10.0
"""After Home Assistant's start the streams are announced within so long: not all farms at the same moment."""
SETTLED_S = 10.0
"""After a connection: which streams there are has been said by then."""
EXPIRES_S = 60
"""An angle that has not come for so long is not known."""
OCCUPIED = "{{ 'None' if value_json.reason == 'camera_silent' else 'OFF' if value_json.away else 'ON' }}"
REASON = "{{ {'reason': value_json.reason, 'advice': value_json.advice, 'since': value_json.since} | tojson }}"
STATES = ("Good", "Bad", "Unclear")
"""Home Assistant keeps the word Unknown for itself."""


@dataclass(frozen=True)
class Announcement:
    """A retained message for Home Assistant; an empty payload takes a device away."""

    topic: str
    payload: bytes


class Discovery:
    """Knows which streams Home Assistant has been told of.

    Args:
        prefix: the farm's topic prefix.
        enabled: announce streams; otherwise what was announced before is taken away.
        rng: for the delay.
    """

    topics = (STATUS, DEVICES)

    def __init__(self, prefix: str, *, enabled: bool, rng: Random) -> None:
        self._prefix, self._enabled, self._rng = prefix, enabled, rng
        self._announced: set[str] = set()
        """Topics of devices of ours that the broker keeps."""
        self._fresh: set[str] = set()
        """Of these, those that this process has announced since Home Assistant's last start."""
        self._again_at: float | None = None
        self._settled_at = 0.0

    def connected(self, at: float) -> None:
        """Forget what was announced: this may be another broker."""
        self._announced.clear()
        self._fresh.clear()
        self._settled_at = at + SETTLED_S

    def take(self, topic: str, payload: bytes, at: float) -> None:
        """Take in a message of one of ``topics``."""
        if topic == STATUS:
            if payload == b"online":
                self._again_at = at + self._rng.uniform(0, MOST_DELAY_S)
        elif self._is_ours(topic, payload):
            self._announced.add(topic)
        elif not payload:
            self._announced.discard(topic)
            self._fresh.discard(topic)

    def due(self, streams: Collection[str], at: float) -> list[Announcement]:
        """Return what is to be published now.

        Args:
            streams: those that there are.
            at: now, in seconds.
        """
        if self._again_at is not None and at >= self._again_at:
            self._fresh.clear()
            self._again_at = None
        wanted = {device_topic(name, self._prefix): name for name in streams} if self._enabled else {}
        told = [
            Announcement(topic, json.dumps(device(name, self._prefix), separators=(",", ":")).encode())
            for topic, name in wanted.items()
            if topic not in self._fresh
        ]
        gone = self._announced - wanted.keys() if at >= self._settled_at else set()
        self._fresh |= wanted.keys()
        self._fresh -= gone
        self._announced = self._announced - gone | wanted.keys()
        return told + [Announcement(topic, b"") for topic in sorted(gone)]

    def _is_ours(self, topic: str, payload: bytes) -> bool:
        """Say whether a retained device is one that a dashboard of this farm has announced."""
        start, end = f"{ROOT}/device/{_object_id('', self._prefix)}", "/config"
        pi_id = topic[len(start) : -len(end)]
        if not topic.startswith(start) or not PI_ID.fullmatch(pi_id):
            return False
        try:
            return bool(json.loads(payload)["avty_t"] == Topics(pi_id, self._prefix).status)
        except (ValueError, KeyError, TypeError, RecursionError):
            return False


def is_for(topic: str) -> bool:
    """Say whether a topic is Home Assistant's, and none of the farm's."""
    return topic.startswith(f"{ROOT}/")


def device_topic(pi_id: str, prefix: str) -> str:
    """Return where a stream's device is announced."""
    return f"{ROOT}/device/{_object_id(pi_id, prefix)}/config"


def _object_id(pi_id: str, prefix: str) -> str:
    """Return a name that no stream of another farm has: ``posture_lab_pi1``."""
    return "_".join(("posture", *filter(None, prefix.split("/")), pi_id))


def device(pi_id: str, prefix: str) -> dict[str, Any]:
    """Return a stream's device with its entities, in the abbreviations of Home Assistant's documentation.

    Entities are unavailable while no analyzer has the stream.
    """
    topics, own = Topics(pi_id, prefix), _object_id(pi_id, prefix)
    state, diagnostic = {"stat_t": topics.state}, {"ent_cat": "diagnostic"}
    account = {"stat_t": topics.account, "stat_cla": "measurement", **diagnostic}
    angle = {**state, "unit_of_meas": "°", "stat_cla": "measurement", "exp_aft": EXPIRES_S, "sug_dsp_prc": 0}
    entities: dict[str, dict[str, Any]] = {
        "posture": {
            "p": "sensor", "name": "Posture", "dev_cla": "enum", "ops": list(STATES), **state,
            "val_tpl": "{{ 'Unclear' if value_json.state == 'Unknown' else value_json.state }}",
            "json_attr_t": topics.state, "json_attr_tpl": REASON,
        },
        "neck": {"p": "sensor", "name": "Neck", **angle, "val_tpl": "{{ value_json.neck }}"},
        "body": {"p": "sensor", "name": "Body", **angle, "val_tpl": "{{ value_json.body }}"},
        "bad": {
            "p": "binary_sensor", "name": "Bad posture", "dev_cla": "problem", **state,
            "val_tpl": "{{ 'ON' if value_json.state == 'Bad' else 'OFF' }}",
        },
        "occupied": {
            "p": "binary_sensor", "name": "Somebody there", "dev_cla": "occupancy", **state,
            "val_tpl": OCCUPIED,
        },
        "camera": {
            "p": "binary_sensor", "name": "Camera", "dev_cla": "connectivity", **diagnostic,
            "stat_t": topics.camera, "val_tpl": "{{ 'ON' if value_json.state == 'live' else 'OFF' }}",
        },
        "updated": {
            "p": "sensor", "name": "Last frame", "dev_cla": "timestamp", **state, **diagnostic,
            "val_tpl": "{{ value_json.updated }}",
        },
        "fps": {"p": "sensor", "name": "Frames a second", **account, "val_tpl": "{{ value_json.fps }}"},
        "missing": {"p": "sensor", "name": "Frames missing", **account, "val_tpl": "{{ value_json.missing }}"},
        "alert": {"p": "event", "name": "Alert", "evt_typ": ["bad_posture"], "stat_t": topics.alert},
        "picture": {"p": "image", "name": "Picture", "img_t": topics.picture, "cont_type": "image/jpeg"},
    }  # fmt: skip
    for key, entity in entities.items():
        entity["uniq_id"] = f"{own}_{key}"
        entity["def_ent_id"] = f"{entity['p']}.{own.replace('-', '_')}_{key}"
    return {
        "dev": {"ids": [own], "name": f"Posture {pi_id}", "mf": ORIGIN, "mdl": "Stream"},
        "o": {"name": ORIGIN, "sw": __version__},
        "avty_t": topics.status,
        "avty_tpl": "{{ value_json.state }}",
        "cmps": entities,
        "qos": 1,
    }
