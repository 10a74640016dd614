#!/usr/bin/env python3
"""What gpu_exporter.py costs: resident memory, and processor time as a share of one core, scraped once a second.

python3 bench/exporter.py [--seconds 60]
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import requests
from processes import cpu_seconds, peak_kib
from servers import free_port, wait_until_accepting

from posture.settings.flags import positive


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=positive, default=60.0)
    flags = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "gpu_exporter.py"), "--listen", f"127.0.0.1:{port}"], stderr=output
            )
        try:
            wait_until_accepting(port, process, log)
            began, used = time.monotonic(), cpu_seconds(process.pid)
            while time.monotonic() - began < flags.seconds:
                requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).raise_for_status()
                time.sleep(1)
            took = time.monotonic() - began
            share = (cpu_seconds(process.pid) - used) / took * 100
            peak = peak_kib(process.pid) / 1024
            print(f"{peak:.1f} MB resident at most, {share:.2f} % of one core over {took:.0f} s")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


if __name__ == "__main__":
    main()
