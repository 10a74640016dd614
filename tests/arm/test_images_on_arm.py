"""The images for arm64, built by buildx and run as a cluster runs them; only in a run of everything."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import subprocess
import tarfile
import uuid
from pathlib import Path

import pytest
from docker_engine import Engine, minimal_debian
from emulation import SUITE, mirror
from farm import Camera, Watcher, clip_jpegs
from machines import ROOT
from servers import Mosquitto

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("docker")]
BASE, ANALYZER, SCHEDULER = "posture-arm64-debian", "posture-arm64-pi1", "posture-arm64-scheduler"
BUILD_S, EMULATED_S = 3600.0, 900.0
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")  # noqa: S108
OLDER_ADDS_AT_MOST = 120_000
"""The older mediapipe and what it needs, in kB."""


@pytest.fixture(scope="module")
def images(docker: Engine, emulated: None, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine, with both images for arm64."""
    if docker.builder["DOCKER_BUILDKIT"] == "0":
        pytest.skip("only buildx builds for another processor, and there is none")
    docker.run("load", "--input", str(debian_image(tmp_path_factory.mktemp("debian"))), timeout_s=EMULATED_S)
    for target, name in (("scheduler", SCHEDULER), ("analyzer", ANALYZER)):
        docker.run(
            "buildx", "build", "--platform", "linux/arm64", "--build-arg", f"BASE={BASE}", "--target", target,
            "--load", "--tag", name, str(ROOT), timeout_s=BUILD_S,
        )  # fmt: skip
        assert docker.run("inspect", "--format", "{{.Architecture}}", name) == "arm64"
        print(f"{name}: {int(docker.run('inspect', '--format', '{{.Size}}', name)) / 1e6:.0f} MB")
    return docker


def debian_image(folder: Path) -> Path:
    """Debian for arm64 as docker loads it; docker import would call it amd64."""
    layer, config, archive = folder / "layer.tar", folder / "config.json", folder / "image.tar"
    # it would look for arch-test, to learn what we know: that the kernel runs ARM programs
    making = [*minimal_debian("--arch=arm64", "--skip=check/qemu"), SUITE, str(layer), mirror()]
    done = subprocess.run(making, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with layer.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    about = {
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]},
    }
    config.write_text(json.dumps(about))
    manifest = [{"Config": config.name, "RepoTags": [f"{BASE}:latest"], "Layers": [layer.name]}]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with tarfile.open(archive, "w") as tar:
        for path in (layer, config, folder / "manifest.json"):
            tar.add(path, path.name)
    layer.unlink()
    return archive


@pytest.mark.parametrize(("processor", "mediapipe"), [("cortex-a72", "0.10.18"), ("cortex-a76", "1.2.2")])
def test_one_image_serves_old_and_new_processors_hardened(
    images: Engine, mosquitto: Mosquitto, processor: str, mediapipe: str, tmp_path: Path
) -> None:
    name, volume = f"arm-{uuid.uuid4().hex[:8]}", f"arm-{uuid.uuid4().hex[:8]}"
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    images.run(
        "run", "--detach", "--name", name, *HARDENED, "--memory", "1g", "--network", "host",
        "--volume", f"{volume}:/app/analyzed_images",
        "--env", "POSTURE_ANALYZER_KEEP=all", "--env", f"QEMU_CPU={processor}", "--env", "OPENBLAS_NUM_THREADS=1",
        "--env", f"POSTURE_MQTT_URL=mqtt://127.0.0.1:{mosquitto.port}",
        "--env", "POSTURE_DATABASE_URL=sqlite:///analyzed_images/posture.db", ANALYZER,
    )  # fmt: skip
    try:
        watcher.wait_for(lambda w: (w.retained.get("status/pi1") or {}).get("state") == "online", EMULATED_S)
        for jpeg in clip_jpegs(100)[::25]:
            camera.publish_now(jpeg)
        watcher.wait_for(lambda w: w.receipts >= set(camera.published), EMULATED_S)
        version = "import posture.analyzer, importlib.metadata as m; print(m.version('mediapipe'))"
        assert images.run("exec", name, "python3", "-c", version) == mediapipe
        print(images.run("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", name))
        images.run("stop", "--time", "60", name)
        assert images.run("inspect", "--format", "{{.State.ExitCode}}", name) == "0"
        images.run("cp", f"{name}:/app/analyzed_images", str(tmp_path))
    finally:
        print(images.run("logs", name))
        images.run("rm", "--force", "--volumes", name)
        images.run("volume", "rm", volume)
    watcher.close()
    camera.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "analyzed_images" / "posture.db")) as db:
        assert db.execute("SELECT count(*) FROM posture_log").fetchone() == (4,)
    assert len(list((tmp_path / "analyzed_images" / "analyzed_images_from_pi1").glob("*.jpg"))) == 4


def test_the_older_mediapipe_costs_the_image_what_docs_say(images: Engine) -> None:
    size = images.run("run", "--rm", "--entrypoint", "du", ANALYZER, "-sk", "/opt/venv/armv8.0")
    print(size)
    assert int(size.split()[0]) < OLDER_ADDS_AT_MOST


def test_the_scheduler_starts(images: Engine) -> None:
    said = images.run("run", "--rm", *HARDENED, "--env", "QEMU_CPU=cortex-a72", SCHEDULER, "--version")
    assert said.startswith("Posture Farm")
