"""Fixtures: a scripted API server and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_api import PatientClient, ScriptedServer, write_kubeconfig

from posture.kube.client import connect
from posture.settings import table


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


@pytest.fixture
def farm(server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PatientClient]:
    """A client that does not really wait between its attempts."""
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", server.address)))
    pauses: list[float] = []
    with connect(table.Kubernetes(timeout_s=30), wait=pauses.append) as client:
        yield PatientClient(client, pauses)
