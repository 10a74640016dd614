// One stream: its picture, why it sits as it does, its day, and what an operator may do.

import {
  NAMES, clock, degrees, duration, element, follow, icon, now, onDatabaseBack, onNews, send, setText, state, toast,
} from "./common.js";
import { zone } from "./days.js";
import { StreamDay } from "./stream_day.js";

const name = decodeURIComponent(location.pathname.split("/").pop());
const root = document.getElementById("stream");

const pill = element("span", { class: "pill" });
const why = element("p", { class: "lead" });
const advice = element("p", { class: "muted" });
const image = element("img", { alt: "", hidden: true });
const caption = element("figcaption", { class: "muted" });
const facts = element("dl", { class: "facts" });
const actions = element("div", { class: "actions", hidden: true });
const outcome = element("p", { class: "muted", role: "status" });

root.append(
  element("p", { class: "crumbs" }, element("a", { href: "/" }, "All streams")),
  element("div", { class: "title" }, element("h1", {}, name), pill),
  element(
    "div", { class: "now" },
    element("figure", { class: "shot large" }, icon("person", "nobody"), image, caption),
    element("section", { class: "panel", "aria-label": "Now" }, why, advice, facts, actions, outcome),
  ),
);
const days = new StreamDay(name, root);
image.addEventListener("load", () => {
  image.hidden = false;
});

// What an operator may do

const MINUTES = [15, 30, 60, 240];
const snooze = element("select", { "aria-label": "Snooze alerts for" });
snooze.append(...MINUTES.map((minutes) => element("option", { value: minutes }, minutes < 60 ? `${minutes} min` : `${minutes / 60} h`)));
const snoozeButton = element("button", { type: "button", id: "snooze" }, icon("snoozed"), "Snooze alerts");
const wakeButton = element("button", { type: "button", id: "wake" }, icon("bell"), "End the snooze");
const calibrate = element("button", { type: "button", id: "calibrate" }, icon("person"), "Calibrate");
const forget = element("button", { type: "button", id: "forget", class: "quiet" }, "Forget the calibration");
actions.append(element("div", { class: "pair" }, snoozeButton, snooze), wakeButton, calibrate, forget);

let asked = null;

async function command(body, doing) {
  setText(outcome, `${doing}…`);
  try {
    asked = (await send("POST", `/api/streams/${name}/command`, body)).id;
  } catch (error) {
    asked = null;
    setText(outcome, `Refused: ${error.message}.`);
  }
  showReply();
}

snoozeButton.addEventListener("click", () => command({ snooze_s: Number(snooze.value) * 60 }, "Holding alerts"));
wakeButton.addEventListener("click", () => command({ snooze_s: 0 }, "Ending the snooze"));
calibrate.addEventListener("click", () => command({ calibrate: 6 }, "Calibrating: sit upright and still"));
forget.addEventListener("click", () => command({ forget_calibration: true }, "Forgetting the calibration"));

const DONE = { calibrate: "Calibrated.", snooze_s: "Done.", forget_calibration: "The calibration is forgotten." };

function showReply() {
  const reply = state.streams.get(name)?.reply;
  if (!asked || reply?.id !== asked) return;
  if (reply.outcome === "started") setText(outcome, "Sit upright and still for six seconds…");
  else if (reply.outcome === "done") setText(outcome, DONE[reply.command] ?? "Done.");
  else setText(outcome, `Refused: ${reply.reason}`);
  if (reply.outcome !== "started") {
    toast(outcome.textContent);
    asked = null;
  }
}

// The stream's data

const csv = element("a", { class: "button", id: "csv", hidden: true, download: "" }, "Rows of the day as CSV");
csv.addEventListener("click", () => {
  csv.href = `/api/streams/${name}/rows.csv?${new URLSearchParams({ zone, day: days.day })}`;
});
csv.href = `/api/streams/${name}/rows.csv`;
const remove = element("button", { type: "button", id: "delete", class: "danger", hidden: true }, "Delete this stream's data…");
const sure = element("dialog", { "aria-labelledby": "sure" });
const typed = element("input", { autocomplete: "off", "aria-label": `Type ${name}` });
const confirm = element("button", { type: "button", class: "danger", disabled: true }, "Delete");
const cancel = element("button", { type: "button" }, "Cancel");
sure.append(
  element("h2", { id: "sure" }, `Delete all data of ${name}?`),
  element("p", {}, "Its rows in the database, and its pictures on this machine. Pictures on other nodes stay. This can't be undone."),
  element("p", {}, `Type ${name} to go on:`),
  typed,
  element("div", { class: "actions" }, confirm, cancel),
);
root.append(element("div", { class: "data" }, csv, remove), sure);
remove.addEventListener("click", () => sure.showModal());
cancel.addEventListener("click", () => sure.close());
typed.addEventListener("input", () => {
  confirm.disabled = typed.value !== name;
});
confirm.addEventListener("click", async () => {
  sure.close();
  try {
    const { rows, pictures } = await send("DELETE", `/api/streams/${name}/rows`);
    toast(`Deleted: ${rows} rows, ${pictures} pictures.`);
  } catch (error) {
    toast(`Not deleted: ${error.message}.`);
  }
  days.show();
});

// What is known now

const rows = new Map();

function fact(label, text) {
  if (!rows.has(label)) {
    const value = element("dd");
    const row = element("div", {}, element("dt", {}, label), value);
    facts.append(row);
    rows.set(label, { row, value });
  }
  const { row, value } = rows.get(label);
  row.hidden = !text;
  setText(value, text ?? "");
}

let pictureShown = null;

function show() {
  const stream = state.streams.get(name);
  if (!stream) return;
  const { condition, posture, account, analyzer, picture } = stream;
  pill.className = `pill is-${condition}`;
  if (pill.dataset.condition !== condition) {
    pill.dataset.condition = condition;
    pill.replaceChildren(icon(condition), element("span", {}, NAMES[condition]));
  }
  setText(why, stream.why || (condition === "good" ? "Sits well." : ""));
  setText(advice, posture?.advice ? `What helps: ${posture.advice}.` : "");
  const measured = ["good", "bad", "unknown"].includes(condition);
  fact("Neck", measured && posture ? degrees(posture.neck) : null);
  fact("Trunk", measured && posture ? degrees(posture.body) : null);
  fact("Since", posture && measured ? `${clock(posture.since)}, for ${duration(now() - posture.since)}` : null);
  fact("Last frame", stream.last_frame_at ? `${duration(now() - stream.last_frame_at)} ago` : "none yet");
  fact("Rule set", posture?.rule_set);
  fact("Calibrated", stream.calibrated_at ? clock(stream.calibrated_at) : "not yet");
  fact("Alerts", posture?.snoozed_until && posture.snoozed_until > now() ? `snoozed until ${clock(posture.snoozed_until)}` : null);
  const delegate = analyzer?.delegate ? `, ${analyzer.delegate.toUpperCase()}${analyzer.gpu_missing ? " although the GPU was asked for" : ""}` : "";
  fact("Analyzer", analyzer?.online ? `on ${analyzer.node || analyzer.host}${delegate}` : "none");
  fact("Frames", account ? `${account.received} received, ${account.missing} missing, ${account.fps.toFixed(1)} a second` : null);
  const rejected = Object.entries(account?.rejected ?? {}).map(([reason, number]) => `${number} ${reason.replaceAll("_", " ")}`);
  fact("Rejected", rejected.join(", ") || null);
  fact("Not MQTT", account?.malformed ? `${account.malformed} messages that the library can't parse` : null);
  fact("Clock", stream.clock || null);
  const snoozed = Boolean(posture?.snoozed_until && posture.snoozed_until > now());
  wakeButton.hidden = !snoozed;
  forget.hidden = !stream.calibrated_at;
  actions.hidden = !state.about.operator;
  for (const button of actions.querySelectorAll("button")) button.disabled = !analyzer?.online;
  showPicture(picture);
  showReply();
}

function showPicture(picture) {
  const at = picture?.at ?? null;
  if (at !== pictureShown) {
    pictureShown = at;
    if (at === null) image.hidden = true;
    else {
      image.alt = `Last picture of ${name}: ${picture.status}. ${picture.why}`;
      image.src = `/api/streams/${name}/picture?at=${at}`;
    }
  }
  const angles = picture ? `neck ${degrees(picture.neck)}, trunk ${degrees(picture.body)}` : "";
  setText(caption, picture ? `${clock(Date.parse(picture.taken_at) / 1000)} · ${picture.status}, ${angles}` : "No picture is sent.");
}

onDatabaseBack(() => days.show());
onNews((changed) => {
  if (changed.includes(name)) show();
  csv.hidden = remove.hidden = !state.about.operator;
});
setInterval(show, 1000);
follow();
