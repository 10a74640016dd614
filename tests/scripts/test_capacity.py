"""bench/capacity.py: the search for the number of streams, what counts as carried, and one short run of it all."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ramp import Found, search, why_not_carried

from posture.simulator.measured import read_classes

ROOT = Path(__file__).resolve().parents[2]

FIVE_A_SECOND = [number / 5 for number in range(75)]


@pytest.mark.parametrize("guess", [1, 7, 40, 400])
@pytest.mark.parametrize("capacity", [0, 1, 2, 9, 10, 11, 57, 100])
def test_the_search_ends_at_the_most_streams_that_are_carried_whatever_the_guess(capacity: int, guess: int) -> None:
    tried: list[int] = []

    def carries(count: int) -> bool:
        tried.append(count)
        return count <= capacity

    found = search(carries, guess, 100, lambda: False)
    assert found == Found(capacity, capacity + 1 if capacity < 100 else None, finished=True)
    assert len(tried) == len(set(tried)) <= 25
    assert 1 <= min(tried) <= max(tried) <= 100


def test_a_search_without_time_says_what_it_knows_so_far() -> None:
    assert search(lambda count: count <= 50, 10, 100, lambda: True) == Found(10, None, finished=False)


def test_frames_are_carried_if_99_percent_come_in_time() -> None:
    in_time = [(due, 0.1) for due in FIVE_A_SECOND]
    assert why_not_carried(in_time, 1.0) == ""
    two_of_75_late = [(due, 1.5 if number in (20, 50) else 0.1) for number, (due, _) in enumerate(in_time)]
    assert why_not_carried(two_of_75_late, 1.0) == "p99 1.50 s"
    assert why_not_carried([(due, math.inf) for due in FIVE_A_SECOND], 1.0) == "p99 inf s"


def test_a_delay_that_grows_is_not_carried_though_the_trial_was_too_short_to_see_its_end() -> None:
    grows = [(due, 0.1 + 0.03 * due) for due in FIVE_A_SECOND]
    assert max(delay for _, delay in grows) < 0.6
    assert why_not_carried(grows, 1.0) == "the delay grows by 1.8 s a minute"
    with_one_hiccup = [(due, 0.9 if 6 < due < 8 else 0.1) for due in FIVE_A_SECOND]
    assert why_not_carried(with_one_hiccup, 1.0) == ""


def capacity(*flags: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / "capacity.py"), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd="/")


def test_a_short_run_measures_both_ways_and_writes_a_class_that_simulate_takes(
    tmp_path: Path, postgres: object
) -> None:
    del postgres  # skips where there is no PostgreSQL
    classes = tmp_path / "classes.yaml"
    done = capacity(
        # five frames: on a busy machine the last one may well take seconds longer than the first
        "--rounds", 1, "--most", 1, "--seconds", 1, "--limit", 600, "--write-class", "board", "--classes", classes
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.split(" | ")[0] for line in done.stdout.splitlines() if "1 or more" in line] == [
        "| ours",
        "| tutorial",
    ]
    assert "board: more than 1 streams may be carried, the search has ended before: --most" in done.stdout
    board = read_classes(classes)["board"]
    assert board.streams == 1
    assert board.processor > 0.01
    assert 50 < board.pss_mb <= board.rss_mb < 1000
    simulated = subprocess.run(
        [sys.executable, str(ROOT / "simulate.py"), "--measured", str(classes), "--classes", "board:7,other:1",
         "--loops", "2", "--json"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert '"board": {"count": 7, "speed": 0.1,' in simulated.stdout
    assert '"other": {"count": 1, "speed": 1.0,' in simulated.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--ways", "theirs"], "--ways 'theirs' is not accepted; accepted: ours, tutorial", id="way"),
        pytest.param(["--seconds", 0], "--seconds 0.0 is not accepted", id="no time"),
        pytest.param(["--write-class", "a:b"], "--write-class 'a:b' is not accepted", id="name"),
        pytest.param(["--ways", "tutorial", "--write-class", "a"], "needs ours among --ways", id="not ours"),
    ],
)
def test_bad_flags_are_named_before_anything_is_measured(flags: list[object], message: str) -> None:
    done = capacity(*flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("bench", ["scaler.py", "many_streams.py"])
def test_without_the_servers_a_benchmark_names_the_package(bench: str, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / bench)],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, env=environ | {"PATH": "/nowhere"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: prometheus is not installed: apt-get install prometheus\n"
