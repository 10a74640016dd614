#!/usr/bin/env python3
"""Frames a second, CPU and memory of the whole analyzer, beside the bare landmarker and the tutorial's way.

    .venv/bin/python bench/analyzer.py                # 300 frames at three sizes
    .venv/bin/python bench/analyzer.py --frames 1000
    .venv/bin/python bench/analyzer.py --keep all     # a picture of each frame; else as shipped

(a) the landmarker alone, VIDEO mode, over decoded frames; (b) our whole path, from the broker to the committed
row and picture, working off a backlog in a real Mosquitto, and then live at 5 frames a second with SQLite and with
PostgreSQL; (c) the usual way: IMAGE mode, decode, infer, draw, write, one commit a row, all in the MQTT callback's
thread. The same frames, one after the other, in one run; (a) before and after (b), its mean counts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import subprocess
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
from processes import cpu_seconds, peak_kib
from servers import Mosquitto, Postgres, make_cluster, postgres_binaries, server_user

SIZES = {640: 480, 1280: 720, 1920: 1080}
LIVE = 100
"""Frames at 5 a second."""
MODEL = str(ROOT / "models" / "pose_landmarker_full.task")


def frames_of(count: int, width: int, height: int) -> list[bytes]:
    """The sample clip as JPEGs of one size, there and back, up to ``count``."""
    jpegs = []
    # the part that shows somebody: where nobody is, (b) looks twice by design, and (a) does not
    for jpeg in clip_jpegs(125, width)[35:]:
        picture = cv2.resize(cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1), (width, height))
        jpegs.append(cv2.imencode(".jpg", picture)[1].tobytes())
    jpegs += jpegs[::-1]  # a clip that begins anew is a cut, and each cut a search
    return [jpegs[number % len(jpegs)] for number in range(count)]


def landmarker(mode: str):
    """Return a landmarker as the vendor's sample makes it, on the CPU."""
    from mediapipe.tasks import python as tasks  # noqa: PLC0415 - loaded in the measured child only
    from mediapipe.tasks.python import vision  # noqa: PLC0415

    options = vision.PoseLandmarkerOptions(
        base_options=tasks.BaseOptions(model_asset_path=MODEL), running_mode=getattr(vision.RunningMode, mode)
    )
    return vision.PoseLandmarker.create_from_options(options)


def bare(folder: Path) -> dict[str, float]:
    """(a): only the landmarker is timed; frames are decoded before."""
    import mediapipe as mp  # noqa: PLC0415

    pictures = [
        mp.Image(image_format=mp.ImageFormat.SRGB, data=cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
        for path in sorted(folder.glob("*.jpg"))
    ]
    with landmarker("VIDEO") as model:
        model.detect_for_video(pictures[0], 0)
        start, cpu = time.perf_counter(), time.process_time()
        for number, picture in enumerate(pictures, 1):
            model.detect_for_video(picture, number * 33)
        return {"s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}


def tutorial(folder: Path) -> dict[str, float]:
    """(c): everything one after the other, a commit a row."""
    import mediapipe as mp  # noqa: PLC0415

    out = folder / "out"
    out.mkdir(exist_ok=True)
    payloads = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    db = sqlite3.connect(folder / "tutorial.db")
    db.execute("CREATE TABLE posture_log (name TEXT, neck REAL)")
    with landmarker("IMAGE") as model:
        start, cpu = time.perf_counter(), time.process_time()
        for number, payload in enumerate(payloads):
            picture = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
            rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            found = model.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=rgb)).pose_landmarks
            height, width = picture.shape[:2]
            for point in found[0] if found else []:
                cv2.circle(picture, (int(point.x * width), int(point.y * height)), 4, (0, 255, 0), -1)
            cv2.imwrite(str(out / f"{number}.jpg"), picture)
            db.execute("INSERT INTO posture_log VALUES (?, ?)", (str(number), 0.0))
            db.commit()
        return {"s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}


def peak_mb(pid: int) -> float:
    """Peak resident memory of a process."""
    return peak_kib(pid) / 1000


def whole(jpegs: list[bytes], folder: Path, keep: str, database: str = "") -> dict[str, float]:
    """(b): frames wait in the broker; timed from the first receipt to the last. Then live at 5 frames/s."""
    folder.mkdir()
    broker = Mosquitto(folder / "broker")
    broker.start()
    watcher, camera = Watcher(broker.port), Camera(broker.port)
    analyzer = Analyzer(folder, broker.port, database=database, POSTURE_ANALYZER_KEEP=keep)
    try:
        with ended(analyzer):
            analyzer.start().wait_online(watcher)
            analyzer.stop()
            for jpeg in jpegs:
                camera.publish_now(jpeg)
            analyzer.start()
            assert analyzer.process is not None
            pid = analyzer.process.pid
            watcher.wait_for(lambda w: len(w.receipts) > 0, 120)
            start, cpu, before = time.perf_counter(), cpu_seconds(pid), len(watcher.receipts)
            watcher.wait_for(lambda w: len(w.receipts) == len(jpegs), 600)
            seconds, done = time.perf_counter() - start, len(jpegs) - before
            cpu = cpu_seconds(pid) - cpu
            live_cpu, latencies = cpu_seconds(pid), []
            for jpeg in jpegs[:LIVE]:
                sent = time.perf_counter()
                camera.publish(jpeg)
                name = camera.published[-1]
                watcher.wait_for(lambda w, name=name: name in w.receipts)
                latencies.append(time.perf_counter() - sent)
                time.sleep(max(0.0, 0.2 - latencies[-1]))
            live_cpu = cpu_seconds(pid) - live_cpu
            peak = peak_mb(pid)
            analyzer.stop()
    finally:
        watcher.close()
        camera.close()
        broker.stop()
    return {
        "fps": done / seconds,
        "cpu_ms": 1000 * cpu / done,
        "live_cpu_ms": 1000 * live_cpu / len(latencies),
        "peak_mb": peak,
        "p50_ms": 1000 * float(np.percentile(latencies, 50)),
        "p99_ms": 1000 * float(np.percentile(latencies, 99)),
    }


def whole_with_postgres(jpegs: list[bytes], folder: Path, keep: str) -> dict[str, float]:
    """(b) with a PostgreSQL of its own."""
    binaries, user = postgres_binaries(), server_user()
    folder.chmod(0o755)
    make_cluster(folder / "data", binaries, user)
    database = Postgres(folder / "data", binaries, user)
    database.start()
    try:
        with psycopg.connect(database.url, autocommit=True) as db:
            db.execute((ROOT / "deploy" / "schema" / "schema.sql").read_text())
        return whole(jpegs, folder / "p", keep, database.url)
    finally:
        database.stop()
        shutil.rmtree(folder / "data")


def child(way: str, folder: Path) -> dict[str, float]:
    """Run (a) or (c) in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Measure the analyzer side by side.")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--keep", choices=["changes", "all"], default="changes")
    parser.add_argument("--way", choices=["bare", "tutorial"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.way:
        print(json.dumps({"bare": bare, "tutorial": tutorial}[flags.way](flags.folder)))
        return
    print(
        "| size | a fps | b fps | c fps | b/a | b/c | a, b, c CPU ms | b/a CPU | b live CPU ms, /a | b peak MB "
        "| b p50, p99 ms at 5 fps, SQLite | PostgreSQL |"
    )
    print("|" + "---|" * 12)
    for width, height in SIZES.items():
        jpegs = frames_of(flags.frames, width, height)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for number, jpeg in enumerate(jpegs):
                (folder / f"{number:05d}.jpg").write_bytes(jpeg)
            before = child("bare", folder)
            b = whole(jpegs, folder / "b", flags.keep)
            after, c = child("bare", folder), child("tutorial", folder)
            p = whole_with_postgres(jpegs[:LIVE], folder, flags.keep)
        a = {what: (before[what] + after[what]) / 2 for what in before}
        a_fps, c_fps = len(jpegs) / a["s"], len(jpegs) / c["s"]
        a_ms, c_ms = (1000 * way["cpu_s"] / len(jpegs) for way in (a, c))
        print(
            f"| {width}x{height} | {a_fps:.1f} | {b['fps']:.1f} | {c_fps:.1f} | {b['fps'] / a_fps:.2f} "
            f"| {b['fps'] / c_fps:.2f} | {a_ms:.1f}, {b['cpu_ms']:.1f}, {c_ms:.1f} | {b['cpu_ms'] / a_ms:.2f} "
            f"| {b['live_cpu_ms']:.1f}, {b['live_cpu_ms'] / a_ms:.2f} | {b['peak_mb']:.0f} "
            f"| {b['p50_ms']:.0f}, {b['p99_ms']:.0f} | {p['p50_ms']:.0f}, {p['p99_ms']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
