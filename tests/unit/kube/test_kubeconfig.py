"""Kubeconfig files, one and several, good and bad."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripted_api import write_kubeconfig

from posture.errors import UserError
from posture.kube import kubeconfig


def use(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, paths)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "not found", id="absent"),
        pytest.param("{not yaml", "is not valid", id="not YAML"),
        pytest.param("just text\n", "is not valid", id="text"),
        pytest.param("[a, list]\n", "is not valid", id="list"),
        pytest.param(
            "current-context: one\n", "context 'one' not found; .* the file has no contexts", id="no contexts"
        ),
        pytest.param("", "there is no current-context", id="empty"),
        pytest.param("clusters: 7\n", "clusters: is not valid", id="clusters are a number"),
        pytest.param("users: [{user: {}}]\n", "users: is not valid", id="user without a name"),
        pytest.param("users: [{name: a, user: secret}]\n", "user 'a': is not valid", id="user is a text"),
        pytest.param(
            "current-context: one\ncontexts: [{name: one, context: {cluster: x, user: y}}]\n",
            "cluster 'x' not found; accepted: none, the file has no clusters",
            id="no clusters",
        ),
        pytest.param(
            "current-context: a\ncontexts: [{name: a, context: {cluster: a}}]\n"
            "clusters: [{name: a, cluster: {}}]\n",
            "context 'a' has no user",
            id="no user",
        ),
        pytest.param(
            "current-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n"
            "clusters: [{name: a, cluster: {}}]\nusers: [{name: a, user: {}}]\n",
            "cluster 'a' has no server",
            id="no server",
        ),
        pytest.param("a: &a [*a]\ncurrent-context: b\n", "context 'b' not found", id="recursive"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, said: str
) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    use(monkeypatch, path)
    with pytest.raises(UserError, match=said) as caught:
        kubeconfig.find()
    assert str(path) in str(caught.value)
    assert "accepted:" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_context_is_named_with_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, write_kubeconfig(tmp_path / "kubeconfig", "127.0.0.1:1"))
    with pytest.raises(UserError, match="context 'other' not found; accepted: one"):
        kubeconfig.find("other")


def write(path: Path, **content: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def test_of_several_files_the_first_one_that_has_a_name_counts_and_paths_are_relative_to_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = write(
        tmp_path / "contexts" / "config",
        contexts=[{"name": "farm", "context": {"cluster": "k3s", "user": "me"}}],
        users=[{"name": "me", "user": {"tokenFile": "token", "exec": {"command": "./login"}}}],
    )
    clusters = write(
        tmp_path / "clusters" / "config",
        **{"current-context": "farm"},
        clusters=[{"name": "k3s", "cluster": {"server": "https://one", "certificate-authority": "ca.crt"}}],
        users=[{"name": "me", "user": {"token": "of the second file"}}],
    )
    use(monkeypatch, tmp_path / "missing", contexts, clusters)
    target = kubeconfig.find()
    assert target.cluster == {
        "server": "https://one",
        "certificate-authority": str(clusters.parent / "ca.crt"),
    }
    assert target.user == {
        "tokenFile": str(contexts.parent / "token"),
        "exec": {"command": str(contexts.parent / "login")},
    }


def test_k3s_own_kubeconfig_counts_where_there_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(kubeconfig, "K3S", write_kubeconfig(tmp_path / "k3s.yaml", "127.0.0.1:6443"))
    assert kubeconfig.find().cluster["server"] == "http://127.0.0.1:6443"
    (tmp_path / ".kube").mkdir()
    write_kubeconfig(tmp_path / ".kube" / "config", "192.0.2.1:6443")
    assert kubeconfig.find().cluster["server"] == "http://192.0.2.1:6443"


def test_k3s_own_kubeconfig_that_only_root_reads_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(kubeconfig, "K3S", write_kubeconfig(tmp_path / "k3s.yaml", "127.0.0.1:6443"))
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    with pytest.raises(UserError, match=r"sudo install -D -m 0600 .*k3s.yaml ~/.kube/config"):
        kubeconfig.find()
