"""Flags that override settings: the setting's parser is the only judge of what a flag gives it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from posture.errors import UserError
from posture.settings import loading
from posture.settings.flags import (
    add_config_flag,
    add_setting_flag,
    at_least_0,
    positive,
    settings_with_flags,
    text_given,
    whole,
)
from posture.settings.table import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "cluster.yaml"
    file.write_text("mqtt: {prefix: file}\n")
    return file


def parsed(file: Path, *argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_config_flag(parser)
    add_setting_flag(parser, "--broker", "mqtt.url", "where the broker listens")
    add_setting_flag(parser, "--prefix", "mqtt.prefix", "before each topic")
    add_setting_flag(parser, "--threshold", "balancer.threshold", "of a node")
    add_setting_flag(parser, "--insecure", "scaler.insecure", "plaintext")
    return parser.parse_args(["--config", str(file), *argv])


def settings(file: Path, *argv: str) -> Settings:
    return settings_with_flags(parsed(file, *argv))


def test_a_flag_wins_over_environment_and_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(file).mqtt.prefix == "file"
    monkeypatch.setenv("POSTURE_MQTT_PREFIX", "environment")
    assert settings(file).mqtt.prefix == "environment"
    assert settings(file, "--prefix", "flag/").mqtt.prefix == "flag"
    assert settings(file, "--prefix", "").mqtt.prefix == ""


def test_a_flag_without_a_value_sets_a_setting_to_true(file: Path) -> None:
    assert not settings(file).scaler.insecure
    assert settings(file, "--insecure").scaler.insecure


def test_wrong_flags_and_a_wrong_file_are_reported_together(file: Path) -> None:
    file.write_text("mqtt: {protocol: 7}\n")
    with pytest.raises(UserError) as caught:
        settings(file, "--broker", "mqtt://u:hunter2@h", "--threshold", "101")
    assert str(caught.value).splitlines() == [
        f"{file}:1: mqtt.protocol: 7 is not accepted; accepted: auto, 5 or 3.1.1",
        "--broker: the value is not accepted; accepted: mqtt://host:port or mqtts://host:port (TLS); "
        "user and password belong into POSTURE_MQTT_USERNAME and POSTURE_MQTT_PASSWORD",
        "--threshold: '101' is not accepted; accepted: 0 to 100",
    ]


@pytest.mark.parametrize(
    ("flag", "section", "name", "value"),
    [
        pytest.param("--broker", "mqtt", "url", "mqtt://h:1", id="a broker"),
        pytest.param("--broker", "mqtt", "url", "mqtt://h:0", id="port 0"),
        pytest.param("--broker", "mqtt", "url", "h:1883", id="a broker without a scheme"),
        pytest.param("--prefix", "mqtt", "prefix", "/a/b/", id="slashes at the ends of a prefix"),
        pytest.param("--prefix", "mqtt", "prefix", "a//b", id="an empty part of a prefix"),
        pytest.param("--prefix", "mqtt", "prefix", "a/#", id="a wildcard in a prefix"),
        pytest.param("--threshold", "balancer", "threshold", "nan", id="no number"),
        pytest.param("--threshold", "balancer", "threshold", "1e1", id="an exponent"),
    ],
)
def test_a_flag_a_variable_and_the_file_accept_the_same(
    file: Path, flag: str, section: str, name: str, value: str
) -> None:
    def outcome(load: Callable[[], Settings]) -> object:
        try:
            return getattr(getattr(load(), section), name)
        except UserError:
            return UserError

    from_flag = outcome(lambda: settings(file, flag, value))
    in_environment = {loading.environment_name(section, name): value}
    file.write_text("")
    assert outcome(lambda: loading.load(file, in_environment)) == from_flag
    file.write_text(f"{section}: {{{name}: '{value}'}}\n")
    assert outcome(lambda: loading.load(file)) == from_flag


def test_a_flag_wins_over_a_variable_that_is_not_accepted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_THRESHOLD", "much")
    assert settings(file, "--threshold", "60").balancer.threshold == 60


def test_the_text_of_a_flag_is_known_if_it_is_given(file: Path) -> None:
    assert text_given(parsed(file, "--prefix", "a"), "mqtt.prefix") == "a"
    assert text_given(parsed(file), "mqtt.prefix") == ""


def test_a_flag_of_no_setting_is_a_programming_error() -> None:
    with pytest.raises(KeyError, match=r"mqtt\.adress"):
        add_setting_flag(argparse.ArgumentParser(), "--broker", "mqtt.adress", "")


@pytest.mark.parametrize(
    ("parse", "text", "number"),
    [
        pytest.param(positive, "0.5", 0.5, id="a half"),
        pytest.param(positive, "0", None, id="0 is not above 0"),
        pytest.param(at_least_0, "0", 0.0, id="0"),
        pytest.param(at_least_0, "-1", None, id="below 0"),
        pytest.param(at_least_0, "nan", None, id="no number"),
        pytest.param(positive, str(math.inf), None, id="infinite"),
        pytest.param(whole, "3", 3, id="three"),
        pytest.param(whole, "1.5", None, id="one and a half"),
        pytest.param(whole, "0", None, id="no whole number above 0"),
        pytest.param(whole, "many", None, id="no number at all"),
    ],
)
def test_a_flags_number_is_checked(parse: Callable[[str], float], text: str, number: float | None) -> None:
    if number is not None:
        assert parse(text) == number
        return
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text!r} is not accepted; accepted: "):
        parse(text)
