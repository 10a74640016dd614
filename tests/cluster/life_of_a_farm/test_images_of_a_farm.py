"""build_and_push.py with a real Docker engine, buildx and registry: what is pushed is what runs, by its digest."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_plane import Cluster, ScaledJob
from docker_engine import Engine
from life import Checkout, Registry
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod
from scaled_jobs import is_ready, labels_of_jobs, name_of

SLOW_DOCKERFILE = "FROM debian:bookworm-slim AS analyzer\nARG APP\nRUN echo ${APP} begins && sleep 600\n"
PUSH_S = 300.0


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    server = Registry(tmp_path_factory.mktemp("registry") / "registry")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def building(checkout: Checkout, registry: Registry, docker: Engine) -> Checkout:
    """A checkout that builds and pushes."""
    if "buildx" not in docker.run("buildx", "version"):
        pytest.skip("docker has no buildx here, and it could not be built")
    checkout.use_docker(registry, docker.environ)
    return checkout


def images(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Stream -> the image of its Ready pod."""
    pods = [pod for pod in cluster.client.list(Pod, namespace=namespace) if is_ready(pod)]
    return {pod.metadata.labels["posture-farm/stream"]: pod.spec.containers[0].image for pod in pods}


def test_what_was_pushed_is_what_runs_and_an_upgrade_replaces_only_what_has_changed(
    building: Checkout, cluster: Cluster, namespace: str, registry: Registry
) -> None:
    run = building.start("build_and_push.py")
    run.until_it_says("press ENTER", PUSH_S)
    first = images(cluster, namespace)
    assert first == {
        stream: f"{registry.host}/posture-{stream}:latest@{registry.digest(f'posture-{stream}', 'latest')}"
        for stream in ("pi1", "pi2")
    }
    assert "docker buildx build" not in run.said
    (kept,) = cluster.client.list(Job, namespace=namespace, labels=labels_of_jobs("pi2"))

    script = building.folder / "Images_From_Pi1.py"
    script.write_text(f"{script.read_text()}# another version\n")
    upgrade = building.start("build_and_push.py")
    upgrade.until_it_says("press ENTER", PUSH_S)
    second = images(cluster, namespace)
    assert second["pi1"] != first["pi1"]
    assert second["pi1"].endswith(registry.digest("posture-pi1", "latest"))
    assert second["pi2"] == first["pi2"]
    (still,) = cluster.client.list(Job, namespace=namespace, labels=labels_of_jobs("pi2"))
    assert still.metadata.uid == kept.metadata.uid
    upgrade.press_enter()
    assert upgrade.wait() == 0, upgrade.said

    again = building.start("build_and_push.py", "--skip-build")
    again.until_it_says("press ENTER")
    assert images(cluster, namespace) == second
    again.press_enter()
    assert again.wait() == 0, again.said


def test_a_build_that_fails_says_so_in_dockers_words_and_the_next_run_goes_on(
    building: Checkout, cluster: Cluster, namespace: str, registry: Registry
) -> None:
    dockerfile = building.folder / "Dockerfile"
    whole = dockerfile.read_text()
    ignored = building.folder / ".dockerignore"
    allowed = ignored.read_text()
    ignored.write_text(f"{allowed}\nImages_From_Pi2.py\n")
    said = building.run("build_and_push.py", "--tag", "broken", status=1)
    told = said[said.index("\nerror: ") :]
    assert f"error: build and push {registry.host}/posture-pi2:broken" in told
    assert "Images_From_Pi2.py" in told
    assert f"done so far:\n  build and push {registry.host}/posture-pi1:broken" in told
    assert "not begun: place the streams" in told
    assert not list(cluster.client.list(ScaledJob, namespace=namespace))

    ignored.write_text(allowed)
    dockerfile.write_text(whole)
    building.run("build_and_push.py", "--tag", "broken", "--no-wait")
    cluster.until(Pod, namespace, lambda pods: sum(map(is_ready, pods)) == 2)
    building.run("stop.py")


def test_ctrl_c_while_an_image_is_built_cancels_it_and_leaves_the_cluster_alone(
    building: Checkout, cluster: Cluster, namespace: str
) -> None:
    (building.folder / "Dockerfile").write_text(SLOW_DOCKERFILE)
    run = building.start("build_and_push.py")
    run.until_it_says("Images_From_Pi1.py begins", PUSH_S)
    run.interrupt()
    assert run.wait() == 130, run.said
    assert "was cancelled" in run.said
    assert "done so far:\n  nothing" in run.said
    assert not list(cluster.client.list(ScaledJob, namespace=namespace))


def test_a_registry_that_is_away_is_found_before_anything_is_built(building: Checkout, registry: Registry) -> None:
    registry.stop()
    try:
        said = building.run("build_and_push.py", status=2)
    finally:
        registry.start()
    assert f"error: registry {registry.host} can't be reached" in said
    assert "[1/" not in said


def test_a_registry_that_wants_a_login_is_a_finding_until_docker_has_one(
    building: Checkout, docker: Engine, tmp_path: Path
) -> None:
    guarded = Registry(tmp_path / "guarded", "let me in")
    guarded.start()
    try:
        login = own_docker_config(docker, tmp_path / "docker")
        building.use_docker(guarded, login)
        said = building.run("build_and_push.py", "--dry-run", status=2)
        assert f"error: registry {guarded.host} wants a login, and docker has none that it takes" in said
        assert f"mend: docker login {guarded.host}" in said
        subprocess.run(
            ["docker", "login", "--username", "farm", "--password-stdin", guarded.host],
            env=login, input="let me in", text=True, check=True, capture_output=True,
        )  # fmt: skip
        assert "wants a login" not in building.run("build_and_push.py", "--dry-run")
    finally:
        guarded.stop()


def own_docker_config(docker: Engine, folder: Path) -> dict[str, str]:
    """The engine's environment, with a configuration of docker's that may be written to."""
    folder.mkdir()
    plugins = Path(docker.environ.get("DOCKER_CONFIG", Path.home() / ".docker")) / "cli-plugins"
    if plugins.is_dir():
        (folder / "cli-plugins").symlink_to(plugins)
    return {**docker.environ, "DOCKER_CONFIG": str(folder)}


def test_a_dry_run_names_each_docker_command(building: Checkout, registry: Registry) -> None:
    said = building.run("build_and_push.py", "--dry-run", "--build-arg", "BASE=debian:12")
    assert (
        f"--build-arg APP=Images_From_Pi2.py --build-arg BASE=debian:12 --tag {registry.host}/posture-pi2:latest"
        in said
    )
    assert name_of("pi1") in said
