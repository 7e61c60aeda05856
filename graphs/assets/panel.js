"use strict";

/* What is said beside the picture. */

const MOST_ROWS = 12;
const summary = make("span", { id: "status", class: "pale", role: "status" });
const sizes = make("section", { id: "size", "aria-label": "size of the circuit" });
const details = make("section", { id: "details", tabindex: 0, "aria-label": "details" });
const panel = make("aside", { id: "panel" }, sizes, details);
let told = null;

function say(text) { message.textContent = text; }

function describe(shown, present) {
  summary.textContent = counted(shown, present);
  faithLine.textContent = faithfulness(shown);
  const name = state.chosen || state.hovered;
  const key = JSON.stringify([name, state.step, state.prompt, state.look, state.row, state.place,
    [...state.off], marks, state.cut, state.cuts, Object.keys(prompt()?.attention || {}).length]);
  if (key === told) return;
  told = key;
  const visible = ranked.filter((item) => shown.has(item));
  document.body.classList.toggle("choosing", state.chosen !== null);
  if (isGroup(name) && groupAt(name)) details.replaceChildren(...ofGroup(Number(name.slice(6)), visible));
  else if (byName.has(name)) details.replaceChildren(...ofNode(name, visible));
  else if (byItem.has(name)) details.replaceChildren(...ofEdge(byItem.get(name)));
  else details.replaceChildren(...ofAll(shown, visible));
}

function ofAll(shown, visible) {
  const target = (item) => (isNodes ? item.id : item.target);
  return [
    ...data.notes.map((note) => make("p", { class: "pale" }, note)),
    ...servedControls(),
    ...wordTable(),
    ...groupList(),
    ...table(`strongest ${unit}s`, visible, target),
  ];
}

function ofNode(name, visible) {
  const node = byName.get(name);
  const inputs = visible.filter((edge) => edge.target === name);
  const outputs = visible.filter((edge) => edge.source === name);
  const ports = ["q", "k", "v"].filter((port) => inputs.some((edge) => edge.key === port));
  const reads = ports.length
    ? ports.flatMap((port) => table(`reads at ${PORTS[port]}`,
      inputs.filter((edge) => edge.key === port), (edge) => edge.source))
    : table("strongest inputs", inputs, (edge) => edge.source);
  return [
    heading(about(node)),
    ...cutButton(name),
    ...attentionOf(name),
    ...directOf(name),
    ...(isNodes ? [] : [...reads, ...table("strongest outputs", outputs, (edge) => edge.target)]),
    ...wordTable(),
  ];
}

const PORTS = { q: "q, its queries", k: "k, its keys", v: "v, its values" };

function heading(text) {
  const close = button("\u00d7", clearPins, { "aria-label": "close the details", class: "close" });
  return make("div", { class: "heading" }, make("h2", { id: "focus" }, text), close);
}

function ofEdge(edge) {
  const spread = "standard_error" in edge ? ` \u00b1 ${number(edge.standard_error)}` : "";
  return [
    heading(itemName(edge)),
    make("p", {}, `score ${number(edge.score)}${spread}`),
    make("p", { class: "pale" }, `rank ${edge.rank + 1} of ${items.length}`),
    ...cutButton(itemName(edge)),
    ...wordTable(),
  ];
}

/* While the pointer is on an edge its line of text is all that changes. */
function showEdge(edge) {
  say(`${edgeName(edge)}  ${number(edge.score)}, rank ${edge.rank + 1} of ${items.length}`);
}

function ofGroup(order, visible) {
  const { name, note, members } = marks.groups[order];
  const within = new Set(members);
  const inputs = visible.filter((e) => within.has(e.target) && !within.has(e.source));
  const outputs = visible.filter((e) => within.has(e.source) && !within.has(e.target));
  return [
    heading(`${TAGS[order % TAGS.length]}: ${name}`),
    ...(note ? [make("p", {}, note)] : []),
    make("p", { class: "pale" }, `a supernode of ${members.join(", ")}`),
    make("p", {}, button("ungroup", () => ungroup(order))),
    ...(isNodes ? [] : [...table("what it reads", inputs, (edge) => edge.source),
      ...table("what reads it", outputs, (edge) => edge.target)]),
  ];
}

function groupList() {
  if (!marks.groups.length) return [];
  const lines = marks.groups.map((each, order) => make("li", {},
    make("button", { type: "button", class: "link",
      onclick: () => { state.chosen = `group ${order}`; remember(); update(); } },
    `${TAGS[order % TAGS.length]}: ${each.name}`), ` (${plural(each.members.length, "node")})`));
  return [make("h2", {}, "supernodes"), make("ul", {}, ...lines)];
}

/* The first rows of a list; clicking one shows the node it leads to. */
function table(heading, rows, target) {
  const title = make("h2", {}, heading);
  if (!rows.length) return [title, make("p", {}, "none")];
  const lines = rows.slice(0, MOST_ROWS).map((item) => {
    const go = { type: "button", class: "link", onclick: () => { goTo(target(item)); press(target(item)); } };
    const name = make("td", {}, make("button", go, itemName(item)));
    return make("tr", {}, name, make("td", {}, number(item.score)));
  });
  const rest = rows.length - MOST_ROWS;
  const more = rest > 0 ? [make("p", { class: "pale" }, `and ${rest} more`)] : [];
  return [title, make("table", {}, ...lines), ...more];
}

function counted(shown, present) {
  const parts = [
    `${shown.size} of ${plural(items.length, unit)} and ${present.size} of `
    + `${plural(nodes.length, "node")} shown`,
  ];
  if (shown.size) {
    const least = Math.min(...[...shown].map((item) => Math.abs(item.score)));
    parts.push(`, |score| at least ${number(least)}`);
  }
  const loose = step().asked - held[state.step].size;
  if (loose) parts.push(`; ${loose} of the strongest ${step().asked} connect nothing`);
  if (data.left_out) parts.push(`; ${data.left_out} weaker edges are not in this page`);
  return parts.join("");
}

/* Only what was measured is said: of each step, or of the whole circuit alone. */
function faithfulness(shown) {
  const value = step().faithfulness;
  const isWhole = state.step === data.steps.length - 1 && !data.left_out;
  if (shown.size < held[state.step].size) {
    return "the faithfulness of a filtered picture was not measured";
  }
  if (value !== null) return `faithfulness ${number(value)}, as measured`;
  if (isWhole && data.measured) {
    return "faithfulness is undefined: the model does not distinguish the two runs";
  }
  if (isWhole) return "faithfulness was not measured";
  const known = data.faithfulness;
  const hint = known === null ? "" : `; the whole circuit has ${number(known)}`;
  return `the faithfulness of what is shown was not measured${hint}`;
}

/* Faithfulness by size, with the slider's handle standing on the curve. */
const WIDE = 300, TALL = 64, SIDE = 8;
const chart = draw("svg", { id: "curve", viewBox: `0 0 ${WIDE} ${TALL}`, role: "img",
  "aria-label": "faithfulness by size" });
const sizeLine = make("p", { id: "sizes" });
const faithLine = make("p", { id: "faithfulness" });

function drawCurve() {
  const last = data.steps.length - 1;
  const values = data.steps.map((each) => each.faithfulness);
  const known = values.filter((value) => value !== null);
  const low = Math.min(0, ...known), high = Math.max(1, ...known);
  const x = (at) => SIDE + (last ? at / last : 0.5) * (WIDE - 2 * SIDE);
  const y = (value) => 6 + (high - value) / (high - low) * (TALL - 12);
  const points = values.flatMap((value, at) => (value === null ? [] : [[x(at), y(value)]]));
  const level = (value) => [
    draw("line", { class: "level", x1: SIDE, x2: WIDE - SIDE, y1: y(value), y2: y(value) }),
    draw("text", { class: "pale", x: WIDE - SIDE, y: y(value) + (value ? 9 : -2), "font-size": 9,
      "text-anchor": "end" }, String(value)),
  ];
  const dots = points.map(([cx, cy]) => draw("circle", { class: "dot", cx, cy, r: 2 }));
  const now = values[state.step];
  const handle = draw("circle", { id: "handle", cx: x(state.step),
    cy: now === null ? TALL / 2 : y(now), r: 5, "data-value": now });
  chart.replaceChildren(...level(0), ...level(1),
    draw("polyline", { class: "line", points: points.map((p) => p.join()).join(" ") }),
    ...dots, ...(known.length ? [handle] : []));
  chart.classList.toggle("unknown", !known.length);
  const kept = held[state.step].size;
  sizeLine.textContent = plural(kept, `strongest ${unit}`);
  slider.value = state.step;
  slider.setAttribute("aria-valuetext", `${sizeLine.textContent}, ${faithLine.textContent}`);
}
