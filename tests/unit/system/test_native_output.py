"""What native libraries write stays out of the terminal, each time in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

from farm import ROOT


def run(script: str) -> tuple[list[str], list[str]]:
    """Return what the script has printed as JSON, and the lines on standard error."""
    start = f"import json, os, sys; sys.path.insert(0, {str(ROOT)!r}); from posture.system import native_output\n"
    done = subprocess.run(
        [sys.executable, "-c", start + script], capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout), done.stderr.splitlines()


def test_native_lines_are_held_back_and_can_be_read_and_python_writes_on() -> None:
    taken, seen = run("""
native_output.hold_back()
print("before", file=sys.stderr)
os.write(2, b"noise\\nmore noise\\n")
print("after", file=sys.stderr)
print(json.dumps([*native_output.taken(), *native_output.taken()]))
""")
    assert taken == ["noise", "more noise"]
    assert seen == ["before", "after"]


def test_a_library_that_never_ends_its_noise_is_not_held_up() -> None:
    taken, seen = run("""
native_output.hold_back()
for _ in range(10_000):
    try:
        os.write(2, b"noise " * 100)
    except BlockingIOError:
        pass
print(json.dumps([str(len("".join(native_output.taken())) > 10_000)]))
""")
    assert taken == ["True"]
    assert seen == []


def test_where_nothing_is_held_back_there_is_nothing_to_read() -> None:
    taken, seen = run("""
os.write(2, b"noise\\n")
print(json.dumps(native_output.taken()))
""")
    assert (taken, seen) == ([], ["noise"])
