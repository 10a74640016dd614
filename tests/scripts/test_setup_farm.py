"""setup_farm.py without a cluster; tests/cluster/test_setup_farm.py has one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from servers import free_port

ROOT = Path(__file__).resolve().parents[2]


def run(tmp_path: Path, *flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POSTURE_")}
    return subprocess.run(
        [sys.executable, str(ROOT / "setup_farm.py"), *flags],
        env={**clean, "KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path), **environ},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def kubeconfig(tmp_path: Path, server: str) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump({
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "x"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        })
    )  # fmt: skip
    return str(path)


def test_its_help_names_its_flags(tmp_path: Path) -> None:
    said = run(tmp_path, "--help").stdout
    for flag in ("--dry-run", "--broker-name", "--recover", "--undo", "--yes", "--config"):
        assert flag in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--yes"], "--yes answers the question of --undo, which is not given"),
        (["--undo", "--recover"], "not allowed with argument"),
        (["--broker-name", "mqtts://farm.example:8883"], "accepted: a host's name or an address"),
        (["--broker-name", ""], "accepted: a host's name or an address"),
        (["--broker-name", "two words"], "accepted: a host's name or an address"),
        (["--config", "/nowhere/cluster.yaml"], "/nowhere/cluster.yaml"),
    ],
)
def test_a_flag_that_is_not_accepted_is_said_in_one_line(tmp_path: Path, flags: list[str], message: str) -> None:
    done = run(tmp_path, *flags)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_without_a_kubeconfig_it_says_where_it_looked(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "kubeconfig" in done.stderr


def test_an_api_server_that_is_not_there_is_one_finding(tmp_path: Path) -> None:
    server = f"http://127.0.0.1:{free_port()}"
    done = run(tmp_path, "--dry-run", KUBECONFIG=kubeconfig(tmp_path, server))
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        line for line in done.stderr.splitlines() if "can't be looked at" in line
    ]
    assert "mend: kubectl get nodes" in done.stderr
