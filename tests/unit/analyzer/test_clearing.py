"""A stream that is gone leaves nothing at the broker, and one that runs keeps all."""

from __future__ import annotations

from pathlib import Path

import pytest
from farm import START_S, Analyzer, Watcher, ended
from identities import TAP, TAP_PASSWORD, Client, credentials, guarded_mosquitto

from posture.wire.identities import provision
from posture.wire.topics import Topics

TOPICS = Topics("pi1")


def test_the_retained_topics_of_a_stream_that_is_gone_are_cleared_with_its_own_user_and_no_others(
    tmp_path: Path,
) -> None:
    provision(tmp_path / "identities", ["pi1", "pi2"])
    broker = guarded_mosquitto(tmp_path, tmp_path / "identities")
    broker.start()
    user, password = credentials(tmp_path / "identities", "analyzer-pi1")
    analyzer = Analyzer(tmp_path, broker.port, POSTURE_MQTT_USERNAME=user, POSTURE_MQTT_PASSWORD=password)
    tap = Client(broker.port, TAP, TAP_PASSWORD)
    for topic in (*TOPICS.retained, Topics("pi2").status):
        tap.retain(topic, b'{"state":"offline","instance":"a","started":"2026"}')
    tap.close()
    watcher = Watcher(broker.port, TAP, TAP_PASSWORD)
    try:
        watcher.wait_for(lambda w: set(w.retained) >= {*TOPICS.retained, Topics("pi2").status})
        with ended(analyzer):
            analyzer.start("--clear-topics")
            assert analyzer.process is not None
            assert analyzer.process.wait(START_S) == 0, analyzer.log.read_text()
        watcher.wait_for(lambda w: not any(w.retained[topic] for topic in TOPICS.retained))
        assert watcher.retained[Topics("pi2").status] is not None
    finally:
        watcher.close()
        broker.stop()


@pytest.mark.parametrize("away", [False, True], ids=["its analyzer is online", "no broker"])
def test_nothing_is_cleared_of_a_stream_that_runs_and_a_broker_that_is_away_is_named(
    tmp_path: Path, away: bool
) -> None:
    provision(tmp_path / "identities", ["pi1"])
    broker = guarded_mosquitto(tmp_path, tmp_path / "identities")
    broker.start()
    user, password = credentials(tmp_path / "identities", "analyzer-pi1")
    analyzer = Analyzer(tmp_path, broker.port, POSTURE_MQTT_USERNAME=user, POSTURE_MQTT_PASSWORD=password)
    tap = Client(broker.port, TAP, TAP_PASSWORD)
    tap.retain(TOPICS.status, b'{"state":"online","instance":"a","started":"2026"}')
    tap.close()
    if away:
        broker.stop()
    with ended(analyzer):
        analyzer.start("--clear-topics")
        assert analyzer.process is not None
        assert analyzer.process.wait(START_S) == 2
    broker.stop()
    (line,) = analyzer.log.read_text().splitlines()
    assert line.startswith(
        "error: broker mqtt://127.0.0.1" if away else "error: stream pi1: its analyzer is online"
    )
