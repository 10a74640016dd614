"""The probe that Docker and Kubernetes run beside an analyzer."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from farm import Analyzer, Camera, Watcher, clip_jpegs, ended
from servers import Mosquitto

ROOT = Path(__file__).resolve().parents[2]


def probe(**settings: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")} | settings
    command = [sys.executable, "-m", "posture.health"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_the_probe_passes_while_frames_are_finished_or_the_store_is_away_and_fails_when_all_stands_still(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    settings = {
        "POSTURE_ANALYZER_PROGRESS_FILE": str(tmp_path / "progress"),
        "POSTURE_ANALYZER_STUCK_AFTER_S": "8",
    }
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port, POSTURE_DATABASE_TIMEOUT_S="0.5", **settings)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        assert probe(**settings).returncode == 0

        # the store is away for longer than a stuck analyzer is given: somebody else holds the database
        with contextlib.closing(sqlite3.connect(analyzer.database)) as db:
            db.execute("BEGIN EXCLUSIVE")
            camera.publish_now(clip_jpegs(1, 320)[0])
            analyzer.wait_for_log("frames wait unacknowledged")
            away_until = time.monotonic() + 9
            while time.monotonic() < away_until:  # it must hold all the time: no event tells of it
                assert probe(**settings).returncode == 0
        watcher.wait_for(lambda w: len(w.receipts) == 1)

        assert analyzer.process is not None
        analyzer.process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 60
        while probe(**settings).returncode == 0:
            assert time.monotonic() < deadline
        failed = probe(**settings)
        assert failed.returncode == 1
        assert "no progress for" in failed.stderr
        analyzer.process.send_signal(signal.SIGCONT)
    watcher.close()
    camera.close()


@pytest.mark.parametrize(
    ("settings", "status", "said"),
    [
        pytest.param({}, 2, "POSTURE_ANALYZER_PROGRESS_FILE", id="not set"),
        pytest.param({"POSTURE_ANALYZER_PROGRESS_FILE": "/nowhere/progress"}, 1, "has not started", id="no file"),
    ],
)
def test_the_probe_says_what_is_missing(settings: dict[str, str], status: int, said: str) -> None:
    done = probe(**settings)
    assert done.returncode == status
    assert said in done.stderr


def test_a_progress_file_that_cannot_be_written_ends_the_analyzer_at_once(tmp_path: Path) -> None:
    analyzer = Analyzer(tmp_path, 1, POSTURE_ANALYZER_PROGRESS_FILE="/nowhere/progress")
    with ended(analyzer):
        assert analyzer.start().process is not None
        assert analyzer.process.wait(60) == 2
    assert "analyzer.progress_file: /nowhere/progress can't be written" in analyzer.log.read_text()
