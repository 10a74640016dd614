"""Home Assistant's discovery: the payloads by its own rules, and when they are sent, again, and taken away."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

import jinja2
import pytest

from posture.dashboard.home_assistant import (
    MOST_DELAY_S,
    SETTLED_S,
    STATUS,
    Announcement,
    Discovery,
    device,
    device_topic,
)

OBJECT_ID = re.compile(r"[a-zA-Z0-9_-]+")
"""What a discovery topic may have."""
MANDATORY = {
    "sensor": {"stat_t"},
    "binary_sensor": {"stat_t"},
    "event": {"stat_t", "evt_typ"},
    "image": {"img_t"},
}
KEYS = {
    *("p", "name", "uniq_id", "def_ent_id", "dev_cla", "ops", "stat_t", "val_tpl", "json_attr_t", "json_attr_tpl"),
    *("unit_of_meas", "stat_cla", "exp_aft", "sug_dsp_prc", "ent_cat", "evt_typ", "img_t", "cont_type"),
}
STATE = {
    "state": "Bad", "since": "2026-03-02T09:14:07.120+00:00", "neck": 41.3, "body": None, "away": False,
    "reason": "neck", "advice": "", "rule_set": "upright", "updated": "2026-03-02T09:15:31.480+00:00",
}  # fmt: skip
ACCOUNT = {"fps": 2.0, "missing": 3}


def rendered(template: str, message: dict[str, Any]) -> str:
    """A template as Home Assistant renders it: strictly, with the message as value_json."""
    strictly = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - no HTML
    return strictly.from_string(template).render(value_json=message)


@pytest.mark.parametrize("prefix", ["", "lab/a"])
def test_the_device_is_what_home_assistant_asks_for(prefix: str) -> None:
    announced = device("pi-1", prefix)
    assert announced["dev"]["ids"]
    assert announced["o"]["name"], "device discovery needs the origin's name"
    _, _, object_id, _ = device_topic("pi-1", prefix).split("/")
    assert OBJECT_ID.fullmatch(object_id)
    entities = announced["cmps"]
    ids = [entity["uniq_id"] for entity in entities.values()]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {one["uniq_id"] for one in device("pi-1", "other")["cmps"].values()}
    for entity in entities.values():
        assert entity.keys() <= KEYS, entity
        assert MANDATORY[entity["p"]] <= entity.keys()
        domain, _, name = entity["def_ent_id"].partition(".")
        assert domain == entity["p"]
        assert re.fullmatch(r"[a-z0-9_]+", name)
        if entity.get("dev_cla") == "enum":
            assert not {"stat_cla", "unit_of_meas"} & entity.keys(), "an enum has neither"
            assert not {"unknown", "unavailable"} & {option.lower() for option in entity["ops"]}, "reserved"
        if "stat_cla" in entity:
            assert entity["stat_cla"] == "measurement"


@pytest.mark.parametrize(
    ("key", "message", "value"),
    [
        ("posture", STATE, "Bad"),
        ("posture", {**STATE, "state": "Unknown"}, "Unclear"),
        ("neck", STATE, "41.3"),
        ("body", STATE, "None"),
        ("bad", STATE, "ON"),
        ("bad", {**STATE, "state": "Good"}, "OFF"),
        ("occupied", STATE, "ON"),
        ("occupied", {**STATE, "state": "Unknown", "away": True, "reason": "no_person"}, "OFF"),
        ("occupied", {**STATE, "state": "Unknown", "reason": "camera_silent"}, "None"),
        ("camera", {"state": "live", "since": "2026-03-02T09:14:07+00:00"}, "ON"),
        ("camera", {"state": "frozen", "since": "2026-03-02T09:14:07+00:00"}, "OFF"),
        ("updated", STATE, "2026-03-02T09:15:31.480+00:00"),
        ("fps", ACCOUNT, "2.0"),
        ("missing", ACCOUNT, "3"),
    ],
)
def test_an_entity_shows_what_the_topic_says(key: str, message: dict[str, Any], value: str) -> None:
    entity = device("pi1", "")["cmps"][key]
    shown = rendered(entity["val_tpl"], message)
    assert shown == value
    if entity.get("dev_cla") == "enum":
        assert shown in entity["ops"]


def test_the_reason_is_an_attribute_and_availability_is_the_analyzers() -> None:
    announced = device("pi1", "")
    attributes = json.loads(rendered(announced["cmps"]["posture"]["json_attr_tpl"], STATE))
    assert attributes == {"reason": "neck", "advice": "", "since": STATE["since"]}
    assert rendered(announced["avty_tpl"], {"state": "offline", "why": "stopped"}) == "offline"


class Broker:
    """Keeps what is retained, and tells it to who connects."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}

    def keep(self, announced: list[Announcement]) -> list[str]:
        """Take messages; return the topics."""
        for one in announced:
            self.retained[one.topic] = one.payload
        self.retained = {topic: payload for topic, payload in self.retained.items() if payload}
        return [one.topic for one in announced]

    def discovery(self, prefix: str = "", *, enabled: bool = True, at: float = 0.0) -> Discovery:
        """A dashboard that has just connected."""
        made = Discovery(prefix, enabled=enabled, rng=Random(1))
        made.connected(at)
        for topic, payload in self.retained.items():
            made.take(topic, payload, at)
        return made


def test_a_stream_is_announced_once_and_again_some_time_after_home_assistants_start() -> None:
    broker = Broker()
    discovery = broker.discovery()
    assert broker.keep(discovery.due(["pi1", "pi2"], 1)) == [device_topic("pi1", ""), device_topic("pi2", "")]
    assert discovery.due(["pi1", "pi2"], 2) == []
    discovery.take(STATUS, b"online", 100)
    assert discovery.due(["pi1", "pi2"], 100) == []
    assert len(discovery.due(["pi1", "pi2"], 100 + MOST_DELAY_S)) == 2
    discovery.take(STATUS, b"offline", 200)
    assert discovery.due(["pi1", "pi2"], 200 + MOST_DELAY_S) == []


def test_a_stream_that_is_gone_is_taken_away_also_by_a_dashboard_that_never_knew_it() -> None:
    broker = Broker()
    discovery = broker.discovery()
    broker.keep(discovery.due(["pi1", "pi2"], SETTLED_S))
    assert broker.keep(discovery.due(["pi2"], SETTLED_S)) == [device_topic("pi1", "")]
    assert list(broker.retained) == [device_topic("pi2", "")]
    later = broker.discovery()
    assert later.due([], SETTLED_S - 1) == [], "the streams have not all been told of yet"
    broker.keep(later.due([], SETTLED_S))
    assert broker.retained == {}


def test_switched_off_it_takes_away_what_was_announced_and_announces_nothing() -> None:
    broker = Broker()
    broker.keep(broker.discovery().due(["pi1"], SETTLED_S))
    broker.keep(broker.discovery(enabled=False).due(["pi1"], SETTLED_S))
    assert broker.retained == {}


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("homeassistant/device/lamp/config", b'{"avty_t": "status/pi1"}'),
        (device_topic("pi1", ""), b"no json"),
        (device_topic("pi1", ""), b'{"avty_t": "somebody/elses"}'),
        (device_topic("pi1", ""), b"[" * 100_000),
        (device_topic("pi1", "lab"), json.dumps(device("pi1", "lab")).encode()),
    ],
)
def test_what_others_have_announced_is_theirs(topic: str, payload: bytes) -> None:
    discovery = Discovery("", enabled=True, rng=Random(1))
    discovery.connected(0)
    discovery.take(topic, payload, 0)
    assert discovery.due([], SETTLED_S) == []
