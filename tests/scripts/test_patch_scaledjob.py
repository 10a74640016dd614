"""patch_scaledjob.py as a program, with a real Prometheus: an even spread, or a clear word and no file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from driven_exporter import METRIC, GpuExporter, instance_of
from servers import PrometheusServer, free_port

import cpu_monitor_and_offload
import gpu_balancer
import patch_scaledjob
from posture.kube import affinity
from posture.settings import loading

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "patch_scaledjob.py"
USAGE = {"idle": 5.0, "half": 50.0, "busy": 95.0, "twin-1": 20.0, "twin-2": 20.0,
         "asleep-1": 0.0, "asleep-2": 0.0}  # fmt: skip
ABSENT = "is not there: the target is down, or the metric has another name"


@pytest.fixture(scope="module")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that knows the usage of USAGE's nodes, a node ``nan`` and a node ``down``."""
    exporter = GpuExporter()
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"), exporter.targets(*USAGE, "nan", "down"))
    for node, usage in USAGE.items():
        exporter.set(node, usage)
    exporter.set("nan", "NaN")
    try:
        server.start()
        for node in (*USAGE, "nan"):
            exporter.wait_for_scrapes(node)
        yield server.url
    finally:
        server.stop()
        exporter.close()


class Patcher:
    """Runs the script on copies of the first stream's ScaledJob."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.nodes = ["idle", "half", "busy"]
        self.environ: dict[str, str] = {}

    def streams(self, count: int) -> list[Path]:
        text = (ROOT / "posture-job-pi1.yaml").read_text()
        paths = [self.folder / f"posture-job-pi{number}.yaml" for number in range(1, count + 1)]
        for number, path in enumerate(paths, 1):
            path.write_text(text.replace("pi1", f"pi{number}"))
        return paths

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        queries = {node: {"instance": instance_of(node), "metric": METRIC} for node in self.nodes}
        environ = {
            "POSTURE_PROMETHEUS_URL": self.url,
            "POSTURE_PROMETHEUS_MAX_AGE_S": "20",
            "POSTURE_PROMETHEUS_TIMEOUT_S": "20",
            "POSTURE_GPU_QUERIES": json.dumps(queries),
            **self.environ,
        }
        command = [sys.executable, str(SCRIPT), "--output-dir", str(self.folder), *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, cwd="/", env=environ
        )

    def placed(self) -> dict[str, str | None]:
        """Stream -> node, of what was written."""
        return {
            path.stem.removeprefix("patched-job-"): affinity.node_of(pod_of(path)["affinity"])
            for path in sorted(self.folder.glob("patched-job-*.yaml"))
        }


def pod_of(path: Path) -> dict[str, Any]:
    pod: dict[str, Any] = yaml.safe_load(path.read_text())["spec"]["jobTargetRef"]["template"]["spec"]
    return pod


def content(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def patcher(tmp_path: Path, prometheus_url: str) -> Patcher:
    return Patcher(tmp_path, prometheus_url)


@pytest.mark.parametrize(
    ("streams", "expected"),
    [
        pytest.param(1, {"idle": 1}, id="one stream goes where least is done"),
        pytest.param(3, {"idle": 1, "half": 1, "busy": 1}, id="as many as nodes"),
        pytest.param(5, {"idle": 2, "half": 2, "busy": 1}, id="the extra ones go to the lowest usages"),
    ],
)
def test_streams_are_spread_evenly(patcher: Patcher, streams: int, expected: dict[str, int]) -> None:
    ended = patcher.run(*patcher.streams(streams))
    assert ended.returncode == 0, ended.stderr
    assert Counter(patcher.placed().values()) == expected
    assert sorted(patcher.placed()) == [f"pi{number}" for number in range(1, streams + 1)]


def test_the_plan_is_a_table_of_nodes_with_usage_jobs_and_why(patcher: Patcher) -> None:
    patcher.nodes = ["idle", "half", "busy", "nan", "down"]
    files = patcher.streams(5)
    before = content(patcher.folder)
    ended = patcher.run("--dry-run", *files)
    assert ended.returncode == 0, ended.stderr
    lines = [re.split(r" {2,}", line.strip()) for line in ended.stdout.splitlines()]
    assert lines[:6] == [
        ["node", "usage", "jobs", "why"],
        ["busy", "95.0 %", "0 -> 1", "even share"],
        ["half", "50.0 %", "0 -> 2", "even share + 1: one of the 2 with the lowest usage"],
        ["idle", "5.0 %", "0 -> 2", "even share + 1: one of the 2 with the lowest usage"],
        ["down", "-", "0 -> 0", f'{METRIC}{{instance="down.test:9100"}} {ABSENT}'],
        ["nan", "-", "0 -> 0", f'{METRIC}{{instance="nan.test:9100"}} is nan; accepted: 0 to 100'],
    ]
    assert ended.stdout.count("would write") == 5
    assert content(patcher.folder) == before


def test_streams_that_will_not_use_what_is_measured_are_named(patcher: Patcher) -> None:
    said = "pi1, pi2 will run on the CPU, and busy, half, idle are balanced by the GPU"
    assert said in patcher.run("--dry-run", *patcher.streams(2)).stdout
    (patcher.folder / "posture-job-pi2.yaml").unlink()
    with_gpu = {"POSTURE_KUBERNETES_GPU": "nvidia"}
    patcher.environ = with_gpu
    assert "will run on the CPU" not in patcher.run("--dry-run", *patcher.streams(1)).stdout
    patcher.environ = {**with_gpu, "POSTURE_ANALYZER_DELEGATE": "cpu"}
    assert "pi1 will run on the CPU" in patcher.run("--dry-run", *patcher.streams(1)).stdout


def test_streams_that_ask_for_the_gpu_and_whose_pods_get_none_are_named(patcher: Patcher) -> None:
    patcher.environ = {"POSTURE_ANALYZER_DELEGATE": "gpu"}
    assert (
        "pi1, pi2 ask for the GPU (analyzer.delegate), and their pods get none"
        in patcher.run("--dry-run", *patcher.streams(2)).stdout
    )
    patcher.environ["POSTURE_KUBERNETES_GPU"] = "nvidia"
    assert "get none" not in patcher.run("--dry-run", *patcher.streams(2)).stdout


def test_one_setting_gives_the_pods_the_gpu_and_takes_it_away_again(patcher: Patcher) -> None:
    (file,) = patcher.streams(1)
    assert patcher.run("--seed", "1", file).returncode == 0
    patched = patcher.folder / "patched-job-pi1.yaml"
    without = patched.read_text()
    patcher.environ = {"POSTURE_KUBERNETES_GPU": "nvidia"}
    assert patcher.run("--seed", "1", file).returncode == 0
    pod = pod_of(patched)
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["securityContext"]["supplementalGroups"] == [44]
    variables = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert variables["NVIDIA_VISIBLE_DEVICES"] == variables["NVIDIA_DRIVER_CAPABILITIES"] == "all"
    assert variables["POSTURE_ANALYZER_DELEGATE"] == "gpu", "so that it is said where the CPU is used instead"
    patcher.environ = {}
    assert patcher.run("--seed", "1", patched).returncode == 0, "what it has written may be what it reads"
    assert patched.read_text() == without


def test_an_unknown_kind_of_gpu_is_refused(patcher: Patcher) -> None:
    patcher.environ = {"POSTURE_KUBERNETES_GPU": "amd"}
    ended = patcher.run(*patcher.streams(1))
    assert ended.returncode == 2
    assert "accepted: none or nvidia" in ended.stderr
    assert patcher.placed() == {}


def test_usage_of_exactly_0_everywhere_is_said(patcher: Patcher) -> None:
    files = patcher.streams(2)
    assert "exactly 0" not in patcher.run("--dry-run", *files).stdout
    patcher.nodes = ["asleep-1", "asleep-2"]
    ended = patcher.run("--dry-run", *files)
    assert "all 2 nodes show a usage of exactly 0" in ended.stdout
    assert ended.returncode == 0


def test_the_dry_runs_plan_is_what_is_then_done(patcher: Patcher) -> None:
    files = patcher.streams(4)
    patcher.nodes = ["twin-1", "twin-2", "busy"]
    planned = dict(re.findall(r"^(pi\d) -> (\S+)$", patcher.run("--dry-run", *files).stdout, re.M))
    assert patcher.run(*files).returncode == 0
    assert patcher.placed() == planned


def test_a_second_run_changes_nothing(patcher: Patcher) -> None:
    files = patcher.streams(3)
    patcher.nodes = ["twin-1", "twin-2"]
    assert patcher.run(*files).returncode == 0
    before = content(patcher.folder)
    again = patcher.run(*files)
    assert again.stdout.count("unchanged: ") == 3
    assert content(patcher.folder) == before
    assert re.search(r"twin-1 .* (1 -> 1|2 -> 2) ", again.stdout), "before is what the last run has written"


def test_a_tie_is_drawn_by_the_seed(patcher: Patcher) -> None:
    (file,) = patcher.streams(1)
    patcher.nodes = ["twin-1", "twin-2"]
    drawn = {}
    for seed in range(6):
        assert patcher.run("--seed", seed, file).returncode == 0
        drawn[seed] = patcher.placed()["pi1"]
    assert set(drawn.values()) == {"twin-1", "twin-2"}
    ended = patcher.run("--seed", 0, file)
    assert patcher.placed()["pi1"] == drawn[0]
    assert "a tie drawn" in ended.stdout


def test_a_pinned_stream_stays_and_the_others_fill_up_around_it(patcher: Patcher) -> None:
    files = patcher.streams(3)
    pinned = (
        files[2].read_text().replace("metadata:\n", 'metadata:\n  annotations: {posture-farm/pinned: "true"}\n', 1)
    )
    pinned = pinned.replace(
        "operator: Exists\n        tol", "operator: In\n                      values: [busy]\n        tol"
    )
    files[2].write_text(pinned)
    ended = patcher.run(*files)
    assert ended.returncode == 0, ended.stderr
    assert patcher.placed()["pi3"] == "busy"
    assert Counter(patcher.placed().values()) == {"idle": 1, "half": 1, "busy": 1}
    assert "1 pinned; even share" in ended.stdout


def test_no_stream_is_placed_on_the_tainted_master(patcher: Patcher) -> None:
    patcher.environ = {"POSTURE_KUBERNETES_MASTER": "idle"}
    ended = patcher.run(*patcher.streams(2))
    assert Counter(patcher.placed().values()) == {"half": 1, "busy": 1}
    assert re.search(r"idle +- +0 -> 0 +is kubernetes\.master", ended.stdout)


def test_address_image_and_namespace_are_set_where_given(patcher: Patcher) -> None:
    patcher.environ = {"POSTURE_KUBERNETES_FARM": "north"}
    flags = ["--scaler-address", "192.0.2.1:50051", "--image", "registry:5000/{pi_id}:v2", "--namespace", "cameras"]
    assert patcher.run(*flags, *patcher.streams(2)).returncode == 0
    for stream in ("pi1", "pi2"):
        data = yaml.safe_load((patcher.folder / f"patched-job-{stream}.yaml").read_text())
        assert data["metadata"]["namespace"] == "cameras"
        assert data["metadata"]["labels"]["posture-farm/farm"] == "north"
        assert data["spec"]["triggers"][0]["metadata"]["scalerAddress"] == "192.0.2.1:50051"
        containers = data["spec"]["jobTargetRef"]["template"]["spec"]["containers"]
        assert containers[0]["image"] == f"registry:5000/{stream}:v2"


def test_what_is_written_has_all_comments_of_its_source(patcher: Patcher) -> None:
    (source,) = patcher.streams(1)
    assert patcher.run(source).returncode == 0
    written = (patcher.folder / "patched-job-pi1.yaml").read_text()
    commented = [re.findall(r"(?:^|\s)(#.*)", text, re.M) for text in (source.read_text(), written)]
    assert commented[0]
    assert commented[0] == commented[1]


def test_a_registry_in_the_settings_is_where_images_come_from(patcher: Patcher) -> None:
    patcher.environ = {"POSTURE_IMAGES_REGISTRY": "registry:5000/farm", "POSTURE_IMAGES_TAG": "v3"}
    assert patcher.run(*patcher.streams(1)).returncode == 0
    data = yaml.safe_load((patcher.folder / "patched-job-pi1.yaml").read_text())
    image = data["spec"]["jobTargetRef"]["template"]["spec"]["containers"][0]["image"]
    assert image == "registry:5000/farm/posture-pi1:v3"


def test_what_the_settings_say_of_a_stream_reaches_its_pod(patcher: Patcher) -> None:
    settings = patcher.folder / "farm.yaml"
    settings.write_text(
        "analyzer: {pictures: skeleton, quarantine: false, pictures_dir: elsewhere}\n"
        "mqtt: {url: 'mqtt://laptop:1883', prefix: north}\n"
        "streams: {pi2: {camera_roll_deg: 4.5, pictures: none}}\n"
    )
    files = patcher.streams(2)
    files[1].write_text(
        files[1].read_text().replace("env:\n", "env:\n              - {name: POSTURE_MQTT_PREFIX, value: south}\n")
    )
    assert patcher.run("--config", settings, *files).returncode == 0
    found = {}
    for stream in ("pi1", "pi2"):
        (container,) = pod_of(patcher.folder / f"patched-job-{stream}.yaml")["containers"]
        found[stream] = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    privacy = {"POSTURE_ANALYZER_PICTURES": "skeleton", "POSTURE_ANALYZER_QUARANTINE": "false"}
    assert found["pi1"] == {**privacy, "POSTURE_MQTT_PREFIX": "north"}
    assert found["pi2"] == {
        **privacy,
        "POSTURE_ANALYZER_PICTURES": "none",
        "POSTURE_ANALYZER_CAMERA_ROLL_DEG": "4.5",
        "POSTURE_MQTT_PREFIX": "south",
    }
    in_the_pod = loading.load(None, {**found["pi2"], "POSTURE_MQTT_URL": "mqtt://broker:1883"})
    assert in_the_pod.analyzer.camera_roll_deg == 4.5
    assert in_the_pod.analyzer.quarantine is False


def test_no_node_with_a_metric_is_an_error_that_names_every_node_and_why_and_writes_nothing(
    patcher: Patcher,
) -> None:
    patcher.nodes = ["nan", "down", "unheard-of"]
    files = patcher.streams(2)
    before = content(patcher.folder)
    ended = patcher.run(*files)
    assert ended.returncode == 1
    for node, why in (("nan", "is nan"), ("down", "is not there"), ("unheard-of", "is not there")):
        assert re.search(rf"^ +{node}: .*{why}", ended.stderr, re.M)
    assert "Traceback" not in ended.stderr
    assert content(patcher.folder) == before


def test_without_prometheus_nothing_is_written(patcher: Patcher) -> None:
    patcher.url = f"http://127.0.0.1:{free_port()}"
    ended = patcher.run(*patcher.streams(1))
    assert ended.returncode == 1
    assert re.search(
        r"idle: Prometheus at http://127\.0\.0\.1:\d+ can't be reached: Connection refused", ended.stderr
    )
    assert not patcher.placed()


def test_an_invalid_manifest_is_named_with_file_line_and_field_and_nothing_is_written(patcher: Patcher) -> None:
    good, bad, worse = patcher.streams(3)
    bad.write_text(bad.read_text().replace("strategy: gradual", "strategy: immediate"))
    worse.write_text(worse.read_text().replace("  triggers:", "  triggers: [", 1))
    ended = patcher.run(good, bad, worse)
    assert ended.returncode == 2
    number = 1 + bad.read_text().splitlines().index("    strategy: immediate")
    assert f"{bad}:{number}: spec.rollout.strategy: 'immediate' is not accepted; accepted: gradual" in ended.stderr
    assert f"{worse}:" in ended.stderr
    assert "is not YAML" in ended.stderr
    assert not patcher.placed()


def test_a_polling_interval_that_lets_the_farm_fall_asleep_during_a_move_is_refused(patcher: Patcher) -> None:
    (file,) = patcher.streams(1)
    file.write_text(file.read_text().replace("pollingInterval: 10", "pollingInterval: 90"))
    ended = patcher.run(file)
    assert ended.returncode == 2
    number = 1 + file.read_text().splitlines().index("  pollingInterval: 90")
    assert (
        f"{file}:{number}: spec.pollingInterval: 90 s and a grace period of 40 s are together more" in ended.stderr
    )
    assert "accepted: 110 s" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--scaler-address", "here"], "'here' is not accepted; accepted: ", id="address"),
        pytest.param(["--namespace", "No Name"], "'No Name' is not accepted", id="namespace"),
        pytest.param(["--seed", "x"], "invalid int value: 'x'", id="seed"),
        pytest.param(["--output-dir", "/nowhere"], "--output-dir /nowhere is no folder", id="output folder"),
        pytest.param(
            ["--image", "one:1"],
            "pi1, pi2 have a script of their own; accepted: a name with {pi_id} in it",
            id="one image",
        ),
        pytest.param(["/nowhere/posture-job-pi1.yaml"], "can't be read: No such file or directory", id="file"),
        pytest.param(["--new-stream", "pi7"], "--new-stream stands alone", id="a new stream beside files"),
    ],
)
def test_a_flag_that_is_not_accepted_ends_with_status_2(patcher: Patcher, arguments: list[str], said: str) -> None:
    ended = patcher.run(*patcher.streams(2), *arguments)
    assert ended.returncode == 2
    assert said in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert not patcher.placed()


def test_an_empty_map_of_nodes_is_refused(patcher: Patcher) -> None:
    patcher.nodes = []
    ended = patcher.run(*patcher.streams(1))
    assert (ended.returncode, "GPU_QUERIES is empty" in ended.stderr) == (2, True)


def test_a_stream_that_is_to_be_different_gets_a_file_of_its_own_and_works_at_once(patcher: Patcher) -> None:
    ended = patcher.run("--new-stream", "hall-7")
    assert ended.returncode == 0, ended.stderr
    (manifest,) = patcher.folder.iterdir()
    assert manifest.name == "posture-job-hall-7.yaml"
    assert "nvidia.com/gpu" in manifest.read_text(), "the template's comments are a help, too"
    assert patcher.run(manifest).returncode == 0
    assert patcher.placed() == {"hall-7": "idle"}


def test_a_file_of_its_own_overwrites_nothing(patcher: Patcher) -> None:
    (patcher.folder / "posture-job-pi7.yaml").write_text("mine")
    ended = patcher.run("--new-stream", "pi7")
    assert ended.returncode == 2
    assert f"{patcher.folder / 'posture-job-pi7.yaml'}: is there already" in ended.stderr
    assert content(patcher.folder) == {"posture-job-pi7.yaml": b"mine"}


def test_a_new_streams_name_must_be_one(patcher: Patcher) -> None:
    ended = patcher.run("--new-stream", "Pi 7")
    assert ended.returncode == 2
    assert "'Pi 7' is no stream's name; accepted: a-z, 0-9 and -" in ended.stderr
    assert not content(patcher.folder)


def test_the_dry_run_of_a_new_stream_writes_nothing(patcher: Patcher) -> None:
    ended = patcher.run("--dry-run", "--new-stream", "pi7")
    assert ended.stdout.count("would write") == 1
    assert not content(patcher.folder)


@pytest.fixture
def listed(patcher: Patcher) -> Path:
    """Settings with two hundred cameras, a line each."""
    settings = patcher.folder / "farm.yaml"
    names = "".join(f"  - hall-{number}\n" for number in range(1, 13))
    settings.write_text(f"images: {{registry: 'registry:5000'}}\nstreams:\n{names}")
    return settings


def test_cameras_are_lines_of_the_list_and_run_one_image_by_one_template(patcher: Patcher, listed: Path) -> None:
    ended = patcher.run("--config", listed)
    assert ended.returncode == 0, ended.stderr
    assert Counter(patcher.placed().values()) == {"idle": 4, "half": 4, "busy": 4}
    order = re.findall(r"^(\S+) -> ", ended.stdout, re.M)
    assert order == [f"hall-{number}" for number in range(1, 13)]
    for stream in order:
        (container,) = pod_of(patcher.folder / f"patched-job-{stream}.yaml")["containers"]
        assert container["image"] == "registry:5000/posture-analyzer:latest"
        assert {"name": "POSTURE_STREAM", "value": stream} in container["env"]


def test_files_of_streams_that_are_not_in_the_list_are_told_of_and_not_placed(
    patcher: Patcher, listed: Path
) -> None:
    ended = patcher.run("--config", listed, "--dry-run")
    said = next(line for line in ended.stdout.splitlines() if line.startswith("warning: "))
    assert (
        "posture-job-pi1.yaml, posture-job-pi2.yaml: of pi1, pi2, which the farm does not have: not started" in said
    )
    assert "pi1 -> " not in ended.stdout


def test_a_file_of_its_own_for_a_stream_that_is_not_in_the_list_says_which_line_is_missing(
    patcher: Patcher, listed: Path
) -> None:
    ended = patcher.run("--config", listed, "--new-stream", "door")
    assert "not in streams of cluster.yaml yet: add the line - door" in ended.stdout
    assert "add the line" not in patcher.run("--config", listed, "--new-stream", "hall-2").stdout


def test_streams_are_placed_by_signals_and_one_that_looks_like_a_ratio_is_named(patcher: Patcher) -> None:
    by_signal = {node: {"instance": instance_of(node), "signal": ["own", "twice"]} for node in patcher.nodes}
    by_metric = {"nan": {"instance": instance_of("nan"), "metric": "gpu_usage_ratio"}}
    signals = {
        "own": {"metric": METRIC},
        "twice": {"query": f"clamp(2 * {METRIC} / 100, 0, 1) * 100", "fresh": METRIC, "scale": 1},
    }
    patcher.environ = {
        "POSTURE_GPU_QUERIES": json.dumps({**by_signal, **by_metric}),
        "POSTURE_SIGNALS": json.dumps(signals),
    }
    ended = patcher.run("--dry-run", *patcher.streams(4))
    assert ended.returncode == 0, ended.stderr
    shown = re.findall(r"^(\w+) +([\d.]+) % ", ended.stdout, re.M)
    assert shown == [("busy", "100.0"), ("half", "100.0"), ("idle", "10.0")]
    assert "nan: gpu_usage_ratio looks like a ratio" in ended.stderr


def test_the_three_scheduling_scripts_have_one_map() -> None:
    maps = [script.GPU_QUERIES for script in (patch_scaledjob, gpu_balancer, cpu_monitor_and_offload)]
    assert maps[0] is maps[1] is maps[2]
    for script in ("patch_scaledjob.py", "gpu_balancer.py", "cpu_monitor_and_offload.py"):
        first = (ROOT / script).read_text().splitlines()[:45]
        assert "GPU_QUERIES = loading.GPU_QUERIES" in first, "a reader meets it there"


def test_the_examples_of_the_map_are_accepted_and_each_exporter_has_its_own_port(tmp_path: Path) -> None:
    example = re.sub(r"^  # (?=\S+: +\{)", "  ", (ROOT / "cluster.yaml").read_text(), flags=re.M)
    (tmp_path / "cluster.yaml").write_text(example)
    found = loading.load(tmp_path / "cluster.yaml").gpu_queries
    assert len(found) >= 4
    ports = {"gpu": 9101, "dcgm": 9400, "nvidia-smi": 9835, "jetson_gpu_usage_percent": 9100}
    for query in found.values():
        port = re.search(r":(\d+)$", query.instance)
        assert port is None or {int(port[1])} == {ports[signal.name] for signal in query.signals}
    assert [signal.name for signal in found["jetson-1"].signals] == ["gpu", "cpu"], "what is recommended"
    for preset in ("memory", "decoder"):
        assert f"  {preset}: {{" in example
