// All streams at a glance: who sits badly comes first in the headline, every card says why.

import { NAMES, degrees, duration, element, follow, icon, naturally, now, onNews, setText, state } from "./common.js";
import { ask, percent, sharesBar } from "./days.js";

const TODAY_MS = 30_000;
const LONG_S = 50 * 60; // of sitting: time for a break
const ORDER = ["bad", "silent", "frozen", "offline", "unknown", "good", "away"];
const grid = document.getElementById("grid");
const headline = document.getElementById("headline");
const filters = document.getElementById("filters");
const cards = new Map();
let shown = "";

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const card = cards.get(entry.target.dataset.stream);
    if (card) {
      card.visible = entry.isIntersecting;
      if (card.visible) card.showPicture();
    }
  }
}, { rootMargin: "200px" });

class Card {
  constructor(name) {
    this.name = name;
    this.visible = false;
    this.pictureShown = null;
    this.image = element("img", { alt: "", decoding: "async", hidden: true });
    this.nobody = icon("person", "nobody");
    this.pillText = element("span");
    this.pillIcon = element("span");
    this.why = element("p", { class: "why" });
    this.neck = element("dd");
    this.body = element("dd");
    this.age = element("span", { class: "age" });
    this.rate = element("span");
    this.day = element("div", { class: "card-day", hidden: true });
    const pair = (label, value) => element("div", {}, element("dt", {}, label), value);
    this.root = element(
      "li", { class: "card", "data-stream": name },
      element("div", { class: "shot" }, this.nobody, this.image),
      element(
        "div", { class: "body" },
        element(
          "div", { class: "line" },
          element("h2", {}, element("a", { href: `/streams/${name}` }, name)),
          element("span", { class: "pill" }, this.pillIcon, this.pillText),
        ),
        this.why,
        element("dl", { class: "angles" }, pair("Neck", this.neck), pair("Trunk", this.body)),
        element("div", { class: "foot" }, this.age, this.rate),
        this.day,
      ),
    );
    this.image.addEventListener("load", () => {
      this.image.hidden = false;
      this.nobody.toggleAttribute("hidden", true);
    });
    watcher.observe(this.root);
  }

  show() {
    const stream = state.streams.get(this.name);
    const { condition, posture, account } = stream;
    if (this.root.dataset.condition !== condition) {
      this.root.dataset.condition = condition;
      const trouble = ["silent", "frozen", "offline"].includes(condition);
      this.root.className = `card is-${condition}${trouble ? " stale" : ""}`;
      this.pillIcon.replaceChildren(icon(condition));
    }
    setText(this.why, [stream.why || (condition === "good" ? "Sits well." : ""), stream.clock].filter(Boolean).join(" "));
    const measured = condition === "good" || condition === "bad" || condition === "unknown";
    setText(this.neck, degrees(measured && posture ? posture.neck : null));
    setText(this.body, degrees(measured && posture ? posture.body : null));
    const refused = account ? Object.values(account.rejected).reduce((sum, count) => sum + count, 0) : 0;
    setText(this.rate, account && condition !== "offline" ? `${refused ? `${refused} rejected · ` : ""}${account.fps.toFixed(1)} fps` : "");
    this.tick();
    if (this.visible) this.showPicture();
  }

  tick() {
    const stream = state.streams.get(this.name);
    const since = stream.condition === "silent" || stream.condition === "frozen" ? stream.camera.since : stream.posture?.since;
    const held = since && stream.condition !== "offline" ? ` ${duration(now() - since)}` : "";
    setText(this.pillText, NAMES[stream.condition] + held);
    setText(this.age, stream.last_frame_at ? `${duration(now() - stream.last_frame_at)} ago` : "no frame yet");
  }

  showPicture() {
    const at = state.streams.get(this.name)?.picture?.at ?? null;
    if (at === this.pictureShown) return;
    this.pictureShown = at;
    if (at === null) {
      this.image.hidden = true;
      this.nobody.toggleAttribute("hidden", false);
    } else {
      this.image.alt = `Last picture of ${this.name}`;
      this.image.src = `/api/streams/${this.name}/picture?at=${at}`;
    }
  }
}

// Today, of each stream

async function showToday() {
  let found;
  try {
    found = await ask("/api/day");
  } catch {
    return; // the banner says that the database is away
  }
  for (const stream of found.streams) {
    const card = cards.get(stream.id);
    if (!card) continue;
    const { score, good, bad, unknown, away } = stream.spent;
    card.day.hidden = good + bad + unknown + away === 0;
    const long = stream.sitting_now_s >= LONG_S ? `sitting for ${duration(stream.sitting_now_s)}, time for a break` : "";
    card.day.replaceChildren(sharesBar(stream.spent), element("span", { class: long ? "reminder" : "muted" }, long || `Today ${percent(score)} good`));
  }
}

function counts() {
  const found = {};
  for (const { condition } of state.streams.values()) found[condition] = (found[condition] ?? 0) + 1;
  return found;
}

const number = (n, one, many) => `${n} ${n === 1 ? one : many}`;

function headlineText(found) {
  const all = state.streams.size;
  if (all === 0) return "No stream has said anything yet";
  const parts = [];
  if (found.bad) parts.push(`${number(found.bad, "person sits", "people sit")} badly`);
  const quiet = (found.silent ?? 0) + (found.frozen ?? 0);
  if (quiet) parts.push(`${number(quiet, "camera is", "cameras are")} silent`);
  if (found.offline) parts.push(`${number(found.offline, "stream has", "streams have")} no analyzer`);
  if (parts.length) return parts.join(", ");
  if (found.good) return `All is well: ${number(found.good, "person sits", "people sit")} well`;
  return found.away === all ? "Nobody is there" : "All streams run";
}

function showFilters(found) {
  const wanted = ["", ...ORDER.filter((condition) => found[condition])];
  if (shown && !found[shown]) shown = "";
  const key = JSON.stringify([wanted.map((condition) => found[condition] ?? state.streams.size), wanted, shown]);
  if (filters.dataset.shown === key) return;
  filters.dataset.shown = key;
  const focused = document.activeElement?.dataset?.filter;
  filters.replaceChildren(
    ...wanted.map((condition) => {
      const button = element(
        "button", { type: "button", "data-filter": condition, "aria-pressed": String(condition === shown) },
        condition ? icon(condition) : null,
        `${condition ? NAMES[condition] : "All"} `,
        element("span", { class: "count" }, String(condition ? found[condition] : state.streams.size)),
      );
      button.addEventListener("click", () => {
        shown = condition;
        showAll();
      });
      return button;
    }),
  );
  if (focused !== undefined) filters.querySelector(`[data-filter="${focused}"]`)?.focus();
}

function showAll() {
  const found = counts();
  setText(headline, headlineText(found));
  document.title = `${found.bad ? `(${found.bad}) ` : ""}Streams · Posture Farm`;
  showFilters(found);
  for (const card of cards.values()) {
    const hidden = shown !== "" && state.streams.get(card.name).condition !== shown;
    if (card.root.hidden !== hidden) card.root.hidden = hidden;
  }
}

onNews((changed) => {
  for (const name of changed) {
    if (!state.streams.has(name)) {
      cards.get(name)?.root.remove();
      cards.delete(name);
      continue;
    }
    if (!cards.has(name)) {
      const card = new Card(name);
      const after = [...cards.keys()].filter((other) => naturally(other, name) > 0).sort(naturally)[0];
      grid.insertBefore(card.root, after ? cards.get(after).root : null);
      cards.set(name, card);
    }
    cards.get(name).show();
  }
  if (changed.length || !state.connected || !state.streams.size) showAll();
});

setInterval(() => {
  for (const card of cards.values()) if (card.visible) card.tick();
}, 1000);

let database = "";
onNews(() => {
  const now = state.sources.database?.state ?? "";
  if (now === "up" && database !== "up") showToday();
  database = now;
});
setInterval(() => {
  if (!document.hidden && database === "up") showToday();
}, TODAY_MS);

follow();
