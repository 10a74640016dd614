"""What stands in deploy/, against the code it is for. tests/cluster/test_deploy.py asks the API server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests
import yaml
from kustomize_tool import render
from prometheus_client import CollectorRegistry, generate_latest
from servers import find_program, free_port

from posture.balancer.metrics import BalancerMetrics
from posture.kube import kubeconfig, labels, taints
from posture.kube.client import KubeClient
from posture.lifecycle.scaler_in_cluster import InCluster
from posture.settings import table

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "base"
WITH_TLS = DEPLOY / "overlays" / "tls"
FOLDERS = [DEPLOY, BASE, WITH_TLS]
EXPORTER = DEPLOY / "exporter"
DASHBOARD = DEPLOY / "dashboard"
MANIFESTS = sorted(path for folder in [*FOLDERS, EXPORTER, DASHBOARD] for path in folder.glob("*.yaml"))
ALERTS = DEPLOY / "monitoring" / "alerts.yml"


def objects(*folders_or_files: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in folders_or_files or MANIFESTS:
        for item in yaml.safe_load_all(path.read_text()):
            if item and item["kind"] != "Kustomization":
                yield path, item


def find(kind: str, path: Path) -> dict[str, Any]:
    (found,) = (item for _, item in objects(path) if item["kind"] == kind)
    return found


def test_every_object_is_known_as_the_farms() -> None:
    for path, item in objects():
        if path != WITH_TLS / "scaler.yaml":  # a patch
            assert item["metadata"]["labels"][labels.PART_OF] == labels.OURS, (path, item["kind"])
        clusterwide = item["kind"] == "Namespace" or item["kind"].startswith(("Cluster", "ValidatingAdmission"))
        assert item["metadata"].get("namespace") == (None if clusterwide else table.Kubernetes().namespace)
    deployment = find("Deployment", BASE / "scaler.yaml")
    farm = {name: value for name, value in labels.of_farm(table.Kubernetes().farm).items() if value}
    assert farm.items() <= deployment["metadata"]["labels"].items(), "stop.py finds it by these"
    assert labels.STREAM not in deployment["spec"]["template"]["metadata"]["labels"], "it is no analyzer"


def test_kustomize_gets_every_file_but_the_example_of_a_secret() -> None:
    names = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert sorted(names) == sorted(path.name for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")
    assert yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())["resources"] == ["base"]
    tls = yaml.safe_load((WITH_TLS / "kustomization.yaml").read_text())
    assert tls["resources"] == ["../../base", "trigger-authentication.yaml"]
    assert tls["patches"] == [{"path": "scaler.yaml"}]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_kustomize_takes_no_folder_that_it_lies_in(folder: Path) -> None:
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
        assert not folder.is_relative_to((folder / name).resolve()), "kustomize calls that a cycle"
    kinds = [item["kind"] for item in render(folder)]
    assert kinds.count("Deployment") == 1
    assert ("TriggerAuthentication" in kinds) == (folder == WITH_TLS)
    assert "Secret" not in kinds


def test_kustomize_renders_what_the_files_say() -> None:
    """posture/lifecycle/scaler_in_cluster.py reads the files without kustomize."""
    files = [item for _, item in objects(*BASE.glob("*.yaml"))]
    rendered = render(DEPLOY)
    assert len(rendered) == len(files)
    assert all(item in rendered for item in files)


def test_the_overlay_for_tls_adds_to_the_base_and_changes_the_deployment_alone() -> None:
    base, tls = render(BASE), render(WITH_TLS)
    added = [item for item in tls if item not in base]
    assert [item["kind"] for item in added] == ["Deployment", "TriggerAuthentication"]
    (lost,) = (item for item in base if item not in tls)
    assert lost["kind"] == "Deployment"
    before, after = (item["spec"]["template"]["spec"]["containers"][0] for item in (lost, added[0]))
    assert all(entry in after["env"] for entry in before["env"])
    assert {entry["name"] for entry in after["env"] if entry not in before["env"]} == {
        "POSTURE_SCALER_TLS_CERT",
        "POSTURE_SCALER_TLS_KEY",
        "POSTURE_SCALER_CLIENT_CA",
    }


def test_a_farm_of_another_name_has_its_own_scaler_behind_the_service() -> None:
    in_cluster = InCluster(cast("KubeClient", SimpleNamespace(namespace="elsewhere")), "second")
    settings, *made = in_cluster.objects()
    (deployment,) = (item for item in made if item["kind"] == "Deployment")
    deployment = in_cluster._deployment(deployment, "image", settings, partly=False)
    (service,) = (item for item in made if item["kind"] == "Service")
    template = deployment["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert keys_by_effect(template["spec"])["NoSchedule"] == [taints.master_key("second")]


@pytest.mark.parametrize("path", [BASE / "scaler.yaml", DEPLOY / "dashboard" / "dashboard.yaml"])
def test_scaler_and_page_do_not_wait_five_minutes_for_a_node_that_is_lost(path: Path) -> None:
    pod = find("Deployment", path)["spec"]["template"]["spec"]
    lost = [item for item in pod["tolerations"] if item["effect"] == "NoExecute"]
    assert {item["key"]: item["tolerationSeconds"] for item in lost} == {
        "node.kubernetes.io/not-ready": 30,
        "node.kubernetes.io/unreachable": 30,
    }


def keys_by_effect(pod: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in pod["tolerations"]:
        found.setdefault(item["effect"], []).append(item["key"])
    return found


def test_no_two_of_composes_services_build_one_image() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    built = [service["image"] for service in services if "build" in service]
    assert len(built) == len(set(built)) == 8, "Compose 2 builds all at once, and the second one fails"


def test_the_example_of_a_secret_has_all_keys_that_pods_read_and_no_value() -> None:
    secret = find("Secret", DEPLOY / "secret-example.yaml")
    assert set(secret["stringData"].values()) == {""}
    asked = set()
    for path in [*ROOT.glob("posture-job-*.yaml"), BASE / "scaler.yaml"]:
        asked |= set(re.findall(r"name: posture-farm, key: (\w+)", path.read_text()))
    assert set(secret["stringData"]) == asked
    known = {table.environment_name(section, name) for section, name, _ in table.all_settings()}
    assert asked <= known


def test_the_scalers_pod_may_nothing_and_runs_beside_the_masters_taint() -> None:
    pod = find("Deployment", BASE / "scaler.yaml")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == 10001
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert pod["enableServiceLinks"] is False
    assert keys_by_effect(pod)["NoSchedule"] == [taints.master_key(table.Kubernetes().farm)]
    known = {table.environment_name(section, name) for section, name, _ in table.all_settings()}
    patch = find("Deployment", WITH_TLS / "scaler.yaml")["spec"]["template"]["spec"]["containers"][0]
    own = [entry for container in pod["containers"] for entry in container["env"]]
    assert {entry["name"] for entry in (*own, *patch["env"])} <= known


def test_the_token_is_in_the_balancers_container_alone() -> None:
    pod = find("Deployment", BASE / "scaler.yaml")["spec"]["template"]["spec"]
    scaler, balancer = pod["containers"]
    assert not pod["automountServiceAccountToken"]
    (token,) = (volume for volume in pod["volumes"] if "projected" in volume)
    assert token["name"] not in {mount["name"] for mount in scaler["volumeMounts"]}
    assert {mount["name"]: mount["mountPath"] for mount in balancer["volumeMounts"]}[token["name"]] == str(
        kubeconfig.SERVICE_ACCOUNT
    )
    assert "--no-balancer" in scaler["args"]
    assert (ROOT / balancer["command"][1]).is_file()


def test_keda_alone_reaches_the_scalers_port() -> None:
    policies = {item["metadata"]["name"]: item["spec"] for _, item in objects(BASE / "network-policy.yaml")}
    scaler = find("Deployment", BASE / "scaler.yaml")["spec"]["template"]["metadata"]["labels"]
    policy = policies["posture-scaler"]
    assert policy["podSelector"]["matchLabels"].items() <= scaler.items()
    assert policy["policyTypes"] == ["Ingress"]
    port = int(table.Scaler().listen.rpartition(":")[2])
    openings = [rule for rule in policy["ingress"] if port in [entry["port"] for entry in rule["ports"]]]
    keda = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}
    assert openings == [{"from": [keda], "ports": [{"protocol": "TCP", "port": port}]}]
    service = find("Service", BASE / "scaler.yaml")
    assert service["spec"]["type"] == "ClusterIP"
    address = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{port}"
    for path in ROOT.glob("posture-job-*.yaml"):
        (trigger,) = yaml.safe_load(path.read_text())["spec"]["triggers"]
        assert trigger["metadata"]["scalerAddress"] == address
    assert policies["posture-analyzers"].get("ingress", []) == [], "nobody connects to an analyzer"


def test_prometheus_in_the_cluster_reaches_the_balancers_figures() -> None:
    containers = find("Deployment", BASE / "scaler.yaml")["spec"]["template"]["spec"]["containers"]
    (balancer,) = (one for one in containers if one["name"] == "balancer")
    variables = {entry["name"]: entry.get("value") for entry in balancer["env"]}
    assert variables["POSTURE_BALANCER_METRICS_HOST"] == "", "of all addresses, not of the pod's loopback alone"
    port = int(variables["POSTURE_BALANCER_METRICS_PORT"])
    assert {"name": "balancer", "containerPort": port} in balancer["ports"]
    service = find("Service", BASE / "scaler.yaml")
    assert {"name": "balancer", "port": port, "targetPort": "balancer"} in service["spec"]["ports"]
    policies = {item["metadata"]["name"]: item["spec"] for _, item in objects(BASE / "network-policy.yaml")}
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    (opening,) = (rule for rule in policies["posture-scaler"]["ingress"] if rule["from"] == [monitoring])
    assert {"protocol": "TCP", "port": port} in opening["ports"]
    jobs = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    address = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{port}"
    assert [address] in [config["targets"] for job in jobs for config in job["static_configs"]]


def test_the_pages_account_only_lists_and_its_pod_may_nothing() -> None:
    rules = [rule for _, item in objects(DASHBOARD / "rbac.yaml") for rule in item.get("rules", [])]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"list"}
    assert {kind for rule in rules for kind in rule["resources"]} == {"scaledjobs", "pods", "events", "nodes"}
    pod = find("Deployment", DASHBOARD / "dashboard.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    known = {table.environment_name(section, name) for section, name, _ in table.all_settings()}
    assert [name for name in given if not {name, name.removesuffix("_FILE")} & known] == []
    assert given["POSTURE_DASHBOARD_USERS_FILE"], "beyond loopback it ends without a login"


def test_kustomize_gets_every_file_of_the_page() -> None:
    names = yaml.safe_load((DASHBOARD / "kustomization.yaml").read_text())["resources"]
    assert sorted(names) == sorted(
        path.name for path in DASHBOARD.glob("*.yaml") if path.name != "kustomization.yaml"
    )


def test_composes_broker_has_the_settings_that_the_documentation_asks_for() -> None:
    part = (ROOT / "docs" / "broker.md").read_text()
    asked = re.findall(r"```\n(.*?)```", part, re.S)[0].splitlines()
    given = (DEPLOY / "mosquitto.conf").read_text().splitlines()
    assert set(asked) <= set(given)


@pytest.mark.parametrize(
    "path",
    [BASE / "scaler.yaml", DASHBOARD / "dashboard.yaml", EXPORTER / "exporter.yaml"],
    ids=lambda path: path.stem,
)
def test_a_program_may_take_seconds_to_answer_on_a_busy_node(path: Path) -> None:
    workloads = [item for _, item in objects(path) if item["kind"] in ("Deployment", "DaemonSet")]
    containers = [one for item in workloads for one in item["spec"]["template"]["spec"]["containers"]]
    probes = [probe for one in containers for name, probe in one.items() if name.endswith("Probe")]
    assert probes
    assert min(probe.get("timeoutSeconds", 1) for probe in probes) >= 5


def promtool(*arguments: str) -> str:
    command = [find_program("promtool", "prometheus"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_scrape_configuration_and_the_alerts() -> None:
    assert "SUCCESS" in promtool("check", "config", str(DEPLOY / "monitoring" / "prometheus.yml"))
    jobs = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    (nodes,) = (job for job in jobs if job["job_name"] == "posture-nodes")
    assert nodes["scrape_interval"] == f"{table.Prometheus().scrape_interval_s:g}s"


def test_each_alert_comes_when_it_must_and_not_before(tmp_path: Path) -> None:
    """promtool evaluates the rules over these series, one value a minute."""
    series = {
        "PostureScalerDown": ('up{job="posture-scaler"}', "1 1 0 0 0 0", 5),
        "PostureKedaSilent": ("posture_scaler_keda_age_seconds", "5 5 121 181 241", 4),
        "PostureStreamForgotten": ('posture_scaler_scaledjob_age_seconds{scaledjob="x"}', "5 301 361 421", 3),
        "PostureBalancerDown": ("posture_balancer_up", "1 0 0 0 0", 4),
        "PostureBalancerRestarts": ("posture_balancer_restarts_total", "0 1 2 4 6", 4),
        "PostureNodeUnknown": ('posture_node_valid{node="agx"}', "1 0 0 0 0", 4),
        "PostureUsageStale": ("posture_scaler_snapshot_age_seconds", "5 61 121 181", 3),
        "PostureFarmFull": ("posture_scaler_active", "1 0x12", 12),
        "PostureStreamDown": ('posture_stream_running{stream="pi1",instance="b:9465"}', "1 0x8", 7),
        "PostureMoveHangs": (
            'posture_balancer_move_open_seconds{stream="pi1",source="agx",destination="nano"}',
            "60x2 301",
            3,
        ),
        "PostureNodeStaysOverloaded": ('posture_balancer_node_overloaded{node="agx"}', "_ 1x17", 17),
        "PostureSignalDisagrees": (
            'posture_balancer_signal_disagrees{node="nano",measured="gpu",used="cpu"}',
            "_ 1x17",
            17,
        ),
        "PostureGpuMissing": ('posture_stream_gpu_missing{stream="pi1",node="orin"}', "_ 1x8", 7),
        "PostureBalancerIdle": ('posture_balancer_acting{farm="north"}', "1 0 0 0 0", 4),
    }
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} == set(series)
    cases = []
    for alert, (name, values, minute) in series.items():
        rule = next(rule for rule in rules if rule["alert"] == alert)
        more = dict(re.findall(r'(\w+)="([^"]*)"', name))
        # what other series add to it has a test of its own
        summary = re.sub(r"\{\{ range .*?\{\{ end \}\}", "", rule["annotations"]["summary"])
        for label, value in more.items():
            summary = summary.replace(f"{{{{ $labels.{label} }}}}", value)
        fired = {
            "exp_labels": {**rule["labels"], **more},
            "exp_annotations": {"summary": summary.replace("{{ $value | humanizeDuration }}", "4m 1s")},
        }
        cases.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values}],
                "alert_rule_test": [
                    {"eval_time": "1m", "alertname": alert, "exp_alerts": []},
                    {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": [fired]},
                ],
            }
        )
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "tests": cases}))
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "tests.yml"))


def test_alerts_about_streams_and_nodes_have_the_balancers_reasons(tmp_path: Path) -> None:
    """Node and reason change while a stream stays down, as with a rescue that fails."""
    given = {
        'posture_stream_running{stream="pi1",node="agx",instance="b"}': "1 0x2 stale",
        'posture_stream_running{stream="pi1",node="nano",instance="b"}': "_x3 0x9",
        'posture_stream_trouble{stream="pi1",node="agx",instance="b",reason="NoJob"}': "_ 1x2 stale",
        'posture_stream_trouble{stream="pi1",node="nano",instance="b",reason="FailedCreate"}': "_x3 1x9",
        'posture_balancer_node_overloaded{node="agx"}': "1x20",
        'posture_balancer_veto{node="agx",stream="pi2",reason="pinned"}': "1x20",
    }
    down = (
        "Stream pi1 does not run on nano: FailedCreate. Its ScaledJob's Events say more.",
        {"stream": "pi1", "instance": "b", "severity": "critical"},
    )
    stuck = (
        "Node agx stays overloaded. pi2 pinned; docs/balancing.md explains each veto.",
        {"node": "agx", "severity": "warning"},
    )
    expected = [
        {
            "eval_time": at,
            "alertname": alert,
            "exp_alerts": [{"exp_labels": has, "exp_annotations": {"summary": told}}],
        }
        for at, alert, (told, has) in (
            ("8m", "PostureStreamDown", down),
            ("16m", "PostureNodeStaysOverloaded", stuck),
        )
    ]
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in given.items()],
        "alert_rule_test": expected,
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "tests": [case]}))
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "tests.yml"))


@pytest.fixture
def exported(tmp_path: Path) -> Iterator[str]:
    """What a running scaler tells Prometheus."""
    settings, port = tmp_path / "cluster.yaml", free_port()
    settings.write_text(
        yaml.safe_dump(
            {
                "GPU_QUERIES": {"agx": {"instance": "127.0.0.1:1", "metric": "gpu"}},
                "prometheus": {"url": f"http://127.0.0.1:{free_port()}"},
                "scaler": {"listen": f"127.0.0.1:{free_port()}", "metrics_port": port},
                "kubernetes": {"context": "none"},
            }
        )
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")}
    command = [sys.executable, str(ROOT / "cpu_monitor_and_offload.py"), "--config", str(settings)]
    with (tmp_path / "scaler.log").open("wb") as log, subprocess.Popen(command, stderr=log, env=environ) as scaler:
        try:
            retry = requests.adapters.Retry(connect=12, backoff_factor=0.05)
            with requests.Session() as session:
                session.trust_env = False
                session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
                yield session.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
        finally:
            scaler.terminate()


def test_every_figure_that_an_alert_looks_at_is_exported(exported: str) -> None:
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    asked = set(re.findall(r"posture_\w+", "\n".join(rule["expr"] for rule in rules)))
    assert len(asked) >= 6
    registry = CollectorRegistry()
    BalancerMetrics(registry, "default")
    offered = set(re.findall(r"^# TYPE (\w+)", exported + generate_latest(registry).decode(), re.M))
    assert asked <= offered | {f"{name}_total" for name in offered}
