#!/usr/bin/env python3
"""Writes rules.yaml from the rules in deploy/monitoring, for Prometheus' operator; run it after a change there."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
MONITORING = HERE.parents[1] / "monitoring"
HEAD = """\
# Made by rules.py from deploy/monitoring: change the rules there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: posture-farm
  namespace: posture-farm
  labels:
    app.kubernetes.io/part-of: posture-farm
spec:
  groups:
"""


def text() -> str:
    """Return what rules.yaml is to be: the groups of both files, comments among them, two columns to the right."""
    groups = [
        (MONITORING / name).read_text(encoding="utf-8").partition("\ngroups:\n")[2]
        for name in ("alerts.yml", "recording.yml")
    ]
    lines = "".join(groups).splitlines(keepends=True)
    return HEAD + "".join(f"  {line}" if line.strip() else line for line in lines)


if __name__ == "__main__":
    (HERE / "rules.yaml").write_text(text(), encoding="utf-8")
