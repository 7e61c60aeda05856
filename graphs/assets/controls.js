"use strict";

/* Controls, downloads, the prompts and their positions; and the start of everything. */

function toggle(key, label, ...marks) {
  const flip = () => {
    if (box.checked) state.off.delete(key);
    else state.off.add(key);
    update();
  };
  const box = make("input", { type: "checkbox", onchange: flip });
  box.checked = true;
  return make("label", {}, box, ...marks, label);
}

/* Controls that stay together on one line; nothing where there are none. */
function group(label, members) {
  return members.length ? [make("fieldset", { "aria-label": label }, ...members)] : [];
}

function swatch(sign) {
  const mark = make("span", { class: `swatch ${sign}` });
  mark.style.borderTopColor = data.colours[sign];
  return mark;
}

function button(label, press, attributes = {}) {
  return make("button", { type: "button", onclick: press, ...attributes }, label);
}

/* The slider is fine where there are few: halfway is the square root of all. */
const STEPS = 1000;
const toCount = (step) => Math.round((items.length + 1) ** (step / STEPS) - 1);
const toStep = (count) => Math.round(STEPS * Math.log(count + 1) / Math.log(items.length + 1)) || 0;

function thresholdSlider() {
  const choose = (count) => {
    state.count = Math.min(Math.max(Math.round(count) || 0, 0), items.length);
    update();
  };
  const slide = () => {
    choose(toCount(Number(slider.value)));
    field.value = state.count;
  };
  const type = () => {
    choose(Number(field.value));
    slider.value = toStep(state.count);
  };
  const told = `how many of the strongest ${unit}s`;
  const range = { id: "slider", type: "range", min: 0, max: STEPS, "aria-label": told };
  const slider = make("input", { ...range, oninput: slide });
  const number = { id: "count", type: "number", min: 0, max: items.length, "aria-label": told };
  const field = make("input", { ...number, oninput: type });
  slider.value = toStep(state.count);
  field.value = state.count;
  const all = button("all", () => { field.value = items.length; type(); }, { id: "all" });
  return make("span", {}, make("label", {}, "strongest ", slider), field, ` of ${items.length} `, all);
}

function searchField() {
  const find = () => {
    state.query = field.value.trim().toLowerCase();
    update();
  };
  const kind = { id: "search", type: "search", placeholder: "find a node" };
  const field = make("input", { ...kind, oninput: find });
  return field;
}

function controls() {
  const signs = ["positive", "negative"].map((sign, index) => [sign, data.meaning[index]]);
  const ports = ["q", "k", "v"].filter((port) => edges.some((edge) => edge.key === port));
  const names = { head: "heads", mlp: "MLPs", neuron: "neurons" };
  const kinds = Object.keys(names).filter((kind) => nodes.some((node) => node.kind === kind));
  return make("div", { id: "controls" },
    thresholdSlider(),
    ...group("sign", signs.map(([sign, label]) => toggle(sign, label, swatch(sign)))),
    ...group("ports", ports.map((port) => toggle(`port ${port}`, port))),
    ...group("kinds", kinds.map((kind) => toggle(kind, names[kind]))),
    searchField(),
    ...group("view", [
      button("+", () => zoom(0.8), { "aria-label": "zoom in" }),
      button("\u2212", () => zoom(1.25), { "aria-label": "zoom out" }),
      button("fit", () => look(whole)),
    ]),
    ...group("save", [
      button("SVG", saveSvg, { id: "save-svg", title: "save what is shown as a picture" }),
      button("JSON", saveJson, { id: "save-json", title: "save the circuit of this page" }),
    ]),
    summary);
}

function save(content, name, type) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  make("a", { download: name, href: address }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/* What is shown, wherever it has been moved to, above what the page says of it. */
function saveSvg() {
  const copy = svg.cloneNode(true);
  for (const hidden of copy.querySelectorAll('[display="none"]')) hidden.remove();
  const { x, y, width, height } = whole;
  const told = [...data.caption, summary.textContent]
    .map((line, index) => text(line, x + 10, y + height + 16 * (index + 1), 11, "start", INK));
  const tall = height + 16 * (told.length + 1);
  fill(copy, { viewBox: `${x} ${y} ${width} ${tall}`, width, height: tall }, told);
  save(new XMLSerializer().serializeToString(copy), "circuit.svg", "image/svg+xml");
}

function saveJson() {
  const ours = new Set(["rank", "shape", "frame", "slots"]);
  const kept = (name, value) => (ours.has(name) ? undefined : value);
  const plain = (list) => list.map((item) => JSON.parse(JSON.stringify(item, kept)));
  const file = { ...data.circuit, nodes: plain(nodes), edges: plain(edges) };
  save(`${JSON.stringify(file, null, 1)}\n`, "circuit.json", "application/json");
}

const reading = make("div", { id: "prompt" });

/* One prompt's tokens, with those marked that the circuit's positions mean; else the positions. */
function read() {
  const places = [...new Set(nodes.map(placeOf).filter((name) => name !== null))];
  const prompt = data.prompts[state.prompt];
  reading.hidden = !places.length && !prompt;
  if (!prompt) {
    reading.replaceChildren("positions: ", ...places.map((name) => token(name, name)));
    return;
  }
  const { tokens, positions } = prompt;
  const at = new Map(places.map((name) => {
    const index = Object.hasOwn(positions, name) ? positions[name] : Number(name);
    return [index < 0 ? index + tokens.length : index, name];
  }));
  const total = data.prompts.length;
  const step = (by) => {
    state.prompt = (state.prompt + by + total) % total;
    read();
  };
  reading.replaceChildren(
    button("\u2039", () => step(-1), { "aria-label": "previous prompt" }),
    ` prompt ${state.prompt + 1} of ${total} `,
    button("\u203a", () => step(1), { "aria-label": "next prompt" }),
    " ",
    ...tokens.map((told, index) => token(told, at.get(index))));
}

function token(told, name) {
  if (name === undefined) return make("span", { class: "token" }, told);
  const press = () => {
    state.place = state.place === name ? null : name;
    read();
    update();
  };
  const chosen = name === state.place ? " chosen" : "";
  const looks = { class: `token used${chosen}`, title: name, tabindex: 0 };
  return make("span", { ...looks, onclick: press }, told);
}

function start() {
  const [title, ...lines] = data.caption;
  const told = [make("h1", {}, title), ...lines.map((line) => make("p", {}, line))];
  document.body.append(make("header", {}, ...told), controls(), reading, make("main", {}, svg, panel));
  followPointer();
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    state.pinned = state.place = null;
    read();
    update();
  });
  read();
  update();
}

start();
