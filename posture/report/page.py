"""The report as one HTML file: nothing is loaded, nothing runs, and no text of the database is taken for HTML."""

from __future__ import annotations

import base64
from html import escape

from posture.charts.drawing import STATES, duration, percent
from posture.charts.style import AWAY, BAD, GOOD, LINE, MUTED, NO_FRAMES, SOFT, TEXT, UNKNOWN
from posture.report.charts import Chart, charts_of
from posture.report.content import Report, StreamReport
from posture.report.tiles import HOW, caption, note_of, tiles_of

CSS = f"""
:root {{ color-scheme: light; --text: {TEXT}; --muted: {MUTED}; --line: {LINE}; --soft: {SOFT}; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: white; color: var(--text); font: 16px/1.5 system-ui, sans-serif; }}
main {{ max-width: 54rem; margin: 0 auto; padding: 2.5rem 1.25rem 3rem; }}
header {{ border-bottom: 1px solid var(--line); padding-bottom: 1rem; }}
h1 {{ font-size: 1.75rem; font-weight: 650; letter-spacing: -.01em; line-height: 1.2; margin: 0; }}
h2 {{ font-size: 1.3rem; font-weight: 650; margin: 0 0 1rem; overflow-wrap: anywhere; }}
h3 {{ font-size: .92rem; font-weight: 600; color: var(--muted); margin: 1.75rem 0 .5rem; }}
p, footer {{ color: var(--muted); margin: .25rem 0 0; font-size: .92rem; }}
section {{ margin-top: 2.25rem; }}
section + section {{ border-top: 1px solid var(--line); padding-top: 2rem; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 0; }}
.tiles div {{
  background: var(--soft); border-radius: 12px; padding: .8rem 1rem;
  display: flex; flex-direction: column-reverse; justify-content: flex-end;
}}
dt {{ color: var(--muted); font-size: .85rem; }}
dd {{ margin: 0; font-size: 1.35rem; font-weight: 650; font-variant-numeric: tabular-nums; white-space: nowrap; }}
img {{ display: block; max-width: 100%; height: auto; }}
.chart {{ width: 100%; min-width: 38rem; }}
.worst {{
  display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1rem;
  margin: 0; padding: 0; list-style: none;
}}
.worst img {{
  width: 100%; aspect-ratio: 4 / 3; object-fit: contain; background: var(--soft); border-radius: 10px;
}}
figure {{ margin: 0; }}
figcaption {{ font-size: .88rem; margin-top: .35rem; }}
figcaption span, .quiet {{ color: var(--muted); }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }}
th, td {{
  text-align: left; padding: .45rem 1.25rem .45rem 0; border-bottom: 1px solid var(--line); white-space: nowrap;
}}
th {{ color: var(--muted); font-weight: 600; }}
td:first-child {{ white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }}
td.bar {{ width: 45%; min-width: 8rem; padding-right: 0; }}
.shares {{
  display: flex; height: .9rem; border-radius: 4px; overflow: hidden; background: {NO_FRAMES};
  print-color-adjust: exact;
}}
.shares i {{ display: block; }}
.s0 {{ background: {GOOD}; }}
.s1 {{ background: {BAD}; }}
.s2 {{ background: {UNKNOWN}; }}
.s3 {{ background: {AWAY}; }}
.s4 {{ background: {NO_FRAMES}; }}
@media print {{
  main {{ max-width: none; padding: 0; }}
  .chart {{ min-width: 0; }}
  .tiles div {{ border: 1px solid var(--line); }}
  h3, h2 {{ break-after: avoid; }}
  img, figure, tr {{ break-inside: avoid; }}
  body {{ font-size: 11pt; }}
}}
"""


def as_html(report: Report) -> bytes:
    """Return the report as one HTML file in UTF-8."""
    many = len(report.streams) > 1
    streams = "".join(_stream(report, stream) for stream in report.streams if stream.has_frames)
    made = report.made.astimezone(report.zone)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>{escape(report.title)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
<header>
<h1>{escape(report.title)}</h1>
<p>{escape(_subject(report))}. Times are those of {escape(report.zone.key)}.</p>
</header>
{_overview(report) if many else ""}
{streams}
<footer>{escape(HOW)} Made on {made:%Y-%m-%d} at {made:%H:%M} by Posture Farm.</footer>
</main>
</body>
</html>
""".encode()


def _subject(report: Report) -> str:
    if len(report.streams) == 1:
        return f"Stream {report.streams[0].name}"
    return f"{len(report.streams)} streams"


def _overview(report: Report) -> str:
    rows = "".join(_overview_row(stream) for stream in report.streams)
    return f"""<section>
<h2>All streams</h2>
<div class="scroll"><table>
<thead><tr><th>Stream</th><th>Score</th><th>Seated</th><th>Bad stretches</th><th>Shares</th></tr></thead>
<tbody>{rows}</tbody>
</table></div>
</section>"""


def _overview_row(stream: StreamReport) -> str:
    if not stream.has_frames:
        return f'<tr><td>{escape(stream.name)}</td><td class="quiet" colspan="4">no frames</td></tr>'
    spent = stream.spent
    parts = "".join(
        f'<i class="s{number}" style="width: {100 * getattr(spent, field) / spent.total_s:.2f}%"></i>'
        for number, (_, field, _) in enumerate(STATES)
        if spent.total_s
    )
    words = ", ".join(f"{name} {percent(getattr(spent, field) / spent.total_s)}" for name, field, _ in STATES)
    bar = f'<div class="shares" role="img" aria-label="{words}">{parts}</div>'
    return (
        f"<tr><td>{escape(stream.name)}</td><td>{percent(spent.score)}</td><td>{duration(spent.sitting_s)}</td>"
        f'<td>{len(stream.bad)}</td><td class="bar">{bar}</td></tr>'
    )


def _stream(report: Report, stream: StreamReport) -> str:
    tiles = "".join(
        f"<div><dt>{escape(tile.label)}</dt><dd>{escape(tile.figure)}</dd></div>" for tile in tiles_of(stream)
    )
    charts = "".join(_chart(chart) for chart in charts_of(report, stream))
    heading = f"<h2>{escape(stream.name)}</h2>" if len(report.streams) > 1 else ""
    return f"""<section>
{heading}
<dl class="tiles">{tiles}</dl>
{charts}
{_worst(report, stream)}
</section>"""


def _chart(chart: Chart) -> str:
    source = f"data:image/svg+xml;base64,{base64.b64encode(chart.svg()).decode()}"
    image = f'<img class="chart" src="{source}" alt="{escape(chart.words)}">'
    return f'<h3>{escape(chart.heading)}</h3>\n<div class="scroll" tabindex="0">{image}</div>\n'


def _worst(report: Report, stream: StreamReport) -> str:
    if not stream.worst:
        return ""
    items = []
    for number, worst in enumerate(stream.worst):
        when, angles = (escape(line) for line in caption(report, stream, number))
        image = ""
        if worst.picture is not None:
            source = f"data:image/jpeg;base64,{base64.b64encode(worst.picture).decode()}"
            image = f'<img src="{source}" alt="">'
        items.append(f"<li><figure>{image}<figcaption>{when}<br><span>{angles}</span></figcaption></figure></li>")
    return (
        f'<h3>The longest Bad stretches, each at its worst</h3>\n<ul class="worst">{"".join(items)}</ul>\n'
        f"<p>{escape(note_of(report, stream))}</p>"
    )
