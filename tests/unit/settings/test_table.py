"""The table of settings: what of it travels into a pod."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from posture.settings.table import Analyzer, Database, Mqtt, Settings, all_settings

STAYS = {
    "mqtt": {"url", "password", "ca_file", "cert_file", "key_file"},
    "database": {"url", "supabase_key"},
    "analyzer": {
        *("pictures_dir", "pictures_key_id", "pictures_secret_key", "pictures_ca_file"),
        *("quarantine_dir", "model", "progress_file"),
    },
}


def test_addresses_secrets_and_paths_are_the_settings_that_do_not_travel() -> None:
    found = {
        section: {name for part, name, entry in all_settings() if part == section and not entry.metadata["travels"]}
        for section in STAYS
    }
    assert found == STAYS


def test_no_secret_of_any_section_travels() -> None:
    assert not [name for _, name, entry in all_settings() if entry.metadata["secret"] and entry.metadata["travels"]]


def test_a_pod_gets_what_differs_from_the_defaults_and_travels() -> None:
    settings = Settings(
        mqtt=Mqtt(url="mqtt://b:1", password="p", ca_file="ca.pem", prefix="farm"),  # noqa: S106
        database=Database(url="postgresql://h/d", supabase_key="k", shared=True),
        analyzer=Analyzer(model="other.task", bad_for_s=5.0, keep="changes"),
        streams={"pi1": {"keep": "none"}},
    )
    assert settings.pod_environment("pi1") == {
        "POSTURE_MQTT_PREFIX": "farm",
        "POSTURE_DATABASE_SHARED": "true",
        "POSTURE_ANALYZER_BAD_FOR_S": "5.0",
        "POSTURE_ANALYZER_KEEP": "none",
    }


def test_help_texts_do_not_decide_what_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        mqtt=Mqtt(ca_file="ca.pem", key_file="key.pem", prefix="farm"),
        analyzer=Analyzer(model="other.task", jpeg_quality=30, progress_file="p"),
    )
    before = settings.pod_environment("pi1")
    for text in ("a path", "a file's name"):
        for _, _, entry in all_settings():
            metadata = {**entry.metadata, "accepted": text, "why": text}
            monkeypatch.setattr(entry, "metadata", MappingProxyType(metadata))
        assert settings.pod_environment("pi1") == before


@pytest.mark.parametrize(
    ("given", "bound"),
    [
        ({}, 2_000_000_000),
        ({"keep": "all"}, None),
        ({"pictures_max_bytes": 0}, None),
        ({"keep": "all", "pictures_max_bytes": 5}, 5),
    ],
    ids=str,
)
def test_pictures_are_bounded_by_default_and_whoever_keeps_all_keeps_all(
    given: dict[str, Any], bound: int | None
) -> None:
    assert Analyzer(**given).pictures_bound == bound
