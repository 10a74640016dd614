"""The list of cameras: how it is written, what it comes to, and which files are one stream's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from posture.errors import UserError
from posture.settings import loading, streams
from posture.settings.table import Settings

ROOT = Path(__file__).resolve().parents[3]


def settings_of(text: str, folder: Path) -> Settings:
    path = folder / "farm.yaml"
    path.write_text(text)
    return loading.load(path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("streams:\n  - hall-10\n  - hall-2: {rule_set: tutorial}\n  - 7\n  - 'on'\n", id="a list"),
        pytest.param("streams: [hall-10, hall-2: {rule_set: tutorial}, 7, on]\n", id="a list on one line"),
        pytest.param("streams:\n  hall-10:\n  hall-2: {rule_set: tutorial}\n  7: {}\n  on:\n", id="a map"),
    ],
)
def test_a_list_and_a_map_name_the_same_streams_which_come_in_natural_order(tmp_path: Path, text: str) -> None:
    settings = settings_of(text, tmp_path)
    assert streams.names(settings) == ["7", "hall-2", "hall-10", "on"]
    assert settings.for_stream("hall-2").rule_set == "tutorial"
    assert settings.for_stream("hall-10").rule_set == "auto"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("- hall-1\n- Hall-2", "2: streams: 'Hall-2' is no stream's name; accepted: a-z", id="capital"),
        pytest.param("- hall-1\n- hall-1", "2: streams.hall-1 stands there twice", id="twice"),
        pytest.param(
            "- hall-1\n- hall-1: {keep: all}", "2: streams.hall-1 stands there twice", id="twice, once as a map"
        ),
        pytest.param(
            "- hall-1:\n  keep: all",
            "1: streams: this item is no name; accepted: - NAME, or - NAME: {",
            id="indented too little",
        ),
        pytest.param("- [a, b]", "1: streams: this item is no name", id="a list in the list"),
        pytest.param("- hall-1\n-", "2: streams: '' is no stream's name", id="an empty item"),
        pytest.param("- " + "a" * 33, "1: streams: '" + "a" * 33 + "' is no stream's name", id="too long"),
        pytest.param("- hall/1", "1: streams: 'hall/1' is no stream's name", id="two topics"),
        pytest.param("- '#'", "1: streams: '#' is no stream's name", id="a wildcard"),
        pytest.param(
            "- tls",
            "1: streams: 'tls' is no stream's name; accepted: one that no image or Secret",
            id="the farm's own",
        ),
        pytest.param(
            "- hall-1: {keeps: all}",
            "1: streams.hall-1.keeps: unknown key; did you mean keep?",
            id="an unknown key",
        ),
        pytest.param(
            "- hall-1: [keep]",
            "1: streams.hall-1: ['keep'] is not accepted; accepted: keys of analyzer",
            id="no keys",
        ),
        pytest.param(
            "hall-1, hall-2", "1: streams: 'hall-1, hall-2' is not accepted; accepted: a list of names", id="a text"
        ),
        pytest.param("{? [a, b] : {}}", "1: streams: a list or map stands where a key must", id="a list for a key"),
        pytest.param("&a [*a]", "1: streams: this item is no name", id="in itself"),
        pytest.param("&a [hall-1: *a]", "1: streams.hall-1: is an alias of what it stands in", id="below itself"),
    ],
)
def test_what_names_no_stream_is_refused_by_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "farm.yaml"
    path.write_text(f"streams: # names\n{text}\n" if "\n" in text or text.startswith("-") else f"streams: {text}\n")
    above = path.read_text().startswith("streams: #")
    with pytest.raises(UserError) as caught:
        loading.load(path)
    (line,) = str(caught.value).splitlines()
    number, rest = said.split(":", 1)
    assert line.startswith(f"{path}:{int(number) + above}:{rest}")


def test_without_a_list_each_file_of_a_scaledjob_stands_for_a_stream(tmp_path: Path) -> None:
    for name in ("pi10", "pi2"):
        (tmp_path / f"posture-job-{name}.yaml").touch()
    assert streams.names(Settings(), tmp_path) == ["pi2", "pi10"]
    assert streams.names(Settings(streams={"hall-1": {}}), tmp_path) == ["hall-1"]


def test_files_of_streams_that_the_farm_does_not_have_are_known(tmp_path: Path) -> None:
    for name in ("posture-job-pi1.yaml", "Images_From_Pi1.py", "posture-job-hall-1.yaml", "Images_From_Pi.py"):
        (tmp_path / name).touch()
    left_out = streams.left_out(Settings(streams={"hall-1": {}}), tmp_path)
    assert {name: [path.name for path in paths] for name, paths in left_out.items()} == {
        "pi1": ["posture-job-pi1.yaml", "Images_From_Pi1.py"]
    }


def test_the_common_script_is_no_streams_own(tmp_path: Path) -> None:
    for name in ("Images_From_Pi.py", "Images_From_Hall-1.py"):
        (tmp_path / name).touch()
    assert streams.own_script("pi", tmp_path) is None
    assert streams.own_script("hall-1", tmp_path) == tmp_path / "Images_From_Hall-1.py"
    assert streams.own_script("hall-2", tmp_path) is None


# the common script


def run(settings: Path, *flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "Images_From_Pi.py"), "--config", str(settings), *flags]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        pytest.param({}, "POSTURE_STREAM: must be given: which camera's pictures?", id="missing"),
        pytest.param({"POSTURE_STREAM": ""}, "POSTURE_STREAM: must be given", id="empty"),
        pytest.param(
            {"POSTURE_STREAM": "hall-3"},
            "'hall-3' is no stream of this farm, which has them under streams in cluster.yaml; accepted: the "
            "name of a stream, such as hall-1, hall-2",
            id="unknown",
        ),
        pytest.param(
            {"POSTURE_STREAM": "Hall 1"}, "'Hall 1' is no stream's name; accepted: a-z, 0-9 and -", id="no name"
        ),
    ],
)
def test_the_common_script_says_which_stream_it_needs(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    settings = tmp_path / "farm.yaml"
    settings.write_text("streams: [hall-1, hall-2]\n")
    done = run(settings, **environ)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: environment: POSTURE_STREAM: ")
    assert said in line


def test_the_topics_of_a_stream_that_was_taken_out_of_the_list_can_be_cleared(tmp_path: Path) -> None:
    settings = tmp_path / "farm.yaml"
    settings.write_text("streams: [hall-1]\nmqtt: {url: 'mqtt://127.0.0.1:9'}\n")
    done = run(settings, "--clear-topics", POSTURE_STREAM="hall-9")
    assert "error: broker mqtt://127.0.0.1:9" in done.stderr, "it gets as far as the broker"
