#!/usr/bin/env python3
"""Frames a second, CPU and memory of the whole analyzer, beside the bare landmarker and the tutorial's way.

    .venv/bin/python bench/analyzer.py                # 300 frames at three sizes
    .venv/bin/python bench/analyzer.py --frames 1000

(a) the landmarker alone, VIDEO mode, over decoded frames; (b) our whole path, from the broker to the committed
row and picture, working off a backlog in a real Mosquitto; (c) the usual way: IMAGE mode, decode, infer, draw,
write, one commit a row, all in the MQTT callback's thread. The same frames, one after the other, in one run.
"""

from __future__ import annotations

import argparse
import json
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
from farm import Analyzer, Camera, Watcher, clip_jpegs, ended
from processes import cpu_seconds, peak_kib
from servers import Mosquitto

SIZES = {640: 480, 1280: 720, 1920: 1080}
MODEL = str(ROOT / "models" / "pose_landmarker_full.task")


def frames_of(count: int, width: int, height: int) -> list[bytes]:
    """The sample clip as JPEGs of one size, repeated up to ``count``."""
    jpegs = []
    # the part that shows somebody: where nobody is, (b) looks twice by design, and (a) does not
    for jpeg in clip_jpegs(125, width)[35:]:
        picture = cv2.resize(cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1), (width, height))
        jpegs.append(cv2.imencode(".jpg", picture)[1].tobytes())
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


def whole(jpegs: list[bytes], folder: Path) -> dict[str, float]:
    """(b): frames wait in the broker; timed from the first receipt to the last. Then latency at 5 frames/s."""
    broker = Mosquitto(folder / "broker")
    broker.start()
    watcher, camera = Watcher(broker.port), Camera(broker.port)
    analyzer = Analyzer(folder, broker.port)
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
            latencies = []
            for jpeg in jpegs[:50]:
                sent = time.perf_counter()
                camera.publish(jpeg)
                name = camera.published[-1]
                watcher.wait_for(lambda w, name=name: name in w.receipts)
                latencies.append(time.perf_counter() - sent)
                time.sleep(max(0.0, 0.2 - latencies[-1]))
            peak = peak_mb(pid)
            analyzer.stop()
    finally:
        watcher.close()
        camera.close()
        broker.stop()
    return {
        "fps": done / seconds,
        "cpu_ms": 1000 * cpu / done,
        "peak_mb": peak,
        "p50_ms": 1000 * float(np.percentile(latencies, 50)),
        "p99_ms": 1000 * float(np.percentile(latencies, 99)),
    }


def child(way: str, folder: Path) -> dict[str, float]:
    """Run (a) or (c) in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Measure the analyzer side by side.")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--way", choices=["bare", "tutorial"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.way:
        print(json.dumps({"bare": bare, "tutorial": tutorial}[flags.way](flags.folder)))
        return
    print("| size | a fps | b fps | c fps | b/a | b/c | a, b, c CPU ms | b peak MB | b p50, p99 ms at 5 fps |")
    print("|---|---|---|---|---|---|---|---|---|")
    for width, height in SIZES.items():
        jpegs = frames_of(flags.frames, width, height)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for number, jpeg in enumerate(jpegs):
                (folder / f"{number:05d}.jpg").write_bytes(jpeg)
            a, c = child("bare", folder), child("tutorial", folder)
            (folder / "b").mkdir()
            b = whole(jpegs, folder / "b")
        a_fps, c_fps = len(jpegs) / a["s"], len(jpegs) / c["s"]
        cpu = ", ".join(
            f"{value:.0f}"
            for value in (1000 * a["cpu_s"] / len(jpegs), b["cpu_ms"], 1000 * c["cpu_s"] / len(jpegs))
        )
        print(
            f"| {width}x{height} | {a_fps:.1f} | {b['fps']:.1f} | {c_fps:.1f} | {b['fps'] / a_fps:.2f} "
            f"| {b['fps'] / c_fps:.2f} | {cpu} | {b['peak_mb']:.0f} | {b['p50_ms']:.0f}, {b['p99_ms']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
