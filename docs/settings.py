#!/usr/bin/env python3
"""Write docs/settings.md from the table of settings, posture/settings/table.py.

python3 docs/settings.py        # after a change in the table
"""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from posture.settings import table
from posture.settings.signals import PRESETS

PAGE = ROOT / "docs" / "settings.md"

HEAD = """\
# Settings

This page is made by `python3 docs/settings.py` from `posture/settings/table.py`; edit the table, not the page.

`cluster.yaml` beside the scripts holds the settings (`--config FILE` names another file); each also has an
environment variable, which wins. Everything is checked before anything runs: all mistakes are listed at once,
each with file, line, key, value and what is accepted; the exit status is then 2.

A secret comes from the environment only: from its variable, or from the file named by its variable with `_FILE`
appended (`POSTURE_MQTT_PASSWORD_FILE=/run/secrets/mqtt`). The same holds for `POSTURE_DATABASE_URL`, which may
carry a password, and for `POSTURE_MQTT_USERNAME`. Relative paths start at the scripts' folder.
"""

STREAMS = """
## `streams`

The farm's cameras, a line each. A name has up to 32 of a-z, 0-9 and -, and becomes part of topics, files and
objects in the cluster; `analyzer`, `balancer`, `dashboard`, `exporter`, `scheduler` and `tls` are the farm's own.

```
streams:
  - hall-1
  - hall-2: {rule_set: tutorial, camera_roll_deg: 4.5}
```

Keys below a name are keys of `analyzer`, for that stream alone. Instead of the list there may be a map
(`hall-1: {}`, `hall-2: {rule_set: tutorial}`).
`build_and_push.py` brings up these streams and no others. A stream runs the common image, `posture-analyzer`, as
`deploy/posture-job.yaml` describes it; a `posture-job-<name>.yaml` or `Images_From_<Name>.py` of its own beside the
scripts takes their place. Where the list is empty, the streams are those that have a `posture-job-<name>.yaml`.
"""

GPU_QUERIES = """
## `GPU_QUERIES`

A map at the top of `cluster.yaml`: each node that analyzers may run on, and where its usage is read.

```
GPU_QUERIES:
  jetson-1: {instance: "192.0.2.11", signal: [gpu, cpu]}
  desktop-1: {instance: "192.0.2.13:9400", signal: dcgm}
  old-1: {instance: "192.0.2.15:9100", metric: jetson_gpu_usage_percent}
```

The key is the node's name in Kubernetes and the value of its label `gpu-node`. `instance` is the label that
Prometheus gives to its target there; without a port it is that host's exporters on all ports. `signal` is a
signal's name, or a list of names, of which the one with the largest value counts: see `signals` below. Instead
of it, `metric` names a metric in percent, with `scale` where it is none. Each instance belongs to one node.
Metrics with a label for the node work too, as long as each node's exporter is scraped by itself. The variable
`POSTURE_GPU_QUERIES` holds the whole map as one line of YAML or JSON and replaces the file's. The scripts that
place and move analyzers all use this one map, under the name `GPU_QUERIES`. What makes a reading valid: [GPU
usage](gpu-usage.md).

## `signals`

What `signal` in `GPU_QUERIES` may name. These are known without being given:

| Signal | Metric or expression | Of |
|---|---|---|
SIGNALS

An entry of the map `signals` is one more of them. One that has the name of a known one and neither `metric` nor
`query` changes only the keys that it has. The variable `POSTURE_SIGNALS` replaces the file's whole map. The keys:

- `metric`: the name of a metric, whose samples are the usage;
- `query`: instead of it an expression in PromQL, whose values are the usage; its series keep the label `instance`;
- `fresh`: beside a `query`, the raw metric that it is made of, with or without label matchers, or a list of such: a
  value is as old as their last scrape;
- `scale`: what makes percent of it, 100 for a ratio, 0.1 for 0 to 1000; 0, the default: by the metric's name, or
  by a 100 in the query;
- `several`: max, avg or sum of the series where a node has several, such as one a GPU; refuse, the default: then
  its usage is unknown;
- `labels`: a map of labels and their values, which the series of `metric` must have.
"""

ABOUT = {
    "gpu": "our exporter",
    "cpu": "node_exporter, or our exporter",
    "dcgm": "dcgm-exporter; of several GPUs the busiest",
    "nvidia-smi": "nvidia_gpu_exporter; of several GPUs the busiest",
    "jetson": "an exporter for Jetsons",
}


def page() -> str:
    """Return the whole page."""
    sections = "".join(section_text(name, cls) for name, cls in table.SECTIONS.items())
    texts = {one.name: (one.metric or one.query).replace("|", r"\|") for one in PRESETS.values()}
    rows = [f"| `{name}` | `{text}` | {ABOUT[name]} |" for name, text in texts.items()]
    return HEAD + STREAMS + sections + GPU_QUERIES.replace("SIGNALS", "\n".join(rows), 1)


def section_text(name: str, section: type[Any]) -> str:
    """Return one section's heading, its class's docstring, and a row for each of its settings."""
    rows = [setting_row(name, entry) for of, _, entry in table.all_settings() if of == name]
    return "\n".join(
        [
            "",
            f"## `{name}`",
            "",
            as_markdown(inspect.getdoc(section) or ""),
            "",
            "| Key | Environment | Default | Unit | Accepted | Why |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def setting_row(section: str, entry: Any) -> str:
    """Return the row of one setting, given as its dataclass field."""
    about = entry.metadata
    cells = [
        f"`{section}.{entry.name}`" + (" (secret: environment only)" if about["secret"] else ""),
        f"`{table.environment_name(section, entry.name)}`",
        f"`{default_text(entry.default)}`" if entry.default != "" else "empty",
        about["unit"] or "-",
        about["accepted"],
        as_markdown(about["why"]),
    ]
    return "| " + " | ".join(cells) + " |"


def default_text(value: object) -> str:
    """Return a default as one writes it in cluster.yaml."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def as_markdown(text: str) -> str:
    """Mark up a text of the table: pages become links, scripts and literals become code."""
    text = text.replace("``", "`")
    text = re.sub(r"\bdocs/([\w-]+\.md)", r"[\1](\1)", text)
    return re.sub(r"(?<![\w`/])(\w+\.py)\b(?!`)", r"`\1`", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
