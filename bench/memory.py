#!/usr/bin/env python3
"""Memory of one analyzer: on a large backlog, with the store away in the middle of it, and over many frames.

    .venv/bin/python bench/memory.py                    # a backlog of 2,000 frames of about 200 kB
    .venv/bin/python bench/memory.py --frames 20000     # the growth over 20,000 small frames
    .venv/bin/python bench/memory.py --side-by-side 4   # so many analyzers that track somebody at 5 frames a second

Prints resident memory in MB after the first frames, which need both landmarkers, at each tenth of the way, and
the peak. Side by side each analyzer's resident memory and its share (PSS), when all have looked for others and when
they track alone.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import cv2
import numpy as np
import psycopg
from farm import Analyzer, Camera, Watcher, clip_jpegs, ended
from processes import peak_kib, pss_kib
from servers import Mosquitto, Postgres, make_cluster, postgres_binaries, server_user

from posture.settings.flags import whole

LARGE = 200_000


def large_jpegs() -> list[bytes]:
    """The clip's frames at a quality that gives about 200 kB each."""
    jpegs = []
    for jpeg in clip_jpegs(60, 960):
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        sizes = (cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, q])[1].tobytes() for q in range(90, 101))
        jpegs.append(next((data for data in sizes if len(data) >= LARGE), b"") or jpeg)
    return jpegs


def main() -> None:
    """Fill the broker, start the analyzer, watch its memory."""
    parser = argparse.ArgumentParser(description="Watch one analyzer's memory.")
    parser.add_argument("--frames", type=whole, help="so many small frames instead of the large backlog")
    parser.add_argument("--side-by-side", type=whole, help="so many analyzers instead, at 5 frames a second")
    flags = parser.parse_args()
    if flags.side_by_side:
        with tempfile.TemporaryDirectory() as name:
            side_by_side(Path(name), flags.side_by_side)
        return
    count = flags.frames or 2000
    jpegs = clip_jpegs(190, 320) if flags.frames else large_jpegs()
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), jpegs, count, outage=not flags.frames)


def side_by_side(folder: Path, count: int) -> None:
    """Print the memory of analyzers over 20 s of somebody alone, each with a broker, camera and SQLite file."""
    jpeg = (ROOT / "samples" / "side_walk.jpg").read_bytes()
    cameras, analyzers = [], []
    with contextlib.ExitStack() as end:
        for number in range(count):
            place = folder / str(number)
            place.mkdir()
            broker = Mosquitto(place / "broker")
            broker.start()
            end.callback(broker.stop)
            watcher, camera = Watcher(broker.port), Camera(broker.port)
            end.callback(watcher.close)
            end.callback(camera.close)
            analyzer = Analyzer(place, broker.port, POSTURE_ANALYZER_KEEP="changes")
            end.enter_context(ended(analyzer))
            analyzer.start().wait_online(watcher)
            cameras.append(camera)
            analyzers.append(analyzer)
        for frame in range(101):
            for camera in cameras:
                camera.publish_now(jpeg)
            time.sleep(0.2)
            if frame in (10, 100):
                rss = ", ".join(f"{analyzer.memory_bytes() / 1e6:.0f}" for analyzer in analyzers)
                pss = ", ".join(f"{pss_kib(a.process.pid) * 1.024e-3:.0f}" for a in analyzers if a.process)
                print(f"{frame} frames each: RSS {rss} MB; PSS {pss} MB", flush=True)


def measure(folder: Path, jpegs: list[bytes], count: int, *, outage: bool) -> None:
    """Print the memory on the way through ``count`` frames; with ``outage`` PostgreSQL is away half-way."""
    folder.chmod(0o755)
    binaries, user = postgres_binaries(), server_user()
    make_cluster(folder / "data", binaries, user)
    database = Postgres(folder / "data", binaries, user)
    broker = Mosquitto(folder / "broker")
    database.start()
    broker.start()
    with psycopg.connect(database.url, autocommit=True) as db:
        db.execute((ROOT / "deploy" / "schema" / "schema.sql").read_text())
    watcher, camera = Watcher(broker.port), Camera(broker.port)
    analyzer = Analyzer(folder, broker.port, database=database.url)
    try:
        with ended(analyzer):
            analyzer.start().wait_online(watcher)
            somebody = clip_jpegs(125, 640)[35:]
            for jpeg in somebody:
                camera.publish_now(jpeg)
            watcher.wait_for(lambda w: len(w.receipts) == len(somebody))
            print(f"tracking alone, {len(somebody)} frames: {analyzer.memory_bytes() / 1e6:.0f} MB", flush=True)
            analyzer.stop()
            watcher.receipts.clear()
            for number in range(count):
                camera.publish_now(jpegs[number % len(jpegs)])
            size = sum(map(len, jpegs)) / len(jpegs)
            print(f"{count} frames of {size / 1000:.0f} kB wait in the broker", flush=True)
            analyzer.start()
            for tenth in range(1, 11):
                watcher.wait_for(lambda w, tenth=tenth: len(w.receipts) >= count * tenth // 10, 1200)
                print(f"{len(watcher.receipts)} frames: {analyzer.memory_bytes() / 1e6:.0f} MB", flush=True)
                if outage and tenth == 5:
                    database.stop()
                    watcher.wait_for(lambda w: w.retained["status/pi1"].get("why") == "waiting for the store")
                    print(f"store away: {analyzer.memory_bytes() / 1e6:.0f} MB", flush=True)
                    database.start()
            assert analyzer.process is not None
            print(f"peak {peak_kib(analyzer.process.pid) * 1.024e-3:.0f} MB")
            analyzer.stop()
    finally:
        watcher.close()
        camera.close()
        broker.stop()
        database.stop()
        shutil.rmtree(folder / "data")


if __name__ == "__main__":
    main()
