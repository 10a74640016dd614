// A day of all streams: how it went, one line each.

import { duration, element, follow, onDatabaseBack, redraw } from "./common.js";
import { ask, chosenDay, dayName, dayPicker, hourMarks, legend, percent, remember, sharesBar, timeline, today } from "./days.js";

const EVERY_MS = 30_000;
const root = document.getElementById("history");
const title = document.querySelector(".title");
let day = chosenDay();
let number = 0;

async function show() {
  const mine = ++number;
  title.querySelector(".day-picker")?.remove();
  title.append(dayPicker(day, (chosen) => {
    day = chosen;
    remember({ day: day === today() ? null : day });
    show();
  }));
  try {
    const found = await ask("/api/day", { day });
    if (mine === number) draw(found);
  } catch (error) {
    if (mine === number) redraw(root, error.message, () => [element("p", { class: "empty" }, `The day can't be shown: ${error.message}.`)]);
  }
}

function draw(found) {
  if (!found.streams.length) {
    redraw(root, [], () => [element("p", { class: "empty" }, "There are no rows yet.")]);
    return;
  }
  const all = { good: 0, bad: 0, unknown: 0, away: 0, sitting: 0 };
  for (const { spent } of found.streams) for (const key of Object.keys(all)) all[key] += spent[key];
  const score = all.good + all.bad ? all.good / (all.good + all.bad) : null;
  const rows = found.streams.map((stream) => {
    const link = `/streams/${encodeURIComponent(stream.id)}?day=${day}`;
    const open = (at) => location.assign(`${link}&at=${Math.round(at)}`);
    return element(
      "tr", {},
      element("th", { scope: "row" }, element("a", { href: link }, stream.id)),
      element("td", { class: "wide" }, timeline({ ...found, line: stream.line }, open)),
      element("td", { class: "figure" }, percent(stream.spent.score)),
      element("td", { class: "figure" }, duration(stream.spent.sitting)),
      element("td", { class: "figure" }, stream.longest_s ? duration(stream.longest_s) : "–"),
      element("td", { class: "figure" }, String(stream.bad.length)),
    );
  });
  const column = (...content) => element("th", { scope: "col" }, ...content);
  const hours = column(element("span", { class: "visually-hidden" }, "The day"), hourMarks(found));
  const head = [column("Stream"), hours, ...["Good", "Sitting", "Longest", "Slouches"].map((text) => column(text))];
  redraw(root, found, () => [
    element(
      "section", { class: "panel summary" },
      element("p", { class: "lead" }, `${dayName(day)}: ${percent(score)} good`),
      sharesBar(all),
      element("p", { class: "muted" }, `${duration(all.sitting)} of sitting on ${found.streams.length} streams.`),
      legend(),
    ),
    element(
      "section", { class: "panel scroll", tabindex: "0", "aria-label": "The day of each stream" },
      element("table", { class: "days" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)),
    ),
  ]);
}

onDatabaseBack(show);
setInterval(() => {
  if (day === today() && !document.hidden) show();
}, EVERY_MS);
follow();
show();
