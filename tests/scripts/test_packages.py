"""What the servers of the tests are installed with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import packages


def test_no_service_is_started_by_an_installation_and_the_machine_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "POLICY", policy)
    with packages.no_service_starts([]):
        asked = [str(policy), "prometheus-node-exporter", "start"]
        assert subprocess.run(asked, check=False).returncode == 101, "Debian's number for: do not"
    assert not policy.exists()
    policy.write_text("the machine's own")
    with packages.no_service_starts([]):
        assert policy.read_text() == "the machine's own"
    assert policy.read_text() == "the machine's own"
