"use strict";

/* Controls, downloads, the prompts and their positions; and the start of everything. */

const summary = make("span", { id: "status", class: "pale", role: "status" });

function toggle(key, label, ...marks) {
  const box = make("input", { type: "checkbox", onchange: () => {
    if (box.checked) state.off.delete(key); else state.off.add(key);
    update();
  } });
  box.checked = true;
  return make("label", {}, box, ...marks, label);
}

function swatch(sign) {
  const mark = make("span", { class: `swatch ${sign}` });
  mark.style.borderTopColor = data.colours[sign];
  return mark;
}

function controls() {
  const slider = make("input", { id: "count", type: "range", min: 0, max: items.length, step: 1,
    "aria-label": `how many of the strongest ${unit}s`, oninput: () => { state.count = Number(slider.value); update(); } });
  slider.value = items.length;
  const search = make("input", { id: "search", type: "search", placeholder: "find a node",
    oninput: () => { state.query = search.value.trim().toLowerCase(); update(); } });
  const ports = ["q", "k", "v"].filter((port) => edges.some((edge) => edge.key === port));
  const kinds = ["head", "mlp", "neuron"].filter((kind) => nodes.some((node) => node.kind === kind));
  return make("div", { id: "controls" },
    make("label", {}, "threshold", slider),
    make("fieldset", { "aria-label": "sign" }, toggle("positive", "towards the clean answer", swatch("positive")), toggle("negative", "away from it", swatch("negative"))),
    make("fieldset", { "aria-label": "ports" }, ...ports.map((port) => toggle(`port ${port}`, port))),
    make("fieldset", { "aria-label": "kinds" }, ...kinds.map((kind) => toggle(kind, kind === "mlp" ? "MLPs" : `${kind}s`))),
    search,
    make("button", { type: "button", onclick: () => zoom(0.8) }, "+"),
    make("button", { type: "button", onclick: () => zoom(1.25) }, "\u2212"),
    make("button", { type: "button", onclick: () => look({ ...whole }) }, "fit"),
    make("button", { type: "button", id: "save-svg", onclick: saveSvg }, "SVG"),
    make("button", { type: "button", id: "save-json", onclick: saveJson }, "JSON"),
    summary);
}

function save(text, name, type) {
  const link = make("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
  document.body.append(link);
  link.click();
  link.remove();
}

function saveSvg() {
  const copy = svg.cloneNode(true);
  for (const hidden of copy.querySelectorAll('[display="none"]')) hidden.remove();
  copy.setAttribute("viewBox", `${whole.x} ${whole.y} ${whole.width} ${whole.height}`);
  copy.setAttribute("width", whole.width);
  copy.setAttribute("height", whole.height);
  save(new XMLSerializer().serializeToString(copy), "circuit.svg", "image/svg+xml");
}

function saveJson() {
  const keep = (item) => Object.fromEntries(Object.entries(item).filter(([name]) => !added.has(name)));
  const file = { ...data.circuit, nodes: nodes.map(keep), edges: edges.map(keep) };
  save(`${JSON.stringify(file, null, 1)}\n`, "circuit.json", "application/json");
}

const added = new Set(["rank", "shape", "frame", "slots"]);

/* The prompts, token by token, and the positions that nodes are tied to. */

const reading = make("div", { id: "prompt" });

function choose(name) {
  state.place = state.place === name ? null : name;
  read();
  update();
}

function read() {
  const places = [...new Set(nodes.map(place).filter((name) => name !== null))];
  const prompt = data.prompts[state.prompt];
  reading.hidden = !places.length && !prompt;
  if (!prompt) {
    reading.replaceChildren("positions: ", ...places.map((name) => token(name, name)));
    return;
  }
  const at = new Map();
  for (const name of places) {
    const index = Object.hasOwn(prompt.positions, name) ? prompt.positions[name] : Number(name);
    at.set(index < 0 ? index + prompt.tokens.length : index, name);
  }
  const step = (by) => { state.prompt = (state.prompt + by + data.prompts.length) % data.prompts.length; read(); };
  reading.replaceChildren(
    make("button", { type: "button", "aria-label": "previous prompt", onclick: () => step(-1) }, "\u2039"),
    ` prompt ${state.prompt + 1} of ${data.prompts.length} `,
    make("button", { type: "button", "aria-label": "next prompt", onclick: () => step(1) }, "\u203a"), " ",
    ...prompt.tokens.map((text, index) => token(text, at.get(index))));
}

function token(text, name) {
  if (name === undefined) return make("span", { class: "token" }, text);
  const chosen = name === state.place ? " chosen" : "";
  return make("span", { class: `token used${chosen}`, title: name, tabindex: 0, onclick: () => choose(name) }, text);
}

function start() {
  const [title, ...lines] = data.caption;
  for (const node of nodes) node.shape = drawNode(node);
  for (const edge of edges) edge.shape = drawEdge(edge);
  const drawn = ranked.filter((item) => !isNodes).reverse().map((edge) => edge.shape);
  svg.append(...drawLayers(), ...drawn, ...nodes.map((node) => node.shape));
  document.body.append(
    make("header", {}, make("h1", {}, title), ...lines.map((line) => make("p", {}, line))),
    controls(), reading, make("main", {}, svg, panel));
  look({ ...whole });
  dragging();
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { state.pinned = null; state.place = null; read(); update(); }
  });
  read();
  update();
}

start();
