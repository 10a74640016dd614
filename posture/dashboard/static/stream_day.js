// A stream's day and week: shares, time line, angles, slouches, the frame of a moment, trend and heat map.

import { clock, degrees, duration, element, setText } from "./common.js";
import { ask, chosenDay, dayName, dayPicker, hourMarks, legend, percent, remember, sharesBar, timeline, today } from "./days.js";

const EVERY_MS = 30_000;
const LONG_S = 50 * 60; // of sitting: time for a break

export class StreamDay {
  constructor(name, place) {
    this.name = name;
    this.day = chosenDay();
    this.number = 0;
    this.plot = null;
    this.dayPanel = element("section", { class: "panel", "aria-label": "Day" });
    this.anglesPlace = element("div", { class: "plot" });
    this.anglesPanel = element("section", { class: "panel" }, element("h2", {}, "Angles over the day"), this.anglesPlace);
    this.framePanel = element("section", { class: "panel frame", id: "frame", hidden: true, tabindex: "-1", "aria-label": "Frame" });
    this.weekPanel = element("section", { class: "panel", "aria-label": "Week" });
    place.append(this.dayPanel, this.framePanel, this.anglesPanel, this.weekPanel);
    const at = new URLSearchParams(location.search).get("at");
    if (/^\d{1,11}$/.test(at ?? "")) this.showFrame(Number(at));
    this.show();
    setInterval(() => {
      if (this.day === today() && !document.hidden) this.show();
    }, EVERY_MS);
    addEventListener("resize", () => this.plot?.setSize(this.size()));
    new MutationObserver(() => this.found && this.drawAngles(this.found)).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  async show() {
    const mine = ++this.number;
    try {
      const [day, week] = await Promise.all([
        ask(`/api/streams/${this.name}/day`, { day: this.day }),
        ask(`/api/streams/${this.name}/week`, { day: this.day }),
      ]);
      if (mine !== this.number) return;
      this.found = day;
      this.drawDay(day);
      this.drawAngles(day);
      this.drawWeek(week.days);
    } catch (error) {
      if (mine !== this.number) return;
      this.dayPanel.replaceChildren(this.head(), element("p", { class: "empty" }, error.status === 404 ? "There are no rows yet." : `The day can't be shown: ${error.message}.`));
      this.anglesPanel.hidden = this.weekPanel.hidden = true;
    }
  }

  head() {
    const picker = dayPicker(this.day, (day) => {
      this.day = day;
      remember({ day: day === today() ? null : day, at: null });
      this.framePanel.hidden = true;
      this.show();
    });
    return element("div", { class: "panel-head" }, element("h2", {}, this.day === today() ? "Today" : dayName(this.day)), picker);
  }

  drawDay(day) {
    this.anglesPanel.hidden = !day.neck.some((angle) => angle !== null);
    this.weekPanel.hidden = false;
    const focused = this.dayPanel.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    const figures = [
      ["Good", percent(day.spent.score), "of the time with a verdict"],
      ["Sitting", duration(day.spent.sitting), `longest without a break ${day.longest_s ? duration(day.longest_s) : "–"}`],
      ["Breaks", String(day.breaks), "of five minutes or more"],
      ["Slouches", String(day.bad.length), day.bad.length ? `longest ${duration(Math.max(...day.bad.map((one) => one.end - one.start)))}` : "none"],
    ];
    const reminder = day.sitting_now_s >= LONG_S ? element("p", { class: "reminder" }, `Sitting for ${duration(day.sitting_now_s)} without a break: time to get up.`) : null;
    this.dayPanel.replaceChildren(
      this.head(),
      ...(reminder ? [reminder] : []),
      element("dl", { class: "figures" }, ...figures.map(([label, value, text]) => element("div", {}, element("dt", {}, label), element("dd", {}, value), element("dd", { class: "muted" }, text)))),
      sharesBar(day.spent),
      timeline(day, (at) => this.showFrame(Math.round(at))),
      hourMarks(day),
      legend(),
      this.slouches(day),
    );
    if (focused) this.dayPanel.querySelector(`[aria-label="${focused}"]`)?.focus();
  }

  slouches(day) {
    if (!day.bad.length) return element("p", { class: "muted" }, "No slouch on this day.");
    const longest = [...day.bad].sort((a, b) => b.end - b.start - (a.end - a.start)).slice(0, 8);
    return element(
      "div", { class: "slouches" },
      element("h3", {}, "Longest slouches"),
      element("ul", {}, ...longest.map((one) => {
        const button = element("button", { type: "button", class: "quiet" }, `${clock(one.start)} · ${duration(one.end - one.start)}`);
        button.addEventListener("click", () => this.showFrame(Math.round((one.start + one.end) / 2)));
        return element("li", {}, button);
      })),
    );
  }

  async showFrame(at) {
    remember({ at: String(at), day: this.day === today() ? null : this.day });
    this.framePanel.hidden = false;
    try {
      const row = await ask(`/api/streams/${this.name}/frame`, { at });
      const taken = row.captured_time ?? row.received_time;
      const close = element("button", { type: "button", class: "quiet", "aria-label": "Close the frame" }, "Close");
      close.addEventListener("click", () => {
        this.framePanel.hidden = true;
        remember({ at: null });
      });
      const state = (row.posture_status ?? "Unknown").toLowerCase();
      const text = element(
        "div", {},
        element("div", { class: "panel-head" }, element("h2", {}, clock(Date.parse(taken) / 1000)), element("span", { class: `pill is-${state}` }, row.posture_status), close),
        element("p", { class: "lead" }, row.why),
        element("p", { class: "muted" }, `Neck ${degrees(row.neck_angle)}, trunk ${degrees(row.body_angle)}, rule set ${row.rule_set || "unknown"}, on ${row.processed_by || "unknown"}`),
        row.picture ? null : element("p", { class: "muted" }, row.filename ? "Its picture is not here any more, or on the node that made it." : "No picture of it is kept."),
      );
      const picture = row.picture ? element("img", { src: row.picture, alt: `Frame of ${this.name}: ${row.posture_status}. ${row.why}` }) : null;
      this.framePanel.replaceChildren(text, ...(picture ? [picture] : []));
    } catch (error) {
      this.framePanel.replaceChildren(element("p", { class: "empty" }, error.status === 404 ? "There is no frame within a minute of that." : `The frame can't be shown: ${error.message}.`));
    }
    this.framePanel.focus({ preventScroll: true });
    this.framePanel.scrollIntoView({ block: "nearest" });
  }

  size() {
    return { width: this.anglesPlace.clientWidth, height: 220 };
  }

  drawAngles(day) {
    if (this.anglesPanel.hidden) return;
    const colour = (name) => {
      const probe = element("span", { class: name });
      this.anglesPlace.append(probe);
      const found = getComputedStyle(probe).color;
      probe.remove();
      return found;
    };
    const [text, line, neck, body] = ["ink-muted", "ink-line", "ink-neck", "ink-body"].map(colour);
    const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
    const angle = (_, value) => (value === null ? "–" : `${Math.round(value)}°`);
    this.plot?.destroy();
    this.plot = new uPlot(
      {
        ...this.size(),
        scales: { x: { time: true, min: day.start, max: day.end }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(45, (high ?? 0) * 1.1)] } },
        axes: [{ ...axis, values: (_, marks) => marks.map((mark) => String(mark === day.end ? 24 : new Date(mark * 1000).getHours())) }, { ...axis, size: 46, values: (_, marks) => marks.map((mark) => `${mark}°`) }],
        series: [
          { label: "Time", value: (_, at) => (at === null ? "–" : clock(at)) },
          { label: "Neck", stroke: neck, width: 1.5, value: angle, points: { show: false } },
          { label: "Trunk", stroke: body, width: 1.5, value: angle, points: { show: false } },
        ],
        hooks: {
          ready: [(plot) => plot.over.addEventListener("dblclick", () => {
            const at = plot.posToVal(plot.cursor.left, "x");
            if (at) this.showFrame(Math.round(at));
          })],
        },
      },
      [day.minutes, day.neck, day.body],
      this.anglesPlace,
    );
    const measured = day.neck.filter((angle) => angle !== null);
    this.anglesPlace.setAttribute("role", "img");
    this.anglesPlace.setAttribute("aria-label", `Neck from ${degrees(Math.min(...measured))} to ${degrees(Math.max(...measured))} in ${measured.length} minutes`);
  }

  drawWeek(days) {
    const hours = [...Array(24).keys()];
    const first = Math.min(8, ...days.flatMap((day) => hours.filter((hour) => day.hours[hour].sitting > 0)));
    const last = Math.max(18, ...days.flatMap((day) => hours.filter((hour) => day.hours[hour].sitting > 0)));
    const shown = hours.slice(first, last + 1);
    const cell = (hour, day) => {
      const { score, sitting } = day.hours[hour];
      const text = score === null ? (sitting ? "no verdict" : "nobody") : `${percent(score)} good of ${duration(sitting)}`;
      const level = score === null ? "none" : Math.min(4, Math.floor(score * 5));
      return element("td", { class: `heat heat-${level}`, title: `${dayName(day.day)}, ${hour}:00: ${text}` }, element("span", { class: "visually-hidden" }, text));
    };
    const rows = days.map((day) => {
      const link = element("a", { href: `?day=${day.day}` }, dayName(day.day));
      return element(
        "tr", {},
        element("th", { scope: "row" }, link),
        ...shown.map((hour) => cell(hour, day)),
        element("td", { class: "figure" }, percent(day.spent.score)),
        element("td", { class: "figure" }, day.spent.sitting ? duration(day.spent.sitting) : "–"),
      );
    });
    const head = [element("th", { scope: "col" }, element("span", { class: "visually-hidden" }, "Day")), ...shown.map((hour) => element("th", { scope: "col" }, String(hour))), element("th", { scope: "col" }, "Good"), element("th", { scope: "col" }, "Sitting")];
    const scale = element("p", { class: "legend" }, element("span", {}, "Bad"), ...[0, 1, 2, 3, 4].map((level) => element("i", { class: `heat heat-${level}` })), element("span", {}, "Good"));
    this.weekPanel.replaceChildren(
      element("h2", {}, "Seven days, hour by hour"),
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Heat map" }, element("table", { class: "heat-map" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows))),
      scale,
    );
  }
}
