// What all pages share: the feed, the banners, the theme, times, and how elements are made.

import "./theme.js";

const SVG = "http://www.w3.org/2000/svg";
export const NAMES = {
  good: "Good", bad: "Bad", unknown: "Unknown", away: "Away", silent: "Silent", frozen: "Frozen", offline: "Offline",
};
const SOURCES = { broker: "The broker", database: "The database", prometheus: "Prometheus", kubernetes: "The Kubernetes API" };
const MEANS = {
  broker: "what you see is the last that was known",
  database: "history can't be shown",
  prometheus: "the nodes' usage can't be shown",
  kubernetes: "where streams run is what was last known",
};

/** Returns a new element. Text is always text, never HTML. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function icon(name, className = "icon") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Sets a text only where it differs, so that nothing is drawn, or read aloud, again. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Replaces what is in a place where it differs from what was drawn there, and keeps the focus where it was. */
export function redraw(place, key, draw) {
  const wanted = JSON.stringify(key);
  if (place.dataset.drawn === wanted) return;
  place.dataset.drawn = wanted;
  const focused = place.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  place.replaceChildren(...draw());
  if (focused) place.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

// Times

let ahead = 0;
/** Seconds since 1970 by the server's clock. */
export const now = () => Date.now() / 1000 + ahead;

export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

const sameDay = (a, b) => a.toDateString() === b.toDateString();

/** A moment in the viewer's own time zone: the time, and the day where it is another one. */
export function clock(seconds) {
  const moment = new Date(seconds * 1000);
  const time = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return sameDay(moment, new Date()) ? time : `${moment.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

export const degrees = (angle) => (angle === null || angle === undefined ? "–" : `${Math.round(angle)}°`);

/** pi2 before pi10. */
export const naturally = new Intl.Collator("en", { numeric: true }).compare;

// The feed

const listeners = [];
export const state = { streams: new Map(), sources: {}, malformed: { count: 0, last: [] }, alerts: [], about: {}, connected: false };

/** Calls back with the names of the streams that have changed, at each change of anything. */
export function onNews(listener) {
  listeners.push(listener);
}

/** Calls back when the database is there again, also where it was away between two pieces of news only. */
export function onDatabaseBack(then) {
  let since = 0;
  onNews(() => {
    const database = state.sources.database;
    if (since && database?.state === "up" && database.since !== since) then();
    since = database?.since ?? 0;
  });
}

function take(news) {
  ahead = news.now - Date.now() / 1000;
  const changed = [];
  for (const [name, stream] of Object.entries(news.streams ?? {})) {
    if (stream === null) state.streams.delete(name);
    else state.streams.set(name, stream);
    changed.push(name);
  }
  if (news.sources) state.sources = news.sources;
  if (news.malformed) state.malformed = news.malformed;
  if (news.alerts) state.alerts.push(...news.alerts);
  tell(changed, news.alerts ?? []);
}

function tell(changed, alerts) {
  showBanners();
  for (const listener of listeners) listener(changed, alerts);
}

// The server says something every 15 s: where its machine or the network is gone, nothing tells of that but the silence.
const SILENT_MS = 40_000;
const LOOK_MS = 5_000;

export function follow() {
  const source = new EventSource("/api/feed");
  let heard = Date.now();
  const looking = setInterval(() => {
    if (Date.now() - heard < SILENT_MS) return;
    lose();
    source.close();
    clearInterval(looking);
    follow();
  }, LOOK_MS);
  const lose = () => {
    state.connected = false;
    tell([], []);
  };
  source.addEventListener("all", (event) => {
    heard = Date.now();
    const all = JSON.parse(event.data);
    const before = [...state.streams.keys()];
    state.streams.clear();
    state.alerts = [];
    state.about = all;
    state.connected = true;
    showWho();
    take({ ...all, streams: { ...Object.fromEntries(before.map((name) => [name, null])), ...all.streams } });
  });
  source.addEventListener("news", (event) => {
    heard = Date.now();
    const news = JSON.parse(event.data);
    take(news);
    tellOfAlerts(news.alerts ?? []);
  });
  source.addEventListener("goodbye", () => location.reload());
  source.addEventListener("error", () => {
    heard = Date.now();
    lose();
    // refused for good (the server is starting, say): the browser does not try again by itself
    if (source.readyState !== EventSource.CLOSED) return;
    clearInterval(looking);
    setTimeout(follow, 2000);
  });
}

// Commands

/** Sends a command, and returns what is answered; an error says why it was refused. */
export async function send(method, path, body) {
  const headers = { "X-CSRF-Token": state.about.token ?? "" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("the dashboard does not answer");
  }
  if (answer.redirected) return {};
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.error ?? `refused with status ${answer.status}`);
  return said;
}

const leave = document.getElementById("leave");
leave?.addEventListener("click", async () => {
  await send("POST", "/logout").catch(() => {});
  location.assign("/login");
});

function showWho() {
  if (!leave) return;
  leave.hidden = !state.about.logs_in;
  leave.title = state.about.user ? `${state.about.user}, ${state.about.operator ? "operator" : "viewer"}` : "";
}

/** Says something for a while, aloud, too. */
export function toast(text) {
  const place = document.getElementById("toasts");
  const shown = element("p", { class: "toast" }, text);
  place.append(shown);
  setTimeout(() => shown.remove(), 8000);
}

// Notifications of alerts, where the viewer wants them; they come while a page is open

const notify = document.getElementById("notify");

function mayAskForNotifications() {
  return "Notification" in window && window.isSecureContext && Notification.permission === "default";
}

notify?.addEventListener("click", async () => {
  const answer = await Notification.requestPermission();
  notify.hidden = !mayAskForNotifications();
  if (answer === "granted") toast("You are told of alerts while a page of this dashboard is open.");
});
if (notify) notify.hidden = !mayAskForNotifications();

function tellOfAlerts(alerts) {
  if (!("Notification" in window) || Notification.permission !== "granted") return;
  for (const alert of alerts) {
    const shown = new Notification(`${alert.id} sits badly`, { body: alert.why, tag: alert.id, icon: "/static/icon.svg" });
    shown.onclick = () => {
      window.focus();
      location.assign(`/streams/${alert.id}`);
    };
  }
}

// Banners

function banners() {
  if (!state.connected) return [["page", "No connection to the dashboard", "trying again; what you see is old"]];
  const found = [];
  for (const [name, source] of Object.entries(state.sources)) {
    if (source.state === "down") found.push([name, `${SOURCES[name]} is away`, `${source.why}; ${MEANS[name]}`]);
  }
  return found;
}

function showBanners() {
  const place = document.getElementById("banners");
  const wanted = banners();
  const key = JSON.stringify(wanted);
  if (place.dataset.shown === key) return;
  place.dataset.shown = key;
  place.replaceChildren(
    ...wanted.map(([name, title, text]) =>
      element("div", { class: "banner", "data-source": name }, icon("warning"), element("span", {}, element("strong", {}, title), ` · ${text}`)),
    ),
  );
}
