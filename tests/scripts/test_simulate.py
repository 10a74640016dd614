"""simulate.py as an operator runs it, with its pictures (heatmap.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIT = ["--jobs", "40", "--classes", "agx:1:4.5,orin:2:2.5,nano:4:1", "--fit"]


def simulate(*flags: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "simulate.py"), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd="/")


def test_forty_cameras_on_seven_boards_are_answered_in_one_command_with_one_picture(tmp_path: Path) -> None:
    picture = tmp_path / "fit.png"
    done = simulate(*FIT, "--plot", picture)
    assert done.returncode == 0, done.stderr
    assert "40 streams on 7 nodes at threshold 50: they fit" in done.stdout
    assert "lowest threshold that holds: 35" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(picture.read_bytes()) > 20_000


def test_too_few_boards_are_called_too_few() -> None:
    done = simulate("--jobs", 60, "--nodes", 2, "--load", "10-20", "--fit", "--loops", 5)
    assert done.returncode == 0
    assert "none; these boards are too few" in done.stdout


def test_json_has_every_figure_of_the_report() -> None:
    done = simulate(ROOT / "scenarios" / "ten-equal.yaml", "--runs", 3, "--seed", 5, "--json", "--fit")
    report = json.loads(done.stdout)
    assert [run["seed"] for run in report["runs"]] == [5, 6, 7]
    run = report["runs"][0]
    assert run["stable"] is True
    assert run["bounds"].keys() == {"max_load", "loops", "moves"}
    for figure in (
        "max_load",
        "loops_to_stable",
        "moves",
        "repeated",
        "overloaded_node_s",
        "downtime_s",
        "unplaceable",
    ):
        assert run[figure] >= 0
    assert report["scenario"]["jobs"] == 40
    assert report["fit"]["lowest_threshold"] > 0


def test_the_same_command_gives_the_same_answer() -> None:
    flags = ["--nodes", 5, "--jobs", 30, "--noise", 3, "--seed", 7, "--loops", 20, "--json"]
    assert simulate(*flags).stdout == simulate(*flags).stdout


def test_flags_override_the_file() -> None:
    done = simulate(ROOT / "scenarios" / "ten-equal.yaml", "--policy", "none", "--jobs", 41, "--json")
    report = json.loads(done.stdout)
    assert report["scenario"]["jobs"] == 41
    assert report["runs"][0]["moves"] == 0


def test_a_picture_of_lost_nodes_and_of_a_large_farm_can_be_drawn(tmp_path: Path) -> None:
    for name, flags in {"node-loss": [], "thousand": ["--nodes", 80, "--jobs", 800, "--loops", 5]}.items():
        picture = tmp_path / f"{name}.svg"
        done = simulate(ROOT / "scenarios" / f"{name}.yaml", *flags, "--plot", picture)
        assert done.returncode == 0, done.stderr
        assert "<svg" in picture.read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--threshold", 101], "threshold: '101' is not accepted; accepted: 0 to 100", id="threshold"),
        pytest.param(["--nodes", "0"], "--nodes '0' is not accepted", id="no nodes"),
        pytest.param(["--nodes", 3, "--classes", "a:1"], "only one of them", id="nodes and classes"),
        pytest.param(["--classes", "agx"], "NAME:COUNT:SPEED", id="classes"),
        pytest.param(["--load", "9-3"], "load: ['9', '3'] is not accepted", id="load"),
        pytest.param(["--policy", "best"], "one of readme, guarded, none", id="policy"),
        pytest.param(["--noise", "nan"], "noise: 'nan' is not accepted", id="noise"),
        pytest.param(["--runs", 0], "--runs: 0 is not accepted", id="runs"),
        pytest.param(["--plot", "a.gif"], "accepted: a name that ends in .png, .svg, .pdf", id="plot"),
        pytest.param(["--plot", "/no/such/folder/a.png"], "there is no folder", id="folder"),
        pytest.param(["/no/such.yaml"], "can't be read", id="no file"),
    ],
)
def test_bad_flags_are_named_with_what_is_accepted(flags: list[object], message: str) -> None:
    done = simulate(*flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        pytest.param(
            "jbos: 3\nthreshold: -1\n", ["jbos: is not known; did you mean jobs?", "threshold: -1"], id="all"
        ),
        pytest.param("events: [{at_s: 1, node: x-1, what: down}]", ["'x-1' is none of the nodes"], id="node"),
        pytest.param("events: [{at_s: 1, node: node-1, what: explode}]", ["events:"], id="event"),
        pytest.param("classes: {a: {count: 2, sped: 3}}", ["classes:"], id="class"),
        pytest.param("window_s: 6", ["fewer than two scrapes"], id="window"),
        pytest.param("idle: 7", ["leaves none for the jobs"], id="idle"),
        pytest.param("- a\n- b\n", ["is no scenario"], id="list"),
        pytest.param("a: [", ["is not YAML"], id="yaml"),
        pytest.param("[" * 5000, ["is not YAML"], id="too deep"),
        pytest.param("jobs: 2024-13-45", ["is not YAML"], id="no such day"),
    ],
)
def test_a_bad_scenario_is_refused_with_file_key_and_value(tmp_path: Path, text: str, messages: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    done = simulate(path)
    assert done.returncode == 2
    assert all(message in done.stderr for message in [str(path), *messages])
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = [sys.executable, str(ROOT / "simulate.py"), str(ROOT / "scenarios" / "ten-equal.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
