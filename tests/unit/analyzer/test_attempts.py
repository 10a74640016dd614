"""Frames that end the process are told from those that were only beside them, by what dead processes leave."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from posture.analyzer.attempts import CRASHED, KILLED, LIFE, MOST, REPORT, Attempts

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 60.0
DIES = """
import ctypes, os, sys
from pathlib import Path
from posture.analyzer.attempts import Attempts
attempts = Attempts(Path(sys.argv[1]))
for name in sys.argv[3:]:
    assert attempts.begin(name)
if sys.argv[2] == "crash":
    ctypes.string_at(0)
os.kill(os.getpid(), 9)
"""


def die(folder: Path, how: str, *working_on: str) -> None:
    """A process that begins these frames, and ends."""
    arguments = [sys.executable, "-c", DIES, str(folder), how, *working_on]
    ended = subprocess.run(arguments, check=False, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == (-signal.SIGSEGV if how == "crash" else -signal.SIGKILL), ended.stderr


def test_a_frame_that_crashed_two_processes_is_not_opened_by_the_third(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    die(tmp_path, "crash", "innocent", "guilty")
    assert "Segmentation fault" not in caplog.text
    second = Attempts(tmp_path)
    assert "Segmentation fault" in caplog.text, "the log of the next process names the cause"
    assert second.begin("innocent")
    second.end("innocent")
    second.close()
    die(tmp_path, "crash", "guilty")
    third = Attempts(tmp_path)
    assert third.begin("innocent")
    assert not third.begin("guilty")
    third.close()


def test_a_process_that_was_killed_counts_less_and_one_that_ended_by_itself_nothing(tmp_path: Path) -> None:
    for _ in range(MOST // KILLED - 1):
        die(tmp_path, "kill", "frame")
    survivor = Attempts(tmp_path)
    assert survivor.begin("frame")
    survivor.close()  # a stop: the frame is left to the broker
    die(tmp_path, "kill", "frame")
    after = Attempts(tmp_path)
    assert not after.begin("frame")
    after.close()


def test_what_survives_is_innocent_again(tmp_path: Path) -> None:
    die(tmp_path, "crash", "frame")
    attempts = Attempts(tmp_path)
    assert attempts.begin("frame")
    attempts.end("frame")
    attempts.close()
    assert list(tmp_path.iterdir()) == []


def test_a_suspect_is_worked_on_alone(tmp_path: Path) -> None:
    die(tmp_path, "crash", "suspect")
    attempts = Attempts(tmp_path)
    began = {name: threading.Event() for name in ("suspect", "next")}

    def work(name: str) -> None:
        attempts.begin(name)
        began[name].set()

    attempts.begin("before")
    threads = [threading.Thread(target=work, args=("suspect",))]
    threads[0].start()
    assert not began["suspect"].wait(0.2)
    attempts.end("before")
    assert began["suspect"].wait(WAIT_S)
    threads.append(threading.Thread(target=work, args=("next",)))
    threads[1].start()
    assert not began["next"].wait(0.2)
    attempts.end("suspect")
    assert began["next"].wait(WAIT_S)
    for thread in threads:
        thread.join()
    attempts.close()


def test_two_processes_of_one_stream_do_not_suspect_each_others_frames(tmp_path: Path) -> None:
    older = Attempts(tmp_path)
    older.begin("frame")
    newer = Attempts(tmp_path)
    older.end("frame")
    older.close()
    newer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_the_memory_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    attempts = Attempts(tmp_path / "file" / "attempts")
    assert attempts.begin("frame")
    attempts.end("frame")
    attempts.close()


def test_nothing_else_is_marked_when_a_suspect_is_let_in(tmp_path: Path) -> None:
    names = [f"suspect{number}" for number in range(300)]
    for name in names:
        (tmp_path / name).write_text(str(CRASHED))
    attempts = Attempts(tmp_path)
    (life,) = tmp_path.glob(f"{LIFE}*")
    marked: list[set[str]] = []

    def let_in(name: str) -> None:
        attempts.begin(name)
        marked.append({path.name for path in life.iterdir()} - {REPORT, name})

    for number, name in enumerate(names):
        attempts.begin(f"innocent{number}")
        waiting = threading.Thread(target=let_in, args=(name,))
        waiting.start()
        attempts.end(f"innocent{number}")
        waiting.join()
        attempts.end(name)
    attempts.close()
    assert marked == [set()] * len(names)
