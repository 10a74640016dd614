"""ScaledJobs as YAML: only what is to change changes, and what is not as it must be is named with file and line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from posture.errors import UserError
from posture.kube import affinity
from posture.manifests import files
from posture.manifests.scaled_job import Manifest
from posture.settings import table

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(ROOT.glob("posture-job-*.yaml"))
POD = ("spec", "jobTargetRef", "template", "spec")

SMALL = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledJob
metadata:
  name: posture-analyzer-scaledjob-pi1
spec:
  triggers:
    - type: external
      metadata: {scalerAddress: "scaler:50051"}
  jobTargetRef:
    template:
      spec:
        containers:
          - {name: analyzer, image: posture-pi1}
"""


def manifest(text: str, name: str = "posture-job-pi1.yaml") -> Manifest:
    return Manifest(Path(name), text)


def mistakes(text: str, name: str = "posture-job-pi1.yaml") -> list[str]:
    with pytest.raises(UserError) as refused:
        manifest(text, name)
    return str(refused.value).splitlines()


def changed(before: Any, after: Any, at: str = "") -> set[str]:
    """Paths at which two pieces of data differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        return {
            path
            for key in before.keys() | after.keys()
            for path in changed(before.get(key), after.get(key), f"{at}.{key}")
        }
    return set() if before == after else {at}


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in SHIPPED])
def test_placing_changes_the_node_alone(path: Path) -> None:
    one = files.load([path])[0]
    before = yaml.safe_load(path.read_text())
    one.place("jetson-1")
    after = yaml.safe_load(one.text())
    terms = "spec.jobTargetRef.template.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    assert changed(before, after) == {f".{terms}.nodeSelectorTerms"}
    assert affinity.node_of(after["spec"]["jobTargetRef"]["template"]["spec"]["affinity"]) == "jetson-1"


def test_the_node_is_required_in_every_term_and_all_other_terms_stay() -> None:
    one = manifest(
        SMALL
        + """\
        affinity:
          podAntiAffinity: {}
          nodeAffinity:
            preferredDuringSchedulingIgnoredDuringExecution: []
            requiredDuringSchedulingIgnoredDuringExecution:
              nodeSelectorTerms:
                - matchExpressions: [{key: disk, operator: In, values: ["on", "1e3"]}]
                - matchExpressions: [{key: gpu-node, operator: In, values: [old-1]}]
                  matchFields: [{key: metadata.name, operator: NotIn, values: [a]}]
"""
    )
    one.place("jetson-1")
    again = manifest(one.text())
    required = {"key": "gpu-node", "operator": "In", "values": ["jetson-1"]}
    fields = [{"key": "metadata.name", "operator": "NotIn", "values": ["a"]}]
    assert again.get(*POD, "affinity") == {
        "podAntiAffinity": {},
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [],
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["on", "1e3"]}, required]},
                    {"matchExpressions": [required], "matchFields": fields},
                ]
            },
        },
    }
    assert again.node == "jetson-1"
    assert '"1e3"' in one.text() or "'1e3'" in one.text(), "for Kubernetes 1e3 without quotes is a number"


TERMS = """\
        affinity:
          nodeAffinity:
            requiredDuringSchedulingIgnoredDuringExecution:
              nodeSelectorTerms:
"""
HOST_IS, NAME_IS = "key: kubernetes.io/hostname, operator: In, values:", "key: metadata.name, operator: In, values:"
GPU_NODE_IS = "key: gpu-node, operator: In, values:"
FIRST = "nodeSelectorTerms[0]"
ONE_NODE = "accepted: Exists, or In with one node"
SAME = "a and b are not accepted; accepted: one node in all terms"


@pytest.mark.parametrize(
    ("said", "terms"),
    [
        pytest.param(f"{FIRST}.matchExpressions[0]", [f"matchExpressions: [{{{HOST_IS} [a]}}]"], id="a hostname"),
        pytest.param(
            f"{FIRST}.matchExpressions[1]", [f"matchExpressions: [{{{GPU_NODE_IS} [a]}}, {{{HOST_IS} [b]}}]"],
            id="a hostname beside another node",
        ),
        pytest.param(f"{FIRST}.matchFields[0]", [f"matchFields: [{{{NAME_IS} [a]}}]"], id="a name"),
        pytest.param(
            "nodeSelectorTerms[1].matchFields[0]",
            ["matchExpressions: [{key: disk, operator: Exists}]", f"matchFields: [{{{NAME_IS} [a]}}]"],
            id="a name in a later term",
        ),
        pytest.param(
            f"{FIRST}.matchExpressions[0]",
            ["matchExpressions: [{key: kubernetes.io/hostname, operator: DoesNotExist}]"],
            id="no hostname",
        ),
        pytest.param(ONE_NODE, [f"matchExpressions: [{{{GPU_NODE_IS} [a, b]}}]"], id="a choice of nodes"),
        pytest.param(
            ONE_NODE, ["matchExpressions: [{key: gpu-node, operator: NotIn, values: [a]}]"], id="any node but one"
        ),
        pytest.param(
            SAME, [f"matchExpressions: [{{{GPU_NODE_IS} [a]}}]", f"matchExpressions: [{{{GPU_NODE_IS} [b]}}]"],
            id="another node in each term",
        ),
        pytest.param(
            SAME, [f"matchExpressions: [{{{GPU_NODE_IS} [a]}}, {{{GPU_NODE_IS} [b]}}]"], id="two nodes at once"
        ),
        pytest.param("accepted: a list of requirements", ["matchExpressions: 7"], id="no list"),
        pytest.param("accepted: a list of requirements", ["matchFields: [a]"], id="no fields"),
        pytest.param(ONE_NODE, [f"matchExpressions: [{{{GPU_NODE_IS} a}}]"], id="no values"),
    ],
)  # fmt: skip
def test_a_pin_that_placing_or_moving_would_contradict_is_refused(said: str, terms: list[str]) -> None:
    (line,) = mistakes(SMALL + TERMS + "".join(f"                - {term}\n" for term in terms))
    assert said in line
    assert re.match(r"posture-job-pi1\.yaml:\d+: spec\.jobTargetRef\.template\.spec\.affinity\.", line)


def test_a_node_selector_with_a_hostname_is_refused() -> None:
    (line,) = mistakes(SMALL + "        nodeSelector: {kubernetes.io/hostname: a}\n")
    assert "nodeSelector.kubernetes.io/hostname: 'a' is not accepted; accepted: nothing" in line


@pytest.mark.parametrize(
    "key", ["matchExpressions: [{key: kubernetes.io/hostname", "matchFields: [{key: metadata.name"]
)
def test_a_node_that_a_stream_is_kept_off_is_refused_as_its_place(key: str) -> None:
    one = manifest(f"{SMALL}{TERMS}                - {key}, operator: NotIn, values: [a, b]}}]\n")
    one.place("c")
    with pytest.raises(UserError, match=r"posture-job-pi1\.yaml:\d+: .*affinity: keeps pi1 off b.*accepted: "):
        one.place("b")
    assert one.node == "c"


def test_placing_twice_is_placing_once() -> None:
    one = manifest(SMALL)
    one.place("a")
    once = one.text()
    one.place("b")
    assert one.text() != once
    one.place("a")
    assert one.text() == once
    assert manifest(once).text() == once


def test_owner_image_and_address_are_set_and_quotes_stay() -> None:
    one = files.load([ROOT / "posture-job-pi1.yaml"])[0]
    one.set_owner("cameras", "north")
    one.set_image("registry:5000/posture-pi1:v2")
    one.set_scaler_address("192.0.2.1:50051")
    data = yaml.safe_load(one.text())
    assert data["metadata"]["namespace"] == "cameras"
    for labels in (data["metadata"]["labels"], data["spec"]["jobTargetRef"]["template"]["metadata"]["labels"]):
        assert labels == {
            "app.kubernetes.io/part-of": "posture-farm",
            "posture-farm/farm": "north",
            "posture-farm/stream": "pi1",
        }
    pod = data["spec"]["jobTargetRef"]["template"]["spec"]
    assert [container["image"] for container in pod["containers"]] == ["registry:5000/posture-pi1:v2"]
    assert 'scalerAddress: "192.0.2.1:50051"' in one.text()


def test_name_and_folders_carry_the_farm_once_unless_it_is_the_default_one() -> None:
    text = (ROOT / "posture-job-pi1.yaml").read_text()
    for folder in ("analyzed_images", "quarantine"):  # as files of before have them
        place = f"hostPath: {{path: /var/lib/posture-farm/{folder}, type: DirectoryOrCreate}}"
        text = text.replace("emptyDir: {}", place, 1)
    default, north = manifest(text), manifest(text)
    default.set_owner("cameras", "default")
    north.set_owner("cameras", "north")
    assert default.get("metadata", "name") == "posture-analyzer-scaledjob-pi1"
    again = manifest(north.text())
    again.set_owner("cameras", "north")
    for one in (north, again):
        assert one.get("metadata", "name") == "posture-analyzer-scaledjob-pi1-north"
        volumes = one.data()["spec"]["jobTargetRef"]["template"]["spec"]["volumes"]
        assert [volume["hostPath"]["path"] for volume in volumes if "hostPath" in volume] == [
            "/var/lib/posture-farm/north/analyzed_images",
            "/var/lib/posture-farm/north/quarantine",
        ]
        assert secret_of(one, "POSTURE_MQTT_PASSWORD") == "posture-mqtt-pi1-north", "another user at the broker"
    assert secret_of(default, "POSTURE_MQTT_PASSWORD") == "posture-mqtt-pi1"


def secret_of(one: Manifest, variable: str) -> str:
    """The Secret that a variable of the analyzer comes from."""
    (entry,) = (entry for entry in one.get(*POD, "containers", 0, "env") if entry["name"] == variable)
    return str(entry["valueFrom"]["secretKeyRef"]["name"])


def test_a_name_that_is_too_long_with_the_farm_in_it_is_refused() -> None:
    one = manifest((ROOT / "posture-job-pi1.yaml").read_text())
    before = one.text()
    with pytest.raises(
        UserError, match=r"posture-job-pi1\.yaml:7: metadata\.name: .*is too long; accepted: up to 63"
    ):
        one.set_owner("cameras", "n" * 40)
    assert manifest(before).get("metadata", "name") == "posture-analyzer-scaledjob-pi1"


def test_what_a_stream_needs_and_kedas_defaults_dont_give_is_added() -> None:
    data = manifest(SMALL).data()
    assert data["spec"]["rollout"] == {"strategy": "gradual", "propagationPolicy": "foreground"}
    assert data["spec"]["maxReplicaCount"] == 1
    assert data["spec"]["jobTargetRef"]["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param("keda.sh/v1alpha1", "batch/v1", ":1: apiVersion: 'batch/v1' is not", id="another kind of API"),
        pytest.param("kind: ScaledJob", "", ":1: kind: must be given; accepted: ScaledJob", id="no kind"),
        pytest.param("scaledjob-pi1", "x" * 60, ":4: metadata.name: 'posture-", id="a name too long"),
        pytest.param("external", "external-push", ":7: spec.triggers[0].type: 'external-push'", id="the trigger"),
        pytest.param(
            '"scaler:50051"',
            "7",
            ":8: spec.triggers[0].metadata: {'scalerAddress': 7} is not",
            id="an unquoted value",
        ),
        pytest.param(
            "spec:\n  tr", "spec:\n  rollout: {strategy: immediate}\n  tr", ":6: spec.rollout.strategy", id="roll"
        ),
        pytest.param(
            "spec:\n  tr", "spec:\n  maxReplicaCount: 2\n  tr", ":6: spec.maxReplicaCount: 2", id="two analyzers"
        ),
        pytest.param(
            "spec:\n  tr", "spec:\n  minReplicaCount: 1\n  tr", ":6: spec.minReplicaCount: 1", id="always one"
        ),
        pytest.param("image: posture-pi1", "image: 7", ".containers[0].image: 7 is not accepted", id="an image"),
        pytest.param("containers:", "nodeName: a\n        containers:", ":12: ", id="a node's name"),
        pytest.param("containers:", "runtimeClassName: [a]\n        containers:", ":12: ", id="a runtime class"),
        pytest.param(
            "containers:",
            "securityContext: {supplementalGroups: 44}\n        containers:",
            ":12: spec.jobTargetRef.template.spec.securityContext.supplementalGroups: 44 is not accepted",
            id="a group for groups",
        ),
        pytest.param("posture-pi1}", "posture-pi1, resources: [a]}", ".resources: ['a'] is not", id="resources"),
        pytest.param("posture-pi1}", "posture-pi1, resources: {limits: [{a: 1}]}}", ".limits: [{", id="limits"),
    ],
)
def test_a_field_that_is_not_as_it_must_be_is_named_with_file_and_line(old: str, new: str, said: str) -> None:
    (line,) = mistakes(SMALL.replace(old, new, 1))
    assert said in line
    assert line.startswith("posture-job-pi1.yaml:")
    assert "accepted: " in line


def test_all_mistakes_of_all_files_are_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "posture-job-pi1.yaml").write_text(
        SMALL.replace("external", "cron").replace("ScaledJob\n", "Job\n")
    )
    (tmp_path / "posture-job-pi2.yaml").write_text("a: [")
    paths = [tmp_path / f"posture-job-{stream}.yaml" for stream in ("pi1", "pi2", "pi3")]
    with pytest.raises(UserError) as refused:
        files.load(paths)
    first, second, third, fourth = str(refused.value).splitlines()
    assert first.startswith(f"{paths[0]}:2: kind: 'Job'")
    assert second.startswith(f"{paths[0]}:7: spec.triggers[0].type: 'cron'")
    assert third.startswith(f"{paths[1]}:1: is not YAML: ")
    assert fourth == f"{paths[2]}: can't be read: No such file or directory"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", ":1: is no ScaledJob", id="empty"),
        pytest.param("- a\n", ":1: is no ScaledJob", id="a list"),
        pytest.param(SMALL + "---\n" + SMALL, ":15: a second document", id="two documents"),
        pytest.param("a: 1\nb: 2\na: 3\n", ":3: a: stands there twice", id="a field twice"),
        pytest.param("a: &x [*x]\n", "is not YAML: it contains itself", id="itself"),
        pytest.param(
            "a: !python/object:os.system {}\n", ":1: is not YAML: could not determine", id="a strange tag"
        ),
        pytest.param("? [a]\n: 1\n", "is no field's name", id="a list for a name"),
        pytest.param("a: \x00\n", "is not YAML", id="a control character"),
        pytest.param("[" * 5000, "is not YAML", id="too deep"),
        pytest.param("spec: 7\n", ":1: spec: 7 is not accepted; accepted: fields", id="a number for fields"),
    ],
)
def test_a_file_that_is_no_scaledjob_is_refused(text: str, said: str) -> None:
    assert any(line.startswith("posture-job-pi1.yaml") and said in line for line in mistakes(text))


def test_a_second_document_without_anything_in_it_does_no_harm() -> None:
    assert manifest("---\n" + SMALL + "---\n").stream == "pi1"


@pytest.mark.parametrize(
    ("label", "file", "stream"),
    [
        pytest.param("", "posture-job-pi1-1.yaml", "pi1-1", id="by the file"),
        pytest.param("  labels: {posture-farm/stream: pi9}\n", "mine.yaml", "pi9", id="by the label"),
    ],
)
def test_a_stream_is_known_by_its_label_or_else_by_its_file(label: str, file: str, stream: str) -> None:
    assert manifest(SMALL.replace("spec:\n", f"{label}spec:\n", 1), file).stream == stream


def test_a_label_that_speaks_of_another_stream_than_the_file_is_refused() -> None:
    text = SMALL.replace("spec:\n", "  labels: {posture-farm/stream: pi2}\nspec:\n", 1)
    (said,) = mistakes(text)
    assert said.startswith("posture-job-pi1.yaml:5: metadata.labels.posture-farm/stream: 'pi2' is not accepted")


def test_two_files_of_one_stream_are_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "posture-job-pi1.yaml", tmp_path / "posture-job-pi2.yaml"
    one.write_text(SMALL)
    two.write_text(SMALL)
    with pytest.raises(
        UserError, match=rf"{re.escape(str(two))}:4: metadata\.name: .* is in posture-job-pi1\.yaml, too"
    ):
        files.load([one, two])


def test_anchors_and_merges_are_written_out_and_change_in_one_place_only() -> None:
    text = SMALL.replace("metadata:\n  name", "metadata:\n  labels: &ours {tier: camera}\n  name").replace(
        "    template:\n", "    template:\n      metadata:\n        labels: {<<: *ours, extra: x}\n"
    )
    one = manifest(text)
    one.set_owner("ns", "farm")
    data = yaml.safe_load(one.text())
    assert data["metadata"]["labels"]["tier"] == "camera"
    assert "extra" not in data["metadata"]["labels"]
    assert data["spec"]["jobTargetRef"]["template"]["metadata"]["labels"]["extra"] == "x"
    assert "&" not in one.text()


def without_comments(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))


def comments(text: str) -> list[str]:
    """The comments of a text, in their order; a hash in a scalar must not follow a space."""
    return re.findall(r"(?:^|(?<=\s))#.*", text, re.M)


def patch(one: Manifest) -> Manifest:
    """Change all that patch_scaledjob.py changes."""
    one.place("jetson-1")
    one.set_owner("cameras", "north")
    one.set_image("registry:5000/posture:v2")
    one.set_scaler_address("192.0.2.1:50051")
    one.set_environment({"POSTURE_ANALYZER_PICTURES": "none", "POSTURE_MQTT_PREFIX": "1e3"})
    return one


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in SHIPPED])
def test_all_comments_of_a_shipped_stream_stay_and_change_no_data(path: Path) -> None:
    source = path.read_text()
    written = patch(manifest(source, path.name)).text()
    assert comments(source), "there are some"
    assert comments(written) == comments(source)
    bare = patch(manifest(without_comments(source), path.name))
    assert yaml.safe_load(written) == yaml.safe_load(bare.text()) == bare.data()
    lines = [line.strip() for line in written.splitlines()]
    tail = next(number for number, line in enumerate(lines) if line.startswith("# Privacy: "))
    assert lines[tail - 2 : tail] == ["- name: POSTURE_MQTT_PREFIX", "value: '1e3'"], "it still ends the list"


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in SHIPPED])
def test_a_shipped_stream_that_nothing_changes_is_written_as_it_was(path: Path) -> None:
    assert manifest(path.read_text(), path.name).text() == path.read_text()


def test_a_comment_stays_with_its_field_or_item_when_others_go_and_come() -> None:
    text = SMALL.replace(
        "containers:",
        """affinity:  # where
          nodeAffinity:
            requiredDuringSchedulingIgnoredDuringExecution:
              nodeSelectorTerms:
                - matchExpressions:
                    - key: gpu-node  # which node
                      operator: Exists
                    - key: disk  # fast ones
                      operator: In
                      values: ["on"]  # a text
        # what runs
        containers:""",
    ).replace("metadata:\n  name", "metadata:\n  labels:  # ours\n  # its name\n  name", 1)
    one = manifest("# about the file\n---\n" + text + "# the end\n")
    patch(one)
    written = one.text()
    assert one.text() == written, "writing it changes nothing"
    for line in (
        "# about the file",
        "key: disk  # fast ones",
        'values: ["on"]  # a text',
        "# what runs",
        "# the end",
    ):
        assert line in written
    assert re.search(r"# what runs\n +containers:", written)
    assert yaml.safe_load(written) == patch(manifest(without_comments(text))).data()


TRICKY = [
    "1e3",
    "0755",
    "0o17",
    "on",
    "no",
    "null",
    "~",
    "1:30",
    "2024-01-01",
    "1_000",
    ".5",
    "0x1F",
    "- a",
    "a: b",
    "# c",
    "",
]
SCALARS = st.one_of(
    st.sampled_from(TRICKY), st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])), st.integers(),
    st.booleans(), st.none(),
)  # fmt: skip
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc/.-1", min_size=1), inner, max_size=4),
)


@given(extra=DATA)
def test_whatever_else_stands_in_a_manifest_comes_out_as_it_went_in(extra: Any) -> None:
    given_data = yaml.safe_load(SMALL)
    given_data["spec"]["jobTargetRef"]["template"]["spec"]["extra"] = extra
    text = yaml.safe_dump(given_data)
    one = manifest(text)
    one.place("jetson-1")
    before, after = yaml.safe_load(text), yaml.safe_load(one.text())
    pod = before["spec"]["jobTargetRef"]["template"]["spec"]
    assert after["spec"]["jobTargetRef"]["template"]["spec"]["extra"] == pod.get("extra")
    assert manifest(one.text()).text() == one.text()


@pytest.mark.parametrize("plain", [text for text in TRICKY if text and text[0] not in "-#" and ": " not in text])
def test_a_plain_scalar_stays_plain_and_a_quoted_one_stays_quoted(plain: str) -> None:
    text = SMALL.replace("scalerAddress:", f"quoted: '{plain}', scalerAddress:").replace(
        "  triggers:", f"  anything: {plain}\n  triggers:"
    )
    written = manifest(text).text()
    assert f"  anything: {plain}\n" in written
    assert f"quoted: '{plain}'" in written


def test_files_are_written_all_or_none(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.yaml", tmp_path / "b.yaml"
    good.write_text("old")
    bad.mkdir()
    with pytest.raises(UserError, match=re.escape(f"{bad}: can't be written")):
        files.write({good: "new", bad: "new"})
    gone = tmp_path / "gone" / "c.yaml"
    with pytest.raises(UserError, match=r"gone.*can't be written: No such file or directory"):
        files.write({good: "new", gone: "new"})
    assert good.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml", "b.yaml"], "nothing half-written is left"


def test_a_copy_is_changed_by_itself_and_has_all_comments() -> None:
    one = files.load([ROOT / "posture-job-pi1.yaml"])[0]
    before = one.text()
    other = one.copy()
    assert other.text() == before
    other.set("elsewhere", *POD, "containers", 0, "env", 0, "name")
    other.set_image("elsewhere")
    assert one.text() == before


def test_a_file_that_is_as_it_should_be_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    assert files.write({path: "x"}) == [path]
    assert files.write({path: "x"}) == []


# The manifests that are shipped.


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in SHIPPED])
def test_a_shipped_stream_agrees_with_its_file_script_and_image(path: Path) -> None:
    one = files.load([path])[0]
    stream = path.stem.removeprefix("posture-job-")
    assert one.stream == stream
    assert one.get("metadata", "name") == f"posture-analyzer-scaledjob-{stream}"
    assert one.get(*POD, "containers", 0, "image") == f"posture-{stream}:latest"
    assert f'PI_ID = "{stream}"' in (ROOT / f"Images_From_{stream.capitalize()}.py").read_text()


def test_streams_and_scripts_that_are_shipped_are_the_same_ones() -> None:
    scripts = {path.stem.removeprefix("Images_From_").lower() for path in ROOT.glob("Images_From_Pi?*.py")}
    assert {one.stream for one in files.load(SHIPPED)} == scripts


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in SHIPPED])
def test_a_shipped_pod_is_locked_down_bounded_and_told_its_secrets_by_reference(path: Path) -> None:
    one = files.load([path])[0]
    pod = one.get(*POD)
    analyzer = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert "initContainers" not in pod
    assert analyzer["securityContext"]["readOnlyRootFilesystem"] is True
    assert analyzer["securityContext"]["allowPrivilegeEscalation"] is False
    assert analyzer["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert "limits" in analyzer["resources"]
    variables = {entry["name"]: entry for entry in analyzer["env"]}
    known = {table.environment_name(section, name) for section, name, _ in table.all_settings()}
    assert set(variables) - {"NODE_NAME"} <= known
    for name in ("POSTURE_MQTT_PASSWORD", "POSTURE_DATABASE_URL", "POSTURE_PICTURES_SECRET_KEY"):
        assert variables[name]["valueFrom"]["secretKeyRef"]["key"] == name
    assert not any("value" in entry for entry in analyzer["env"])
    evictions = {
        item["key"]: item["tolerationSeconds"] for item in pod["tolerations"] if item["effect"] == "NoExecute"
    }
    assert evictions == {"node.kubernetes.io/not-ready": 30, "node.kubernetes.io/unreachable": 30}
    assert one.get("spec", "jobTargetRef", "backoffLimit") == 3
    assert one.get("spec", "jobTargetRef", "podReplacementPolicy") == "Failed"
    assert analyzer["livenessProbe"]["exec"]["command"] == ["python3", "-m", "posture.health"]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in SHIPPED])
def test_a_shipped_stream_leaves_the_scaler_time_to_bring_a_successor(path: Path) -> None:
    one = files.load([path])[0]
    grace_s = one.get(*POD, "terminationGracePeriodSeconds")
    assert one.get("spec", "pollingInterval") + grace_s + 10 <= table.Scaler().stabilize_s
    assert grace_s > 30, "an analyzer may need 10 s for its stages and 10 s twice for a database that is slow"
