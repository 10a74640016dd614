from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from posture.errors import UserError
from posture.lifecycle.setup import settings_lines

PATH = Path("cluster.yaml")
DELIVERED = (Path(__file__).resolve().parents[4] / "cluster.yaml").read_text()
QUERY = '{instance: "orin:9101", signal: [gpu, cpu]}'
QUERIES = {"orin": QUERY, "nano-10": '{instance: "nano-10:9101", signal: cpu}'}
FOUND = {"prometheus.url": "kubernetes://monitoring/prometheus:9090", "images.registry": "127.0.0.1:30500"}
FILES = {
    "as delivered": DELIVERED,
    "empty": "",
    "no newline at the end": "streams: [a]",
    "nulls and braces": "GPU_QUERIES: {}\nprometheus: null\nimages: ~\n",
    "entries": "GPU_QUERIES:\n    old: {instance: a, signal: cpu}  # mine\nimages:\n  tag: v1\n\n"
    "prometheus:\n  max_age_s: 3\n",
    "blocks": "prometheus:\n  max_age_s:\n    3\nGPU_QUERIES:\n  old:\n    instance: a\n    signal:\n"
    "    - cpu\n# end\n",
}  # fmt: skip


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_lines_are_added_and_nothing_else_changes(text: str) -> None:
    edited = settings_lines.added(text, QUERIES, FOUND, PATH)
    before, after = yaml.safe_load(text) or {}, yaml.safe_load(edited)
    assert after["GPU_QUERIES"] == {
        **(before.get("GPU_QUERIES") or {}), **{name: yaml.safe_load(value) for name, value in QUERIES.items()}
    }  # fmt: skip
    assert after["prometheus"]["url"] == FOUND["prometheus.url"]
    assert after["images"]["registry"] == FOUND["images.registry"]
    for section in before.keys() - {"GPU_QUERIES", "prometheus", "images"}:
        assert after[section] == before[section]


@pytest.mark.parametrize("name", ["as delivered", "empty", "entries", "blocks"])
def test_what_was_added_is_taken_away_byte_for_byte(name: str) -> None:
    edited = settings_lines.added(FILES[name], QUERIES, FOUND, PATH)
    assert settings_lines.removed(edited, QUERIES, FOUND) == (FILES[name], [])


def test_a_line_that_was_changed_since_stays_and_is_told_of() -> None:
    edited = settings_lines.added(DELIVERED, QUERIES, FOUND, PATH).replace('"orin:9101"', '"192.0.2.7"')
    text, theirs = settings_lines.removed(edited, QUERIES, FOUND)
    assert list(yaml.safe_load(text)["GPU_QUERIES"]) == ["orin"]
    assert theirs == ['orin: {instance: "192.0.2.7", signal: [gpu, cpu]}']


def test_the_line_of_a_node_that_has_gone_goes_too() -> None:
    edited = settings_lines.added(DELIVERED, QUERIES, {}, PATH)
    assert settings_lines.removed(edited, {"orin": QUERY}, {}) == (DELIVERED, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("GPU_QUERIES: {a: {instance: b, signal: cpu}}", r"cluster\.yaml:1: GPU_QUERIES stands in braces; "),
        ("GPU_QUERIES: [", r"cluster\.yaml: is not YAML: "),
        ("- a", r"cluster\.yaml: is not YAML: "),
    ],
)  # fmt: skip
def test_a_file_to_which_no_line_can_be_added_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        settings_lines.added(text, QUERIES, FOUND, PATH)
    assert "\n" not in str(caught.value)


def test_a_line_of_a_setting_is_put_below_its_default() -> None:
    edited = settings_lines.added(DELIVERED, {}, FOUND, PATH)
    assert re.search(r"# url: http://127\.0\.0\.1:9090 .*\n  url: kubernetes://", edited)
