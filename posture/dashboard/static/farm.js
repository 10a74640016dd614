// Where streams run: nodes against the threshold, the streams on them, moves and vetoes with their reasons.

import { clock, duration, element, follow, icon, onNews, redraw, state } from "./common.js";
import { ask } from "./days.js";

const EVERY_MS = 5_000;
const root = document.getElementById("farm");

async function show() {
  try {
    draw(await ask("/api/farm"));
  } catch (error) {
    root.replaceChildren(element("p", { class: "empty" }, `The farm can't be shown: ${error.message}.`));
  }
}

const words = (code) => String(code).replaceAll("_", " ");

function meter(node, threshold) {
  if (node.usage === null) return element("p", { class: "muted" }, node.why ? `Usage unknown: ${node.why}` : "Usage unknown");
  const over = node.usage > threshold;
  const bar = element("div", { class: `meter${over ? " over" : ""}`, role: "img", "aria-label": `${Math.round(node.usage)} % used, threshold ${threshold} %` });
  const fill = element("span", { class: "meter-fill" });
  fill.style.width = `${Math.min(100, node.usage)}%`;
  const mark = element("span", { class: "meter-mark" });
  mark.style.left = `${threshold}%`;
  bar.append(fill, mark);
  const signals = Object.entries(node.signals).map(([name, value]) => `${words(name)} ${Math.round(value)} %`).join(", ");
  const doubts = node.doubts.map((doubt) => element("p", { class: "small" }, icon("away"), ` ${doubt}`));
  return element("div", {}, bar, ...doubts, element("p", { class: "muted small" }, element("strong", {}, `${Math.round(node.usage)} %`), over ? ` over the threshold of ${threshold} %` : ` of ${threshold} %`, signals.length && Object.keys(node.signals).length > 1 ? ` · ${signals}` : ""));
}

function streamItem(stream) {
  const condition = state.streams.get(stream.id)?.condition;
  const trouble = stream.state && stream.state !== "runs";
  return element(
    "li", { title: stream.why },
    element("a", { class: `chip${condition ? ` is-${condition}` : ""}${trouble ? " trouble" : ""}`, href: `/streams/${encodeURIComponent(stream.id)}` },
      condition ? icon(condition) : null, stream.id, trouble ? element("small", {}, words(stream.state)) : null, stream.pinned ? element("small", {}, "pinned") : null),
    stream.last_end ? element("span", { class: "muted small" }, ` failed ${clock(stream.last_end.at)}: ${stream.last_end.why}`) : null,
  );
}

function programItem(program) {
  const since = program.since ? ` since ${clock(program.since)}` : "";
  return element("li", { class: program.well ? "" : "ill" }, icon(program.well ? "good" : "warning"), element("strong", {}, program.name), ` ${program.says}${since}`);
}

function nodeCard(node, threshold) {
  const ill = ["NotReady", "missing"].includes(node.state);
  return element(
    "li", { class: `node panel${ill ? " ill" : ""}` },
    element("div", { class: "panel-head" }, element("h3", {}, node.name), node.state && node.state !== "Ready" ? element("span", { class: `pill${ill ? " is-offline" : ""}` }, icon(ill ? "offline" : "away"), node.state) : null),
    node.meaning ? element("p", { class: "small" }, node.meaning) : null,
    meter(node, threshold),
    node.streams.length ? element("ul", { class: "chips" }, ...node.streams.map(streamItem)) : element("p", { class: "muted small" }, "No stream."),
  );
}

/** Says how many nodes are over the threshold, as far as their usage is known. */
function load(farm) {
  const known = farm.nodes.filter((node) => node.usage !== null);
  if (!known.length) return "usage unknown";
  const over = known.filter((node) => node.usage > farm.threshold).length;
  const unknown = farm.nodes.length - known.length;
  return `${over || "none"} over the threshold${unknown ? `, usage of ${unknown} unknown` : ""}`;
}

function draw(farm) {
  const streams = farm.nodes.reduce((sum, node) => sum + node.streams.length, 0);
  const headline = farm.nodes.length
    ? `${streams} ${streams === 1 ? "stream" : "streams"} on ${farm.nodes.length} ${farm.nodes.length === 1 ? "node" : "nodes"}; ${load(farm)}`
    : "No node is known";
  const asked = state.sources.prometheus?.state === "up";
  const absent = Object.entries(state.sources).filter(([name, source]) => ["kubernetes", "prometheus"].includes(name) && source.state === "absent");
  const moves = farm.moves.map((move) => element(
    "li", { class: "event" }, icon("brand"), element("time", {}, clock(move.at)),
    element("a", { href: `/streams/${encodeURIComponent(move.stream)}` }, move.stream),
    element("span", {}, `${move.from || "?"} → ${move.to}`, element("span", { class: "muted" }, ` · ${[words(move.kind), move.why, move.ready_at ? `ready after ${duration(move.ready_at - move.at)}` : "not finished"].filter(Boolean).join(" · ")}`)),
  ));
  const vetoes = farm.vetoes.map((veto) => element("li", { class: "event" }, icon("away"), element("time", {}, "last loop"), element("span", {}, veto.stream || veto.node || "farm"), element("span", {}, words(veto.reason), veto.stream && veto.node ? element("span", { class: "muted" }, ` · ${veto.node}`) : null)));
  const events = farm.events.map((event) => element("li", { class: `event${event.warning ? " event-alert" : ""}` }, icon(event.warning ? "warning" : "brand"), element("time", {}, clock(event.at)), element("span", {}, event.stream || event.about), element("span", {}, event.reason, element("span", { class: "muted" }, ` · ${event.message}`))));
  const section = (title, items, none) => element("section", { class: "panel" }, element("h2", {}, title), items.length ? element("ul", { class: "events" }, ...items) : element("p", { class: "muted" }, none));
  const conditions = farm.nodes.flatMap((node) => node.streams.map((stream) => state.streams.get(stream.id)?.condition));
  redraw(root, [farm, conditions, absent, asked], () => [
    element("p", { class: "lead" }, headline),
    ...(farm.programs.length ? [element("ul", { class: "programs", "aria-label": "Programs" }, ...farm.programs.map(programItem))] : []),
    ...absent.map(([name, source]) => element("p", { class: "muted" }, `${name === "kubernetes" ? "No cluster" : "No Prometheus"}: ${source.why}.`)),
    element("ul", { class: "nodes", "aria-label": "Nodes" }, ...farm.nodes.map((node) => nodeCard(node, farm.threshold))),
    ...(farm.unplaced.length ? [element("section", { class: "panel" }, element("h2", {}, "On no node"), element("ul", { class: "chips" }, ...farm.unplaced.map(streamItem)))] : []),
    section("Moves", moves, "No stream has been moved."),
    section("Not moved, and why", vetoes, asked ? "No veto in the balancer's last loop." : "Not known without Prometheus."),
    section("Events of the cluster", events, "No Events."),
  ]);
}

let seen = "";
onNews(() => {
  const now = JSON.stringify([state.sources.kubernetes?.state, state.sources.prometheus?.state]);
  if (now !== seen) show();
  seen = now;
});
setInterval(() => {
  if (!document.hidden && state.connected) show();
}, EVERY_MS);
follow();
