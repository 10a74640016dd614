"""build_and_push.py without a cluster: what it finds wrong, what it would run, how it calls other programs."""

from __future__ import annotations

import base64
import http.server
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from servers import free_port

from posture import __version__
from posture.kube.objects import Node
from posture.kube.troubles import Complaint
from posture.lifecycle import container_images, rollout
from posture.lifecycle.preflight.cluster import check_places
from posture.lifecycle.preflight.findings import Finding, Intent, Survey
from posture.lifecycle.preflight.machine import check_registry
from posture.lifecycle.preflight.pods import check_addresses, check_claims
from posture.lifecycle.registry import registry_host
from posture.runtime import Stop
from posture.settings.table import GpuQuery, Images, Kubernetes, Settings
from posture.system import commands
from posture.usage.readings import Reading, SignalReading, UsageUnknownError

ROOT = Path(__file__).resolve().parents[2]


def run(*flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run build_and_push.py with no cluster in reach."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("POSTURE_")}
    return subprocess.run(
        [sys.executable, str(ROOT / "build_and_push.py"), *flags],
        env={**clean, "KUBECONFIG": "/nonexistent", **environ},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def program(folder: Path, name: str, text: str) -> Mapping[str, str]:
    """A program of that name in front of all others; returns the environment that finds it."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_all_findings_come_at_once_each_with_what_mends_it(tmp_path: Path) -> None:
    docker = program(tmp_path / "bin", "docker", "#!/bin/sh\necho 'is the docker daemon running?' >&2\nexit 1\n")
    balanced_by_gpu = (
        "{agx: {instance: 'agx:9101', signal: gpu}, nano: {instance: 'nano:9835', metric: load_ratio}}"
    )
    done = run(**docker, POSTURE_GPU_QUERIES=balanced_by_gpu)
    assert done.returncode == 2
    findings = [line for line in done.stderr.splitlines() if line.startswith(("error:", "warning:"))]
    said = "\n".join(findings)
    for part in (
        "docker's engine does not answer",
        "no registry is named",
        "Kubernetes can't be reached",
        "on the CPU, and agx is balanced by the GPU",
        "nano: load_ratio looks like a ratio",
    ):
        assert part in said
    assert done.stderr.count("mend: ") == len(findings)
    assert "is the docker daemon running?" in done.stderr
    assert not list(ROOT.glob("patched-job-*.yaml"))
    assert "Traceback" not in done.stderr


BUILDX = """#!/bin/sh
case "$*" in
  "version --format {{.Server.Version}}") echo 28.0.0 ;;
  "buildx version") echo v0.29.1 ;;
  "buildx inspect"*) printf 'Name: mine\\nDriver: %s\\n\\nNodes:\\nPlatforms: %s\\n' "$DRIVER" "$PLATFORMS" ;;
  *) echo "docker $*" >> "$DOCKER_LOG"; exit 1 ;;
esac
"""
"""A docker whose builder is what the test says."""


@pytest.mark.parametrize(
    ("driver", "platforms", "finding", "mend"),
    [
        pytest.param("docker-container", "linux/amd64*", "can't build for linux/arm64", "qemu-user-static",
                     id="no emulation"),
        pytest.param("docker", "linux/amd64, linux/arm64", "builds one platform at a time", "docker buildx create",
                     id="a driver for one platform"),
        pytest.param("docker-container", "linux/amd64, linux/arm64*", None, None, id="all is well"),
    ],
)  # fmt: skip
def test_a_builder_that_lacks_a_platform_is_found_before_anything_is_built(
    tmp_path: Path, driver: str, platforms: str, finding: str | None, mend: str | None
) -> None:
    docker = program(tmp_path / "bin", "docker", BUILDX)
    done = run(DRIVER=driver, PLATFORMS=platforms, DOCKER_LOG=str(tmp_path / "log"), **docker)
    if finding is None or mend is None:
        assert "builder mine" not in done.stderr
    else:
        (line,) = (line for line in done.stderr.splitlines() if finding in line)
        assert line.startswith("error: builder mine")
        assert mend in done.stderr.splitlines()[done.stderr.splitlines().index(line) + 1]
    assert not (tmp_path / "log").exists()


class V2(http.server.BaseHTTPRequestHandler):
    """As much of a registry as preflight asks for."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[http.server.HTTPServer]:
    """A server that is started by the test, when it is as it should be."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), V2)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def registry_findings(host: str, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    monkeypatch.setenv("NO_PROXY", "*")
    pod = {"spec": {"jobTargetRef": {"template": {"spec": {"containers": []}}}}}
    settings = Settings(images=Images(registry=f"{host}/farm", timeout_s=20))
    return list(check_registry(Intent(settings, {"pi1": pod})))


def test_a_registry_without_tls_is_no_error_but_docker_and_nodes_must_have_been_told(
    registry: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry_findings(f"127.0.0.1:{registry.server_port}", monkeypatch) == [], (
        "docker takes that one as it is"
    )
    host = f"0.0.0.0:{registry.server_port}"  # the same, by an address that docker does not take for this machine
    (finding,) = registry_findings(host, monkeypatch)
    assert finding.warning
    assert "plain HTTP" in finding.what
    assert f'"insecure-registries": ["{host}"]' in finding.mend
    assert "registries.yaml" in finding.mend


def test_a_registry_with_an_authority_of_its_own_is_no_error(
    registry: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    registry.socket = context.wrap_socket(registry.socket, server_side=True)
    host = f"127.0.0.1:{registry.server_port}"
    (finding,) = registry_findings(host, monkeypatch)
    assert finding.warning
    assert "authority" in finding.what
    assert f"/etc/docker/certs.d/{host}/ca.crt" in finding.mend


def test_where_a_registry_asks_who_one_is_the_nodes_must_know_too(
    registry: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(V2, "status", 401)
    logged_in = program(tmp_path / "bin", "docker", "#!/bin/sh\nexit 0\n")
    monkeypatch.setenv("PATH", logged_in["PATH"])
    (finding,) = registry_findings(f"127.0.0.1:{registry.server_port}", monkeypatch)
    assert finding.warning
    assert "imagePullSecrets" in finding.what


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        pytest.param(["--registry", "https://host"], "--registry", id="registry with a scheme"),
        pytest.param(["--platforms", "amd64"], "--platforms", id="platform"),
        pytest.param(["--tag", "a tag"], "--tag", id="tag"),
        pytest.param(["--master", "Master!"], "--master", id="master"),
        pytest.param(["--scaler-address", "host"], "--scaler-address", id="scaler address"),
    ],
)
def test_a_flag_that_is_not_accepted_is_named(flags: list[str], named: str) -> None:
    done = run(*flags)
    assert done.returncode == 2
    assert f"{named}: " in done.stderr
    assert "accepted: " in done.stderr


def test_a_port_that_is_taken_is_a_finding() -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = run("--skip-build", POSTURE_SCALER_LISTEN=f"127.0.0.1:{port}")
    assert f"error: port {port} is taken" in done.stderr


def test_a_scaler_that_would_not_start_as_it_is_set_is_a_finding() -> None:
    done = run("--skip-build", POSTURE_SCALER_LISTEN=":0")
    assert "POSTURE_SCALER_LISTEN" in done.stderr
    done = run("--skip-build", POSTURE_SCALER_LISTEN=f":{free_port()}")
    assert "error: scaler.listen" in done.stderr
    assert "scaler.insecure: true" in done.stderr
    done = run("--skip-build", POSTURE_SCALER_LISTEN=f":{free_port()}", POSTURE_SCALER_INSECURE="true")
    assert "error: scaler" not in done.stderr
    done = run("--skip-build", POSTURE_SCALER_TLS_CERT="/nonexistent", POSTURE_SCALER_TLS_KEY="/nonexistent")
    assert "scaler.tls_cert" in done.stderr
    assert "error: stream pi1's trigger wants plaintext, and the scaler has TLS" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("modes", "what"),
    [
        pytest.param(["ReadWriteMany"], None, id="every node can write to it"),
        pytest.param(["ReadWriteOnce"], "claim pictures is ReadWriteOnce: it would hold its streams on one node",
                     id="bound to a node"),
        pytest.param(None, "claim pictures does not exist", id="not there"),
    ],
)  # fmt: skip
def test_a_claim_that_would_hold_a_stream_on_one_node_is_refused(modes: list[str] | None, what: str | None) -> None:
    pod = {
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "p", "persistentVolumeClaim": {"claimName": "pictures"}},
        ]
    }
    manifest = {"metadata": {"namespace": "farm"}, "spec": {"jobTargetRef": {"template": {"spec": pod}}}}
    cluster = {} if modes is None else {"pictures": {"spec": {"accessModes": modes}}}
    findings = list(check_claims(manifest, lambda kind, name: cluster.get(name)))
    assert len(findings) == (what is not None)
    for finding in findings:
        assert what is not None
        assert what in finding.what
        assert not finding.warning
        assert "ReadWriteMany" in finding.mend


@pytest.mark.parametrize(
    ("url", "host_network", "host"),
    [
        pytest.param("mqtt://localhost:1883", False, "localhost", id="a name"),
        pytest.param("mqtts://me:secret@127.0.0.1", False, "127.0.0.1", id="an address"),
        pytest.param("mqtt://[::1]:1883", False, "::1", id="IPv6"),
        pytest.param("mqtt://localhost:1883", True, None, id="the node's own network"),
        pytest.param("mqtt://broker.test:1883", False, None, id="another machine"),
    ],
)
def test_a_broker_that_would_be_looked_for_in_the_pod_itself_is_told(
    url: str, host_network: bool, host: str | None
) -> None:
    reference = {"valueFrom": {"secretKeyRef": {"name": "posture-farm", "key": "POSTURE_MQTT_URL"}}}
    pod = {"hostNetwork": host_network, "containers": [{"env": [{"name": "POSTURE_MQTT_URL", **reference}]}]}
    manifest = {"metadata": {"namespace": "farm"}, "spec": {"jobTargetRef": {"template": {"spec": pod}}}}
    secret = {"kind": "Secret", "data": {"POSTURE_MQTT_URL": base64.b64encode(url.encode()).decode()}}
    findings = list(check_addresses("pi1", manifest, lambda kind, name: secret))
    assert [f"POSTURE_MQTT_URL at {host}, " in finding.what for finding in findings] == [True] * (host is not None)
    assert "secret@" not in "".join(finding.what + finding.mend for finding in findings)


# how other programs are called


def test_a_program_that_fails_is_shown_with_its_command_and_its_last_words() -> None:
    with pytest.raises(commands.CommandError, match=r"sh -c 'echo lost >&2; exit 3'\n.*status 3\n.*lost"):
        commands.run(["sh", "-c", "echo lost >&2; exit 3"], 60)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(commands.CommandError, match=r"no-such-program --flag\n.*No such file"):
        commands.run(["no-such-program", "--flag"], 10)


def test_a_program_that_hangs_is_ended_and_says_how_long_it_had() -> None:
    began = time.monotonic()
    with pytest.raises(commands.CommandError, match=r"took longer than 0.3 s"):
        commands.run(["sleep", "600"], 0.3)
    assert time.monotonic() - began < 60


def test_a_program_that_ignores_the_interrupt_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "CANCEL_S", 0.3)
    with pytest.raises(commands.CommandError, match="took longer"):
        commands.run(["sh", "-c", "trap '' INT; while :; do sleep 0.05; done"], 0.3)


def test_the_stop_cancels_what_runs() -> None:
    stop = Stop()
    threading.Timer(0.3, stop.request).start()
    with pytest.raises(commands.StoppedError, match=r"sleep 600\n.*cancelled"):
        commands.run(["sleep", "600"], 600, stop=stop)


def test_arguments_reach_the_program_as_they_are() -> None:
    odd = "a b; $HOME `id` 'q' \"d\" \n*"
    assert commands.run(["printf", "%s", odd], 60) == odd


def test_much_output_on_both_pipes_blocks_nobody() -> None:
    code = "import sys\nfor i in range(20000):\n print('x' * 50)\n print('y' * 50, file=sys.stderr)"
    said = commands.run([sys.executable, "-c", code], 60)
    assert said.splitlines()[-1] == "x" * 50


# images


def test_the_build_command_names_every_platform_and_the_script() -> None:
    settings = Images(registry="host:5000/farm", tag="v1", platforms="linux/amd64,linux/arm64", builder="mine")
    image = container_images.analyzer_image("pi2", settings)
    command = container_images.build_command(image, settings, ["BASE=debian:12"])
    assert " ".join(command).startswith(
        "docker buildx build --builder mine --platform linux/amd64,linux/arm64 --target analyzer "
        "--build-arg APP=Images_From_Pi2.py --build-arg BASE=debian:12 --tag host:5000/farm/posture-pi2:v1 "
    )
    assert "--push" in command


def test_an_image_says_which_version_and_commit_it_is() -> None:
    image = container_images.dashboard_image(Images(registry="host:5000/farm", tag="v1"))
    command = container_images.build_command(image, Images(registry="host:5000/farm", tag="v1"))
    labels = dict(command[at + 1].split("=", 1) for at, part in enumerate(command) if part == "--label")
    prefix = "org.opencontainers.image"
    assert labels[f"{prefix}.title"] == "posture-dashboard"
    assert labels[f"{prefix}.version"] == __version__
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
        assert labels[f"{prefix}.revision"].removesuffix("-dirty") == head.stdout.strip()
    assert "@" not in labels.get(f"{prefix}.source", ""), "no user and no password"


def test_streams_without_a_script_of_their_own_have_one_image_together() -> None:
    images = {
        container_images.analyzer_image(stream, Images(registry="h")) for stream in ("hall-1", "hall-2", "pi")
    }
    (common,) = images
    assert (common.app, common.reference) == ("Images_From_Pi.py", "h/posture-analyzer:latest")


@pytest.mark.parametrize(
    ("running", "wanted", "same"),
    [
        ("h/posture-pi1:v1@sha256:aa", "h/posture-pi1:v1@sha256:aa", True),
        ("h/posture-pi1:v1@sha256:aa", "h/posture-pi1:v1@sha256:bb", False),
        ("h/posture-pi1:v1@sha256:aa", "h/posture-pi1:v2@sha256:aa", True),
        ("h/posture-pi1:v1@sha256:aa", "h/posture-pi1:v1", True),
        ("h/posture-pi1:v1", "h/posture-pi1:v2", False),
    ],
)
def test_an_image_is_the_same_if_its_digest_is_else_if_its_tag_is(running: str, wanted: str, same: bool) -> None:
    assert container_images.same_image(running, wanted) == same


def test_what_was_pushed_is_remembered_by_its_digest(tmp_path: Path) -> None:
    container_images.remember(["h/posture-pi1:v1@sha256:aa"], tmp_path)
    container_images.remember(["h/posture-pi1:v1@sha256:bb", "h/posture-pi2:v1@sha256:cc"], tmp_path)
    assert container_images.pushed(tmp_path) == {
        "h/posture-pi1:v1": "h/posture-pi1:v1@sha256:bb",
        "h/posture-pi2:v1": "h/posture-pi2:v1@sha256:cc",
    }


@pytest.mark.parametrize(
    ("registry", "host"),
    [("registry.example/farm", "registry.example"), ("host:5000", "host:5000"), ("localhost/a", "localhost"),
     ("account", "")],
)  # fmt: skip
def test_the_host_of_a_registry(registry: str, host: str) -> None:
    assert registry_host(registry) == host


# where streams may be placed


def node(name: str, *taints: Mapping[str, str], ready: bool = True, cordoned: bool = False) -> Node:
    return Node(name, name, ready, cordoned, {"gpu-node": name}, taints, {})


def required(*terms: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": wanted}}


SETTINGS = Settings(
    kubernetes=Kubernetes(master="a"), gpu_queries={name: GpuQuery(f"{name}:1", "gpu") for name in "abc"}
)
READING = Reading({"gpu": SignalReading(10.0, 0.0, ())})
FOREIGN = {"key": "somebody/else", "value": "", "effect": "NoSchedule"}
GPU = {"key": "nvidia.com/gpu", "value": "", "effect": "NoSchedule"}
RARE = {"key": "rare", "value": "", "effect": "NoSchedule"}
TOLERATED, OTHER = {"key": "nvidia.com/gpu", "operator": "Exists"}, {"key": "rare", "operator": "Exists"}
OURS = {"key": "default.posture-farm/master", "value": "true", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("found", "fit"),
    [
        pytest.param([node("a"), node("b")], {"b"}, id="the master is left out"),
        pytest.param([node("b", ready=False), node("c")], {"c"}, id="NotReady"),
        pytest.param([node("b", cordoned=True), node("c")], {"c"}, id="cordoned"),
        pytest.param([node("b", FOREIGN), node("c")], {"c"}, id="tainted by others"),
        pytest.param([node("b", GPU)], {"b"}, id="a taint that all streams tolerate"),
        pytest.param([node("b", RARE), node("c")], {"c"}, id="a taint that one stream tolerates"),
        pytest.param([node("b", OURS)], {"b"}, id="our taint of a former master"),
    ],
)
def test_streams_go_where_they_can_run(found: list[Node], fit: set[str]) -> None:
    pods = [{"tolerations": [TOLERATED]}, {"tolerations": [TOLERATED, OTHER]}]
    survey = Survey(True, found, {}, dict.fromkeys("abc", READING), pods)
    assert set(survey.fit(SETTINGS)) == fit


@pytest.mark.parametrize(
    "demand",
    [
        pytest.param({"nodeSelector": {"disk": "fast"}}, id="nodeSelector"),
        pytest.param(required({"matchExpressions": [{"key": "disk", "operator": "Exists"}]}), id="a label"),
        pytest.param(
            required({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["b"]}]}), id="a name"
        ),
    ],
)
def test_no_stream_is_placed_on_a_node_that_its_pod_rules_out(demand: dict[str, Any]) -> None:
    fast = replace(node("c"), labels={"gpu-node": "c", "disk": "fast"})
    survey = Survey(True, [node("b"), fast], {}, dict.fromkeys("abc", READING), [{}, demand])
    assert set(survey.fit(SETTINGS)) == {"c"}
    assert "ruled out by the nodeSelector or affinity" in str(survey.qualifying(SETTINGS)["b"])


def test_a_stream_is_taken_down_when_a_list_does_not_have_it_and_never_for_want_of_a_file() -> None:
    labels = {"posture-farm/stream": "hall-2"}
    survey = Survey(True, [], {"hall-2": {"metadata": {"labels": labels}}, "odd": {"metadata": {"labels": {}}}})
    assert list(survey.removed(Settings(streams={"hall-1": {}}))) == ["hall-2"], "not what is no stream's"
    assert survey.removed(Settings(streams={"hall-2": {}})) == {}
    assert survey.removed(Settings()) == {}, "another operator may have files that are not here"


def test_a_node_without_a_metric_gets_no_stream() -> None:
    readings = {"b": UsageUnknownError("b", None, "down"), "c": READING}
    survey = Survey(True, [node("b"), node("c")], {}, readings)
    assert set(survey.fit(SETTINGS)) == {"c"}


def test_tainting_the_only_node_that_can_take_a_stream_is_refused() -> None:
    survey = Survey(True, [node("a")], {}, {"a": READING})
    (finding,) = check_places(Intent(SETTINGS, {}), survey)
    assert "only node" in finding.what
    assert not finding.warning
    assert "--master" in finding.mend
    two = Survey(True, [node("a"), node("b")], {}, {"a": READING, "b": READING})
    assert list(check_places(Intent(SETTINGS, {}), two)) == []


# how far a stream is


def scaled_job(node: str = "a", *, active: bool = True, revision: str = "1") -> dict[str, Any]:
    expression = {"key": "gpu-node", "operator": "In", "values": [node]}
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [expression]}]
            }
        }
    }
    template = {
        "metadata": {"annotations": {rollout.REVISION: revision}},
        "spec": {"affinity": affinity, "containers": [{"name": "analyzer", "image": "posture-pi1:1"}]},
    }
    conditions = [{"type": "Active", "status": str(active)}, {"type": "Ready", "status": "True"}]
    return {
        "metadata": {"name": "s", "uid": "s-uid", "generation": 1, "labels": {"posture-farm/stream": "pi1"}},
        "spec": {"jobTargetRef": {"template": template}},
        "status": {"conditions": conditions},
    }


def job(of: Mapping[str, Any], uid: str = "j", *, finished: bool = False) -> dict[str, Any]:
    return {
        "metadata": {
            "name": uid, "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"kind": "ScaledJob", "name": "s", "uid": "s-uid"}],
        },
        "spec": {"template": of["spec"]["jobTargetRef"]["template"]},
        "status": {"conditions": [{"type": "Complete", "status": "True"}] if finished else []},
    }  # fmt: skip


def pod(of: str = "j", waiting: str = "") -> dict[str, Any]:
    ready = not waiting
    status: dict[str, Any] = {"phase": "Running" if ready else "Pending"}
    status["conditions"] = [
        {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:01Z"},
        {"type": "PodScheduled", "status": "True"},
    ]
    if waiting:
        status["containerStatuses"] = [{"state": {"waiting": {"reason": waiting}}}]
    return {
        "metadata": {
            "name": "p", "uid": "p", "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"kind": "Job", "name": of, "uid": of}],
        },
        "spec": {"nodeName": "a"},
        "status": status,
    }  # fmt: skip


NOW, OLD = scaled_job(), scaled_job(revision="0")
NOW_S = 1_767_225_700.0
QUOTA = Complaint("FailedCreate", "exceeded quota: small", NOW_S)


@pytest.mark.parametrize(
    ("wanted", "jobs", "pods", "runs", "words"),
    [
        pytest.param(NOW, [], [], False, "waiting for KEDA's Job", id="no Job yet"),
        pytest.param(scaled_job(active=False), [], [], False, "KEDA does not call it active", id="inactive"),
        pytest.param(NOW, [job(NOW)], [], False, "no pod yet", id="no pod yet"),
        pytest.param(NOW, [job(NOW)], [pod("j", "ContainerCreating")], False, "ContainerCreating", id="starting"),
        pytest.param(NOW, [job(NOW)], [pod("j", "ErrImagePull")], False, "ErrImagePull", id="no image"),
        pytest.param(NOW, [job(NOW)], [pod()], True, "Ready on a", id="running"),
        pytest.param(NOW, [job(NOW, "told")], [], False, "FailedCreate: exceeded quota: small", id="no quota"),
        pytest.param(NOW, [job(OLD)], [pod()], False, "the old Job is finishing", id="an old one runs"),
        pytest.param(NOW, [job(OLD, "o"), job(NOW)], [pod("o")], False, "no pod yet", id="the old one's pod"),
        pytest.param(NOW, [job(NOW, finished=True)], [pod()], False, "waiting for KEDA's Job", id="it has ended"),
        pytest.param(scaled_job("b"), [job(NOW)], [pod()], False, "being moved to b", id="on its way elsewhere"),
    ],
)
def test_how_far_a_stream_is(
    wanted: dict[str, Any], jobs: list[Any], pods: list[Any], runs: bool, words: str
) -> None:
    state = rollout.state_of("pi1", rollout.Seen(wanted, jobs, pods, {"told": QUOTA}, NOW_S))
    assert state.runs == runs
    assert words in state.words


def test_a_revision_changes_with_the_pod_but_not_with_its_node() -> None:
    def revision(manifest: dict[str, Any]) -> str:
        made = rollout.with_revision(manifest)
        return str(made["spec"]["jobTargetRef"]["template"]["metadata"]["annotations"][rollout.REVISION])

    changed = scaled_job()
    changed["spec"]["jobTargetRef"]["template"]["spec"]["containers"][0]["image"] = "posture-pi1:2"
    assert revision(scaled_job("a")) == revision(scaled_job("b"))
    assert revision(scaled_job("a")) != revision(changed)
