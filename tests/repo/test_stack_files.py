"""deploy/stack and its overlays: what one object names of another is there, and who may connect to whom."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kustomize_tool import render
from servers import find_program
from stack_objects import DEPLOY, KEDA, PARTS, STACK, WHOLE, Object, find, objects, pod_specs, rendered

ROOT = DEPLOY.parent
SECRETS = {
    "posture-farm", "posture-mqtt", "posture-mqtt-tls", "posture-mqtt-balancer", "posture-mqtt-dashboard",
    "posture-dashboard", "posture-postgres", "posture-scaler-server-tls",
}  # fmt: skip
"""What setup_farm.py makes."""
CONFIG_MAPS = {"posture-scaler", "posture-ca", "kube-root-ca.crt"}
"""What build_and_push.py, setup_farm.py and Kubernetes make."""
OURS = {"posture-scheduler", "posture-dashboard", "posture-exporter"}
"""build_and_push.py --in-cluster gives these images their names."""
LOCAL = [name for name in WHOLE if name != "overlays/any-kubernetes"]
ALONE = ["stack/registry", "stack/restore"]
EVERYTHING = [*LOCAL, *ALONE]


def with_the_stack(name: str) -> list[Object]:
    """Its objects; with those of the stack where it is applied beside that."""
    return [*rendered(name), *(rendered("stack") if name in ALONE else ())]


def labels_of(template: Mapping[str, Any]) -> dict[str, str]:
    return dict(template["metadata"]["labels"])


def stream() -> Object:
    """The pod template of a stream."""
    text = (DEPLOY / "posture-job.yaml").read_text()
    return dict(yaml.safe_load(text)["spec"]["jobTargetRef"]["template"])


def selects(selector: Mapping[str, Any], template: Mapping[str, Any]) -> bool:
    """Whether a label selector fits a pod template."""
    labels = labels_of(template)
    for one in selector.get("matchExpressions", []):
        if one["operator"] not in {"In", "Exists"}:
            raise NotImplementedError(one["operator"])
        if one["key"] not in labels or (one["operator"] == "In" and labels[one["key"]] not in one["values"]):
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def named_ports(template: Mapping[str, Any]) -> dict[str, int]:
    ports = [port for container in template["spec"]["containers"] for port in container.get("ports", [])]
    return {port["name"]: port["containerPort"] for port in ports}


@pytest.mark.parametrize("name", EVERYTHING)
def test_each_service_leads_to_one_pod_and_to_ports_that_it_has(name: str) -> None:
    templates = [template for _, template in pod_specs(rendered(name))]
    for service in (item for item in rendered(name) if item["kind"] == "Service"):
        (found,) = (one for one in templates if selects({"matchLabels": service["spec"]["selector"]}, one))
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(named_ports(found)), service[
            "metadata"
        ]


@pytest.mark.parametrize("name", EVERYTHING)
def test_each_secret_config_map_and_claim_that_a_pod_names_is_made_by_somebody(name: str) -> None:
    made = {(item["kind"], item["metadata"]["name"]) for item in with_the_stack(name)}
    assert "Secret" not in {kind for kind, _ in made}, "no credential is in any of these files"
    for whose, template in pod_specs(rendered(name)):
        text = yaml.safe_dump(template["spec"])
        secrets = set(re.findall(r"(?:secretName: |secretKeyRef:\n +key: .*\n +name: )(\S+)", text))
        assert secrets <= SECRETS, whose
        volumes = template["spec"].get("volumes", [])
        sources = [source for one in volumes for source in (one.get("projected") or {"sources": [one]})["sources"]]
        for source in sources:
            if config := source.get("configMap"):
                assert config["name"] in CONFIG_MAPS or ("ConfigMap", config["name"]) in made, whose
            if claim := source.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in made, whose


@pytest.mark.parametrize("name", EVERYTHING)
def test_each_policy_is_about_pods_and_ports_that_exist(name: str) -> None:
    templates = [*(template for _, template in pod_specs(with_the_stack(name))), stream()]
    for policy in (item for item in rendered(name) if item["kind"] == "NetworkPolicy"):
        spec, told = policy["spec"], policy["metadata"]["name"]
        about = [one for one in templates if selects(spec["podSelector"], one)]
        assert about, told
        for rule in spec.get("ingress", []):
            assert {port["port"] for port in rule["ports"]} <= {
                port for one in about for port in named_ports(one).values()
            }, told
            for peer in rule.get("from", []):
                if "podSelector" in peer:
                    assert any(selects(peer["podSelector"], one) for one in templates), (told, peer)


@pytest.mark.parametrize("name", LOCAL)
def test_nobody_connects_to_a_pod_of_the_farm_unless_a_policy_says_so(name: str) -> None:
    policies = [item["spec"] for item in rendered(name) if item["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress"]} in policies


def test_a_server_connects_to_nobody_and_an_analyzer_to_three_servers_and_names() -> None:
    policy = find("stack", "NetworkPolicy", "posture-servers-only-answer")["spec"]
    assert policy["policyTypes"] == ["Egress"]
    assert "egress" not in policy
    (names,) = policy["podSelector"]["matchExpressions"]
    servers = {
        labels_of(template)["app.kubernetes.io/name"]
        for whose, template in [*pod_specs(rendered("stack")), *pod_specs(rendered("stack/registry"))]
        if whose.split()[0] in {"StatefulSet", "DaemonSet"} and not whose.endswith(" prometheus")
    }
    assert set(names["values"]) == servers
    analyzers = find("stack", "NetworkPolicy", "posture-analyzers-connect")["spec"]
    assert selects(analyzers["podSelector"], stream())
    templates = [template for _, template in pod_specs(rendered("stack"))]
    reached = set()
    for rule in analyzers["egress"]:
        (peer,) = rule["to"]
        for one in templates if "podSelector" in peer else []:
            if selects(peer["podSelector"], one):
                assert {port["port"] for port in rule["ports"]} <= set(named_ports(one).values())
                reached.add(labels_of(one)["app.kubernetes.io/name"])
    assert reached == {"posture-mqtt", "posture-postgres", "posture-pictures"}


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_image_that_is_not_ours_has_a_version_and_a_command(name: str) -> None:
    for whose, template in pod_specs(rendered(name)):
        for container in template["spec"]["containers"]:
            image, _, tag = container["image"].rpartition(":")
            if image not in OURS:
                assert re.fullmatch(r"v?\d+(\.\d+)+", tag), (whose, container["image"])
                # the database's own entry point makes an empty one
                assert "command" in container or image == "postgres", whose


@pytest.mark.parametrize("name", EVERYTHING)
def test_no_pod_has_more_rights_than_it_needs(name: str) -> None:
    for whose, template in pod_specs(rendered(name)):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"], whose
        assert spec["securityContext"]["runAsUser"] > 0, whose
        assert not spec["enableServiceLinks"], whose
        token = spec["automountServiceAccountToken"]
        assert token == (whose in {"StatefulSet prometheus", "Deployment posture-dashboard"}), whose
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"], whose
            assert security["capabilities"] == {"drop": ["ALL"]}, whose
            assert "memory" in container["resources"]["limits"], whose


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_ones_own_takes_that_part_away_and_nothing_else(part: str) -> None:
    def key(item: Object) -> tuple[str, str]:
        return item["kind"], item["metadata"]["name"]

    everything = {key(item): item["metadata"]["labels"].get("posture-farm/part") for item in rendered("stack")}
    left = {key(item) for item in rendered(f"overlays/own-{part}")}
    of_the_part = {name for name, whose in everything.items() if whose == part}
    assert of_the_part
    if part in {"broker", "database", "pictures"}:
        of_the_part.add(("NetworkPolicy", "posture-analyzers-connect"))
    assert set(everything) - left == of_the_part
    assert not left - set(everything)


def test_parts_can_be_left_out_together(tmp_path: Path) -> None:
    """As docs/stack.md says, in a folder of one's own beside these."""
    example = re.search(r"```yaml\n# deploy/mine/kustomization.yaml\n(.*?)```", docs(), re.DOTALL)
    assert example is not None
    mine = shutil.copytree(DEPLOY, tmp_path / "deploy") / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(example[1])
    left = {item["metadata"]["labels"].get("posture-farm/part") for item in render(mine)}
    assert left == {None, *PARTS} - {"broker", "database"}


def docs() -> str:
    return (ROOT / "docs" / "stack.md").read_text()


def test_keda_is_of_one_version_everywhere() -> None:
    chart = find("stack", "HelmChart", "keda")["spec"]
    assert (chart["version"], chart["failurePolicy"]) == (KEDA[1].removeprefix("v"), "abort")
    (url,) = yaml.safe_load((STACK / "keda-manifests" / "kustomization.yaml").read_text())["resources"]
    assert url.endswith(f"/download/{KEDA[1]}/keda-{chart['version']}.yaml")
    assert f"github.com/kedacore/keda/v2 {KEDA[1]}" in (ROOT / "tests" / "cluster" / "go.mod").read_text()
    values = yaml.safe_load(chart["valuesContent"])
    patches = (STACK / "keda-manifests" / "kustomization.yaml").read_text()
    for flag, value in values["extraArgs"]["keda"].items():
        assert f"--{flag}={value}" in patches


def test_rules_for_prometheus_operator_are_those_of_the_files(tmp_path: Path) -> None:
    script = Path("deploy") / "overlays" / "kube-prometheus-stack" / "rules.py"
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    subprocess.run([sys.executable, str(tmp_path / script)], check=True, timeout=60)
    written = (tmp_path / script).with_suffix(".yaml").read_text()
    assert (ROOT / script).with_suffix(".yaml").read_text() == written, f"run python3 {script}"
    wanted = [
        group
        for name in ("alerts.yml", "recording.yml")
        for group in yaml.safe_load((DEPLOY / "monitoring" / name).read_text())["groups"]
    ]
    assert find("overlays/kube-prometheus-stack", "PrometheusRule", "posture-farm")["spec"]["groups"] == wanted


def test_prometheus_operator_is_told_of_the_same_jobs() -> None:
    config = yaml.safe_load((DEPLOY / "monitoring" / "prometheus-in-cluster.yml").read_text())
    wanted = {job["job_name"] for job in config["scrape_configs"] if job["job_name"].startswith("posture-")}
    told = set()
    templates = [template for _, template in pod_specs(rendered("stack"))]
    for monitor in objects("overlays/kube-prometheus-stack", "PodMonitor"):
        (pod,) = (one for one in templates if selects(monitor["spec"]["selector"], one))
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert endpoint["port"] in named_ports(pod)
            jobs = [one["replacement"] for one in endpoint["relabelings"] if one["targetLabel"] == "job"]
            told |= set(jobs) or {labels_of(pod)[monitor["spec"]["jobLabel"]]}
    assert told == wanted


@pytest.mark.parametrize("folder", sorted(path.name for path in (STACK / "without").iterdir()))
def test_each_part_has_its_overlay(folder: str) -> None:
    assert folder in PARTS
    assert f"deploy/overlays/own-{folder}" in docs()


def test_prometheus_takes_the_configuration_that_is_mounted_into_its_pod(tmp_path: Path) -> None:
    """Debian's promtool knows no discovery in Kubernetes: fixed targets stand in its place."""
    (config_map,) = (one for one in objects("stack", "ConfigMap") if one["metadata"]["namespace"] == "monitoring")
    for name, text in config_map["data"].items():
        (tmp_path / name).write_text(text)
    config = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        if job.pop("kubernetes_sd_configs", None):
            job["static_configs"] = [{"targets": ["127.0.0.1:9"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [find_program("promtool", "prometheus"), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


@pytest.mark.parametrize(
    ("alert", "series"),
    [
        (
            "PosturePicturesFilling",
            {
                'SeaweedFS_volumeServer_resource{job="posture-pictures",name="/data",type="all"}': "100x30",
                'SeaweedFS_volumeServer_resource{job="posture-pictures",name="/data",type="avail"}': "20 10x30",
            },
        ),
        (
            "PostureBackupOld",
            {'kube_cronjob_created{namespace="posture-farm",cronjob="posture-backup"}': "-172800x30"},
        ),
        (
            "PostureVolumeFilling",
            {
                'kubelet_volume_stats_available_bytes{namespace="posture-farm"}': "20 10x30",
                'kubelet_volume_stats_capacity_bytes{namespace="posture-farm"}': "100x30",
            },
        ),
    ],
)
def test_an_alert_about_the_stack_comes_when_it_must(alert: str, series: dict[str, str], tmp_path: Path) -> None:
    found = objects("overlays/kube-prometheus-stack", "PrometheusRule")
    groups = [group for one in found for group in one["spec"]["groups"]]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": firing, "eval_time": at, "exp_samples": [{"labels": "{}", "value": value}]}
            for at, value in (("1m", 0), ("17m", 1))
        ],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": [case]}))
    command = [find_program("promtool", "prometheus"), "test", "rules", str(tmp_path / "tests.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
