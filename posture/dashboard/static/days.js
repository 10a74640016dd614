// What has been: asking for it, and drawing days.

import { duration, element } from "./common.js";

const SVG = "http://www.w3.org/2000/svg";
export const STATES = { g: "Good", b: "Bad", u: "Unknown", a: "Away", n: "No frames" };
const KEYS = { g: "good", b: "bad", u: "unknown", a: "away", n: "none" };
export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "UTC";

export function today() {
  const now = new Date();
  return `${now.getFullYear()}-${String(now.getMonth() + 1).padStart(2, "0")}-${String(now.getDate()).padStart(2, "0")}`;
}

/** Returns the day so many days after another. */
export function dayAfter(day, days) {
  const [year, month, date] = day.split("-").map(Number);
  return new Date(Date.UTC(year, month - 1, date + days)).toISOString().slice(0, 10);
}

export function dayName(day) {
  const [year, month, date] = day.split("-").map(Number);
  return new Date(year, month - 1, date).toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" });
}

/** Asks the dashboard; an error says why there is no answer. */
export async function ask(path, parameters = {}) {
  const query = new URLSearchParams({ zone, ...parameters });
  let answer;
  try {
    answer = await fetch(`${path}?${query}`);
  } catch {
    throw new Error("the dashboard does not answer");
  }
  if (answer.status === 204) throw Object.assign(new Error("there is none"), { status: 404 });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = new Error(said.error ?? `status ${answer.status}`);
    error.status = answer.status;
    throw error;
  }
  return said;
}

export const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`);

/** Returns the shares of a span as one bar, and in words for those who do not see it. */
export function sharesBar(spent) {
  const bar = element("div", { class: "shares", role: "img" });
  const seen = ["good", "bad", "unknown", "away"].filter((key) => spent[key] > 0);
  bar.setAttribute("aria-label", seen.map((key) => `${key} ${duration(spent[key])}`).join(", ") || "no frames");
  for (const key of seen) {
    const part = element("span", { class: `fill-${key}`, title: `${key}: ${duration(spent[key])}` });
    part.style.flexGrow = spent[key];
    bar.append(part);
  }
  return bar;
}

/** Returns a day's time line as one drawing; what is clicked is a moment in seconds since 1970. */
export function timeline(day, onMoment) {
  const minutes = Math.round((day.end - day.start) / 60);
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", "timeline");
  drawing.setAttribute("viewBox", `0 0 ${minutes} 10`);
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("role", "img");
  const told = ["g", "b", "u", "a"].map((state) => [STATES[state], day.line.filter(([s]) => s === state).reduce((sum, [, n]) => sum + n, 0)]);
  drawing.setAttribute("aria-label", `Time line: ${told.filter(([, n]) => n).map(([name, n]) => `${name} ${duration(n * 60)}`).join(", ") || "no frames"}`);
  let at = 0;
  for (const [state, length] of day.line) {
    if (state !== "n") {
      const part = document.createElementNS(SVG, "rect");
      part.setAttribute("x", at);
      part.setAttribute("width", length);
      part.setAttribute("height", 10);
      part.setAttribute("class", `fill-${KEYS[state]}`);
      drawing.append(part);
    }
    at += length;
  }
  if (onMoment) {
    drawing.classList.add("clickable");
    drawing.addEventListener("click", (event) => {
      const box = drawing.getBoundingClientRect();
      onMoment(day.start + ((event.clientX - box.left) / box.width) * (day.end - day.start));
    });
  }
  return drawing;
}

/** Returns the hours under a time line. */
export function hourMarks(day) {
  const marks = element("div", { class: "hours", "aria-hidden": "true" });
  for (let hour = 0; hour <= 24; hour += 3) {
    const at = new Date(day.start * 1000);
    at.setHours(hour);
    const share = hour === 24 ? 1 : (at.getTime() / 1000 - day.start) / (day.end - day.start);
    const mark = element("span", {}, hour === 24 ? "24" : String(hour));
    mark.style.left = `${Math.min(100, share * 100)}%`;
    marks.append(mark);
  }
  return marks;
}

export function legend() {
  return element(
    "p", { class: "legend" },
    ...["g", "b", "u", "a"].map((state) => element("span", {}, element("i", { class: `fill-${KEYS[state]}` }), STATES[state])),
  );
}

/** Returns what leads from day to day; `go` is called with the day that was chosen. */
export function dayPicker(day, go) {
  const input = element("input", { type: "date", value: day, max: today(), "aria-label": "Day" });
  input.addEventListener("change", () => {
    if (input.value && input.value <= today()) go(input.value);
  });
  const before = element("button", { type: "button", "aria-label": "Day before" }, "‹");
  const after = element("button", { type: "button", "aria-label": "Day after", disabled: day >= today() }, "›");
  before.addEventListener("click", () => go(dayAfter(day, -1)));
  after.addEventListener("click", () => go(dayAfter(day, 1)));
  return element("div", { class: "day-picker" }, before, input, after);
}

/** The day in the address; a deep link names it. */
export function chosenDay() {
  const day = new URLSearchParams(location.search).get("day");
  return /^\d{4}-\d{2}-\d{2}$/.test(day ?? "") ? day : today();
}

export function remember(parameters) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null) query.delete(name);
    else query.set(name, value);
  }
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}
