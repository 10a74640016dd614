"""Settings: what is accepted, what is refused, and how well the refusal speaks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from posture.errors import UserError
from posture.settings import gpu_queries, loading, table

ROOT = Path(__file__).resolve().parents[3]
SECRETS = {"password": "hunter2", "key": "hunter3", "url": "postgresql://u:hunter4@h/d"}


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    return tmp_path / "farm.yaml"


def mistakes(path: Path, **environ: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        loading.load(path, environ)
    return str(caught.value).splitlines()


def test_every_mistake_is_reported_at_once_with_file_line_key_value_and_what_is_accepted(yaml_file: Path) -> None:
    yaml_file.write_text(
        "mqtt:\n"
        "  protocol: 7\n"
        "  keepalive_s: soon\n"
        "analyzer:\n"
        "  pictures: everything\n"
        "  camera_roll_deg: 200\n"
        "streams:\n"
        "  pi2:\n"
        "    quarantine: maybe\n"
    )
    said = mistakes(yaml_file, POSTURE_DATABASE_BATCH_ROWS="0")
    assert said == [
        f"{yaml_file}:2: mqtt.protocol: 7 is not accepted; accepted: auto, 5 or 3.1.1",
        f"{yaml_file}:3: mqtt.keepalive_s: 'soon' is not accepted; accepted: 5 to 3600",
        f"{yaml_file}:5: analyzer.pictures: 'everything' is not accepted; "
        "accepted: photo, blurred_face, skeleton or none",
        f"{yaml_file}:6: analyzer.camera_roll_deg: 200 is not accepted; accepted: -180 to 180",
        f"{yaml_file}:9: streams.pi2.quarantine: 'maybe' is not accepted; accepted: true or false",
        "environment: POSTURE_DATABASE_BATCH_ROWS: '0' is not accepted; accepted: a whole number of at least 1",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "mqtt: 5", "1: mqtt: 5 is not accepted; accepted: keys of mqtt", id="a section that is a number"
        ),
        pytest.param("analyzer: {model: 2026-13-45}", "1: analyzer.model: is no value: month", id="no such day"),
        pytest.param("analyzer: {model: !x y}", "1: analyzer.model: is no value: could not", id="an unknown tag"),
        *(
            pytest.param(
                f"mqtt: {{url: '{url}'}}", "1: mqtt.url: the value is not accepted; accepted: mqtt://", id=url
            )
            for url in (
                "mqtt://",
                "http://h",
                "mqtt://h:0",
                "mqtt://h:99999",
                "mqtt://h:x",
                "mqtt://[::1",
                "mqtt://u:hunter2@h",
                "h",
            )
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(yaml_file: Path, text: str, said: str) -> None:
    yaml_file.write_text(text)
    (mistake,) = mistakes(yaml_file)
    assert mistake.startswith(f"{yaml_file}:{said}")
    assert "hunter" not in mistake


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        pytest.param("mqtt: {usrname: a}", "did you mean username?", id="a key"),
        pytest.param("analyser: {keep: all}", "did you mean analyzer.keep?", id="a section"),
        pytest.param("streams: {pi1: {ruleset: tutorial}}", "did you mean rule_set?", id="a stream's key"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(yaml_file: Path, text: str, suggestion: str) -> None:
    yaml_file.write_text(text)
    (said,) = mistakes(yaml_file)
    assert said.startswith(f"{yaml_file}:1: ")
    assert said.endswith(suggestion)


def test_an_unknown_variable_of_ours_is_refused_with_a_suggestion(yaml_file: Path) -> None:
    yaml_file.write_text("")
    (said,) = mistakes(yaml_file, POSTURE_MQTT_ULR="mqtt://h:1")
    assert said == "environment: POSTURE_MQTT_ULR: unknown setting; did you mean POSTURE_MQTT_URL?"


@pytest.mark.parametrize(
    ("text", "variable"),
    [
        pytest.param("mqtt: {password: hunter2}", "POSTURE_MQTT_PASSWORD", id="the broker's password"),
        pytest.param("database: {supabase_key: hunter2}", "POSTURE_SUPABASE_KEY", id="Supabase's key"),
        pytest.param(
            "database: {url: 'postgresql://u:hunter2@h/d'}", "POSTURE_DATABASE_URL", id="a password in the URL"
        ),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(yaml_file: Path, text: str, variable: str) -> None:
    yaml_file.write_text(text)
    (said,) = mistakes(yaml_file)
    assert f"set {variable} or {variable}_FILE" in said
    assert "hunter2" not in said


def test_a_url_that_is_not_accepted_is_not_repeated_since_it_may_hold_a_password(yaml_file: Path) -> None:
    yaml_file.write_text("")
    (said,) = mistakes(yaml_file, POSTURE_DATABASE_URL="mysql://u:hunter2@h/d")
    assert "hunter2" not in said
    assert "postgresql://user@host/database" in said


@pytest.mark.parametrize(
    "text",
    [
        "images: {registry: 'u:hunter2@registry.example/farm'}",
        "images: {registry: 'https://u:p@hunter2@registry.example'}",
        "images: {tag: 'u:hunter2@h'}",
        "mqtt: mqtt://u:hunter2@h",
        "mqtt: {url: 'mqtt://u:12#hunter2@h'}",
        "mqtt: {url: 'mqtt://u:12/hunter2@h'}",
        "mqtt: {prefix: 'u:hunter2@h'}",
        "database: {url: 'postgresql://u:pa/hunter2@h/d'}",
        "database: {url: 'postgresql://u:p@hunter2@h/d'}",
        "prometheus: {url: 'http://u:p@hunter2@h:9090'}",
        "prometheus: {url: 'http://u:12/hunter2@h:9090'}",
        "kubernetes: {master: 'u:hunter2@h'}",
        "streams: {pi1: 'u:hunter2@h'}",
        "GPU_QUERIES: 'u:hunter2@h'",
        "GPU_QUERIES: {node-1: 'u:hunter2@h'}",
        "GPU_QUERIES: {node-1: {instance: 'h:1', metric: 'u:hunter2@h'}}",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated_wherever_it_is_put(
    yaml_file: Path, text: str
) -> None:
    yaml_file.write_text(text)
    (said,) = mistakes(yaml_file)
    assert "hunter2" not in said
    assert text.partition(":")[0] in said


def test_secrets_are_not_in_what_is_logged_of_the_settings() -> None:
    environ = {"POSTURE_MQTT_PASSWORD": "hunter2", "POSTURE_SUPABASE_KEY": "hunter3"}
    settings = loading.load(None, environ)
    assert settings.mqtt.password == environ["POSTURE_MQTT_PASSWORD"]
    assert "hunter" not in repr(settings)


def test_the_databases_password_is_not_in_what_is_logged_of_the_settings() -> None:
    assert "hunter" not in repr(loading.load(None, {"POSTURE_DATABASE_URL": "postgresql://u:hunter4@h/d"}))


def test_a_password_in_a_urls_query_is_refused_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("database:\n  url: postgresql://h/d?password=hunter5\n")
    with pytest.raises(UserError, match="POSTURE_DATABASE_URL") as refused:
        loading.load(file, {})
    assert "hunter" not in str(refused.value)


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(value + "\n")
    settings = loading.load(
        None,
        {
            "POSTURE_MQTT_PASSWORD_FILE": str(tmp_path / "password"),
            "POSTURE_SUPABASE_KEY_FILE": str(tmp_path / "key"),
            "POSTURE_DATABASE_URL_FILE": str(tmp_path / "url"),
        },
    )
    found = (settings.mqtt.password, settings.database.supabase_key, settings.database.url)
    assert found == tuple(SECRETS.values())


def test_a_secret_file_that_is_not_there_is_named(yaml_file: Path, tmp_path: Path) -> None:
    yaml_file.write_text("")
    (said,) = mistakes(yaml_file, POSTURE_MQTT_PASSWORD_FILE=str(tmp_path / "gone"))
    assert "POSTURE_MQTT_PASSWORD_FILE" in said
    assert str(tmp_path / "gone") in said


def test_the_environment_wins_over_the_file(yaml_file: Path) -> None:
    yaml_file.write_text("mqtt: {url: 'mqtt://file:1'}\nanalyzer: {keep: none}\n")
    settings = loading.load(yaml_file, {"POSTURE_MQTT_URL": "mqtt://env:2"})
    assert settings.mqtt.url == "mqtt://env:2"
    assert settings.analyzer.keep == "none"


def test_a_stream_may_differ_from_the_others(yaml_file: Path) -> None:
    yaml_file.write_text("analyzer: {rule_set: tutorial}\nstreams:\n  pi2: {camera_roll_deg: 4.5}\n")
    settings = loading.load(yaml_file)
    assert settings.for_stream("pi1").camera_roll_deg == 0
    assert settings.for_stream("pi2").camera_roll_deg == 4.5
    assert settings.for_stream("pi2").rule_set == "tutorial"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        pytest.param("mqtt: [", "is not YAML", id="broken YAML"),
        pytest.param("[" * 5000, "is not YAML", id="too deep"),
        pytest.param("mqtt: {url: 'mqtt://a:1'}\nmqtt: {}", "mqtt stands there twice", id="a key twice"),
        pytest.param("just words", "is a text or number", id="no mapping"),
        pytest.param("streams: {Pi One: {keep: all}}", "is no stream's name", id="a stream's name"),
        pytest.param("mqtt: {url: null}", "is not accepted", id="no value"),
        pytest.param("analyzer: {landmarks: [true]}", "is not accepted", id="a list for a value"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(yaml_file: Path, text: str, part: str) -> None:
    yaml_file.write_text(text)
    assert part in "\n".join(mistakes(yaml_file))


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    (said,) = mistakes(tmp_path / "none.yaml")
    assert said == f"{tmp_path / 'none.yaml'}: can't be read: No such file or directory"


def test_the_shipped_file_shows_every_setting_with_its_default(yaml_file: Path) -> None:
    text = (ROOT / "cluster.yaml").read_text()
    yaml_file.write_text(re.sub(r"^  # (?=\w+: )", "  ", text.split("streams:")[0], flags=re.MULTILINE))
    assert loading.load(yaml_file) == table.Settings()
    shown = set(re.findall(r"^  # (\w+):", text, flags=re.MULTILINE))
    assert {name for _, name, entry in table.all_settings() if not entry.metadata["secret"]} <= shown


def test_the_shipped_file_is_accepted_as_it_stands() -> None:
    assert loading.load(ROOT / "cluster.yaml") == table.Settings()


def test_the_examples_variables_are_settings() -> None:
    names = re.findall(r"^#?(POSTURE_\w+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    assert set(names) <= {table.environment_name(section, name) for section, name, _ in table.all_settings()}
    assert {"POSTURE_MQTT_PASSWORD", "POSTURE_SUPABASE_KEY"} <= set(names)


def test_a_script_ends_with_status_2_and_the_mistakes_on_standard_error(yaml_file: Path) -> None:
    yaml_file.write_text("mqtt: {usrname: a}\nanalyzer: {keep: some}\n")
    command = [sys.executable, str(ROOT / "Images_From_Pi1.py"), "--config", str(yaml_file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "did you mean username?" in ended.stderr
    assert "all, changes or none" in ended.stderr
    assert "Traceback" not in ended.stderr


GPU_QUERIES = """
GPU_QUERIES:
  jetson-1: {instance: "192.0.2.11:9100", metric: jetson_gpu_usage_percent}
  desktop: {instance: "[2001:db8::1]:9835", metric: "farm:gpu:percent"}
"""


def test_the_map_of_nodes_is_read_as_it_stands(yaml_file: Path) -> None:
    yaml_file.write_text(GPU_QUERIES)
    assert loading.load(yaml_file).gpu_queries == {
        "jetson-1": table.GpuQuery("192.0.2.11:9100", "jetson_gpu_usage_percent"),
        "desktop": table.GpuQuery("[2001:db8::1]:9835", "farm:gpu:percent"),
    }


def test_the_map_of_nodes_may_come_from_the_environment_alone(yaml_file: Path) -> None:
    yaml_file.write_text(GPU_QUERIES)
    line = '{"edge": {"instance": "edge.local:9100", "metric": "gpu_usage"}}'
    found = loading.load(yaml_file, {gpu_queries.GPU_QUERIES_VARIABLE: line}).gpu_queries
    assert found == {"edge": table.GpuQuery("edge.local:9100", "gpu_usage")}


def test_every_mistake_in_the_map_of_nodes_is_reported_at_once(yaml_file: Path) -> None:
    yaml_file.write_text(
        "GPU_QUERIES:\n"
        "  a: {instance: '', metric: gpu}\n"
        '  b: {instance: "two\\nlines", metric: gpu}\n'
        "  c: {instance: 'h:1', metric: 'gpu\"} or vector(0) #'}\n"
        "  d: {instance: 'h:1', metric: gpu}\n"
        "  e: {instance: 'h:2'}\n"
        "  f: {instance: 'h:3', metric: gpu, unit: percent}\n"
        "  g: 'h:4'\n"
        "  Not A Node: {instance: 'h:5', metric: gpu}\n"
        "  i: {instance: 'h\"} or up{a=\"b:6', metric: 7}\n"
        "  j:\n"
        "  k: {instance: 'jetson in the hall', metric: gpu, scale: -1}\n"
        "balancer_of: {}\n"
    )
    said = mistakes(yaml_file, POSTURE_PROMETHEUS_URL="prometheus:9090")
    label = "accepted: Prometheus' label instance, most often host:port"
    name = "accepted: a metric's name: letters, digits, _ and :, no digit first"
    shape = "accepted: node: {instance: host:port, signal: name}, or metric: name instead of signal"
    expected = [
        f"{yaml_file}:2: GPU_QUERIES.a.instance: '' is not accepted; {label}",
        f"{yaml_file}:3: GPU_QUERIES.b.instance: 'two\\nlines' is not accepted; {label}",
        f"{yaml_file}:4: GPU_QUERIES.c.metric: 'gpu\"}} or vector(0) #' is not accepted; {name}",
        f"{yaml_file}:5: GPU_QUERIES.d.instance: 'h:1' is c's already; accepted: one instance for each node",
        f"{yaml_file}:6: GPU_QUERIES.e: metric or signal must be given",
        f"{yaml_file}:7: GPU_QUERIES.f.unit: unknown key; known: instance, metric, scale, signal",
        f"{yaml_file}:8: GPU_QUERIES.g: 'h:4' is not accepted; {shape}",
        f"{yaml_file}:9: GPU_QUERIES: 'Not A Node' is no node's name; accepted: a-z, 0-9, - and ., up to 63",
        f"{yaml_file}:10: GPU_QUERIES.i.metric: 7 is not accepted; {name}",
        f"{yaml_file}:11: GPU_QUERIES.j: instance, and metric or signal must be given",
        f"{yaml_file}:12: GPU_QUERIES.k.scale: -1 is not accepted; accepted: what makes percent of it: "
        "100 for a ratio, 0.1 for 0 to 1000; 0: by the metric's name",
    ]
    assert set(expected) <= set(said)
    assert len(said) == len(expected) + 2
    assert any("balancer_of" in line for line in said)
    assert any("POSTURE_PROMETHEUS_URL" in line for line in said)


def test_mistakes_in_the_map_from_the_environment_name_the_variable(yaml_file: Path) -> None:
    yaml_file.write_text(GPU_QUERIES)
    (said,) = mistakes(yaml_file, POSTURE_GPU_QUERIES="{edge: {instance: 'edge:1'}}")
    assert said == "environment: POSTURE_GPU_QUERIES:1: GPU_QUERIES.edge: metric or signal must be given"


def test_two_ways_of_logging_in_to_prometheus_exclude_each_other(yaml_file: Path) -> None:
    yaml_file.write_text("prometheus: {username: farm}")
    (said,) = mistakes(yaml_file, POSTURE_PROMETHEUS_TOKEN=SECRETS["password"])
    assert "prometheus.username and prometheus.token" in said
    assert "hunter2" not in said


def test_a_password_in_prometheus_url_is_refused_and_not_repeated(yaml_file: Path) -> None:
    yaml_file.write_text("prometheus: {url: 'http://farm:hunter2@h:9090'}")
    (said,) = mistakes(yaml_file)
    assert "prometheus.url" in said
    assert "hunter2" not in said


def test_the_map_that_scripts_show_is_read_when_it_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpu_queries.GPU_QUERIES_VARIABLE, "{edge: {instance: 'edge:1', metric: gpu}}")
    assert loading.GpuQueries() == {"edge": {"instance": "edge:1", "metric": "gpu"}}


@pytest.mark.parametrize(
    "text", ["", "{}", "---\n", "# nothing but this\n"], ids=["empty", "map", "mark", "comment"]
)
def test_a_file_without_a_setting_means_the_defaults(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    assert loading.load(tmp_path / "cluster.yaml") == table.Settings()


def test_the_limits_of_a_stream_are_those_of_all_streams_and_its_own(yaml_file: Path) -> None:
    yaml_file.write_text(
        "analyzer:\n  limits: {neck: 30, body: 18}\nstreams:\n  pi2:\n    limits: {head_height: 0.1, neck: 25}\n"
        "  limits: {rule_set: upright}\n"
    )
    settings = loading.load(yaml_file)
    assert dict(settings.for_stream("pi1").limits.given) == {"neck": 30, "body": 18}
    assert dict(settings.for_stream("pi2").limits.given) == {"neck": 25, "body": 18, "head_height": 0.1}
    assert settings.for_stream("limits").rule_set == "upright", "a stream may have any name"
    pod = settings.pod_environment("pi2")
    assert loading.load(yaml_file, pod).analyzer.limits == settings.for_stream("pi2").limits


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("{neck: 95}", "neck is from 1 to 90", id="too large"),
        pytest.param("{head_height: 10}", "head_height is from 0.01 to 0.5", id="percent instead of a share"),
        pytest.param("{body: true}", "body is from 1 to 90", id="no number"),
        pytest.param("{neck: .nan}", "neck is from 1 to 90", id="not a number"),
        pytest.param("{nick: 30}", "'nick' is no limit; did you mean neck?", id="no such limit"),
        pytest.param("30", "accepted: a map", id="a number"),
        pytest.param("[neck, 30]", "accepted: a map", id="a list"),
        pytest.param("{neck: {low: 3}}", "limits.neck.low", id="a map in the map"),
    ],
)
def test_limits_that_make_no_sense_are_refused(yaml_file: Path, text: str, said: str) -> None:
    for place in ("analyzer", "streams:\n  pi1"):
        yaml_file.write_text(f"{place}:\n    limits: {text}\n")
        (mistake,) = mistakes(yaml_file)
        assert "limits" in mistake
        assert said in mistake
    (by_environment,) = mistakes(yaml_file.with_name("none"), POSTURE_ANALYZER_LIMITS="{neck")[-1:]
    assert by_environment.startswith("environment: POSTURE_ANALYZER_LIMITS: '{neck' is not accepted")


def test_times_of_the_state_are_checked(yaml_file: Path) -> None:
    yaml_file.write_text("analyzer: {bad_after_s: -1, good_after_s: soon}")
    assert [said.split(": ", 1)[1] for said in mistakes(yaml_file)] == [
        "analyzer.bad_after_s: -1 is not accepted; accepted: 0 to 3600",
        "analyzer.good_after_s: 'soon' is not accepted; accepted: 0 to 3600",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "mqtt: &m {url: *m}\n", ":1: mqtt.url: is an alias of what it stands in", id="recursive fields"
        ),
        pytest.param("mqtt: {url: &u [*u]}\n", ":1: mqtt.url: is no value", id="a list in itself"),
        pytest.param("&a {streams: {pi1: *a}}\n", ":1: streams.pi1: is an alias", id="the file in itself"),
        pytest.param("- mqtt\n", ":1: the file is a list; accepted: keys with values", id="list"),
        pytest.param("mqtt\n", ":1: the file is a text or number", id="text"),
    ],
)
def test_a_file_without_an_end_or_without_keys_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        loading.load(path, {})
    assert said in str(refused.value)


def test_a_prometheus_behind_the_api_server_has_no_user_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("prometheus: {url: 'kubernetes://monitoring/prometheus:9090', username: farm}\n")
    with pytest.raises(UserError, match="the API server passes no user and no token on to it"):
        loading.load(path)


@pytest.mark.parametrize("url", ["kubernetes://prometheus:9090", "kubernetes://a/b", "kubernetes://A/b:1"])
def test_the_address_of_a_service_is_namespace_name_and_port(tmp_path: Path, url: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"prometheus: {{url: '{url}'}}\n")
    with pytest.raises(UserError, match="kubernetes://namespace/service:port"):
        loading.load(path)
