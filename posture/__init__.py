"""The package behind the scripts: one folder for each part of the farm.

Imports run one way, from the scripts down: lifecycle; the programs (analyzer, camera, scaler, balancer, simulator,
demo) and manifests; wire, usage, kube and store; settings; verdict, planning and system; runtime and errors. The
contracts in pyproject.toml enforce it.
"""

__version__ = "0.2.0"
"""Of all programs and of the package; the newest one in CHANGELOG.md."""
