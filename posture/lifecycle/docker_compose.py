"""docker-compose.yml's containers, as far as they are those of this folder."""

from __future__ import annotations

import shutil

from posture.runtime import ROOT
from posture.system import commands

FILE = ROOT / "docker-compose.yml"
DOWN_S = 180.0
"""The analyzers' grace period, and time for the rest."""


def containers(timeout_s: float) -> list[str]:
    """Return the names of this folder's compose containers, running or not; none where there is no docker.

    Args:
        timeout_s: how long docker may take.
    """
    label = f"label=com.docker.compose.project.working_dir={ROOT}"
    try:
        said = commands.run(
            ["docker", "ps", "--all", "--filter", label, "--format", "{{.Names}}"], timeout_s, cwd=ROOT
        )
    except commands.CommandError:
        return []
    return said.split()


def down_command() -> list[str]:
    """Return the command that ends them; volumes stay, so nothing is lost."""
    program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    return [*program, "--file", str(FILE), "down"]


def down() -> None:
    """End them.

    Raises:
        CommandError: compose failed.
    """
    commands.run(down_command(), DOWN_S, cwd=ROOT)
