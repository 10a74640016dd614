// What has happened: alerts, the day's slouches of all streams, and messages that could not be read.

import { clock, duration, element, follow, icon, onDatabaseBack, onNews, redraw, setText, state } from "./common.js";
import { ask, chosenDay, dayPicker, remember, today } from "./days.js";

const MOST = 200;
const LEAST_S = 30; // shorter slouches are on the stream's own page
const title = document.querySelector(".title");
const list = element("ul", { class: "events" });
const note = element("p", { class: "muted" });
const broken = element("section", { class: "panel", hidden: true });
document.getElementById("events").append(element("section", { class: "panel" }, note, list), broken);
let day = chosenDay();
let slouches = [];
let trouble = "";

async function load() {
  title.querySelector(".day-picker")?.remove();
  title.append(dayPicker(day, (chosen) => {
    day = chosen;
    remember({ day: day === today() ? null : day });
    load();
  }));
  try {
    const found = await ask("/api/day", { day });
    trouble = "";
    slouches = found.streams.flatMap((stream) => stream.bad.map((one) => ({ at: one.start, id: stream.id, lasted: one.end - one.start, kind: "slouch" })));
  } catch (error) {
    trouble = `Slouches can't be shown: ${error.message}. `;
    slouches = [];
  }
  draw();
}

function draw() {
  const alerts = day === today() ? state.alerts.map((alert) => ({ at: alert.at, id: alert.id, lasted: alert.bad_for, why: alert.why, kind: "alert" })) : [];
  const troubles = day === today()
    ? [...state.streams.values()].flatMap((stream) => (["silent", "frozen"].includes(stream.condition) && stream.camera?.since ? [{ at: stream.camera.since, id: stream.id, why: stream.why, kind: stream.condition }] : []))
    : [];
  const events = [...alerts, ...troubles, ...slouches.filter((one) => one.lasted >= LEAST_S)].sort((a, b) => b.at - a.at);
  const text = { alert: "Alert", slouch: "Slouch", silent: "Camera silent", frozen: "Camera frozen" };
  const symbol = { alert: "bell", slouch: "bad", silent: "silent", frozen: "frozen" };
  redraw(list, events.slice(0, MOST), () => events.slice(0, MOST).map((event) => element(
    "li", { class: `event event-${event.kind}` },
    icon(symbol[event.kind]),
    element("time", {}, clock(event.at)),
    element("a", { href: `/streams/${encodeURIComponent(event.id)}?day=${day}&at=${Math.round(event.at + Math.min(event.lasted ?? 0, 60) / 2)}` }, event.id),
    element("span", {}, `${text[event.kind]}${event.lasted ? ` of ${duration(event.lasted)}` : ""}${event.why ? ` · ${event.why}` : ""}`),
  )));
  setText(note, trouble + (events.length ? `${events.length} events, newest first; slouches of at least ${LEAST_S} s.` : "Nothing has happened on this day."));
  const { count, last } = state.malformed;
  broken.hidden = count === 0;
  redraw(broken, [count, last], () => [
    element("h2", {}, `${count} ${count === 1 ? "message" : "messages"} could not be read`),
    element("p", { class: "muted" }, "They change nothing here. A retained one is taken back by an empty message on its topic."),
    element("ul", { class: "events" }, ...[...last].reverse().map((one) => element("li", { class: "event" }, icon("warning"), element("time", {}, clock(one.at)), element("code", {}, one.topic), element("span", {}, `${one.why}${one.retained ? " (retained)" : ""}`)))),
  ]);
}

onDatabaseBack(load);
onNews(draw);
setInterval(() => {
  if (day === today() && !document.hidden) load();
}, 60_000);
follow();
load();
