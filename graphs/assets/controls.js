"use strict";

/* Controls and downloads; and the start of everything. */

const message = make("span", { id: "message", role: "status" });

function toggle(key, label, ...marksOf) {
  const flip = () => {
    if (box.checked) state.off.delete(key);
    else state.off.add(key);
    update();
  };
  const box = make("input", { type: "checkbox", onchange: flip });
  box.checked = true;
  return make("label", {}, box, ...marksOf, label);
}

/* Controls that stay together on one line; nothing where there are none. */
function together(label, members) {
  return members.length ? [make("fieldset", { "aria-label": label }, ...members)] : [];
}

function button(label, press, attributes = {}) {
  return make("button", { type: "button", onclick: press, ...attributes }, label);
}

const slider = make("input", { id: "slider", type: "range", min: 0, max: data.steps.length - 1,
  step: 1, "aria-label": `how many of the strongest ${unit}s`,
  oninput: () => { state.step = Number(slider.value); remember(); update(); } });

/* The first match comes into view; more are stepped through with Enter. */
function searchField() {
  const matches = () => nodes.filter((node) => node.id in step().spots
    && node.id.toLowerCase().includes(state.query));
  let at = 0;
  const find = (next) => {
    state.query = field.value.trim().toLowerCase();
    const found = state.query ? matches() : [];
    at = next && found.length ? (at + 1) % found.length : 0;
    if (!state.query) {
      say("");
      fit();
    } else if (found.length) {
      say(`${at + 1} of ${plural(found.length, "match").replace("matchs", "matches")}: ${found[at].id}`);
      goTo(found[at].id);
    } else {
      const elsewhere = nodes.some((node) => node.id.toLowerCase().includes(state.query));
      const hint = elsewhere ? "; there is one among the weaker edges: move the slider" : "";
      say(`no node shown has "${field.value.trim()}" in its name${hint}`);
      state.query = "";
    }
    update();
  };
  const field = make("input", { id: "search", type: "search", placeholder: "find a node",
    "aria-label": "find a node", oninput: () => find(false),
    onkeydown: (event) => { if (event.key === "Enter") find(true); } });
  return field;
}

function groupForm() {
  const name = make("input", { id: "group-name", type: "text", placeholder: "supernode's name",
    "aria-label": "name of the supernode" });
  const note = make("input", { id: "group-note", type: "text", placeholder: "note",
    "aria-label": "note of the supernode" });
  const act = () => {
    if (!group(name.value.trim(), note.value.trim())) return;
    name.value = note.value = "";
  };
  return make("details", { id: "group" }, make("summary", {}, "group"),
    make("div", {}, name, note, button("group the pinned", act, { id: "group-pinned" })));
}

function swatch(sign) {
  return make("span", { class: `swatch ${sign}` });
}

function controls() {
  const signs = ["positive", "negative"].map((sign, index) => [sign, data.meaning[index]]);
  const ports = ["q", "k", "v"].filter((port) => edges.some((edge) => edge.key === port));
  const names = {
    head: "heads", mlp: "MLPs", neuron: "neurons", latent: "latents", error: "error terms",
  };
  const kinds = Object.keys(names).filter((kind) => nodes.some((node) => node.kind === kind));
  const shared = data.other.length ? [toggle("shared", "what both have")] : [];
  return make("section", { id: "controls", "aria-label": "controls" },
    ...together("sign", signs.map(([sign, label]) => toggle(sign, label, swatch(sign)))),
    ...together("ports", ports.map((port) => toggle(`port ${port}`, port))),
    ...together("kinds", kinds.map((kind) => toggle(kind, names[kind]))),
    ...together("other", shared),
    searchField(),
    ...together("view", [
      button("+", () => zoomBy(1.25), { "aria-label": "zoom in" }),
      button("\u2212", () => zoomBy(0.8), { "aria-label": "zoom out" }),
      button("fit", fit),
    ]),
    groupForm(),
    ...together("marks", [button("undo", undo, { id: "undo" }),
      button("clear", clearPins, { id: "clear", title: "take out all pins" })]),
    ...together("save", [
      button("SVG", saveSvg, { id: "save-svg", title: "save what is shown as a picture" }),
      button("JSON", saveJson, { id: "save-json", title: "save the circuit with its marks" }),
    ]));
}

function save(content, name, type) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  make("a", { download: name, href: address }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/* What is shown, in the colours of a light page, above what the page says of it. */
function saveSvg() {
  const copy = draw("svg", { "font-family": "Helvetica, Arial, sans-serif" });
  const drawn = world.cloneNode(true);
  drawn.removeAttribute("transform");
  for (const hidden of drawn.querySelectorAll('[display="none"]')) hidden.remove();
  const { fill: paint, stroke } = data.light;
  for (const [style, colours] of [["fill", paint], ["stroke", stroke]]) {
    for (const [selector, colour] of Object.entries(colours)) {
      for (const part of drawn.querySelectorAll(selector)) part.setAttribute(style, colour);
    }
  }
  for (const edge of drawn.querySelectorAll(".edge.negative")) {
    edge.setAttribute("stroke-dasharray", "5,3");
  }
  const [left, top, right, bottom] = placed.box;
  const x = left - (placed.rows.length ? 80 : 20), y = top - HEAD - 20;
  const width = right - x + 20, height = bottom - y + 20;
  const lines = [...data.caption, summary.textContent].map((line, index) => draw("text",
    { x: x + 10, y: y + height + 16 * (index + 1), "font-size": 11, fill: "#1f2933" }, line));
  const tall = height + 16 * (lines.length + 1);
  const paper = draw("rect", { x, y, width, height: tall, fill: "#ffffff" });
  fill(copy, { viewBox: `${x} ${y} ${width} ${tall}`, width, height: tall }, [paper, drawn, ...lines]);
  save(new XMLSerializer().serializeToString(copy), "circuit.svg", "image/svg+xml");
}

function saveJson() {
  const ours = new Set(["rank", "shape", "frame", "tag"]);
  const kept = (name, value) => (ours.has(name) ? undefined : value);
  const plain = (list) => list.map((item) => JSON.parse(JSON.stringify(item, kept)));
  const graph = { ...info, view: { pinned: marks.pinned, groups: marks.groups } };
  const file = { ...data.circuit, graph, nodes: plain(nodes), edges: plain(edges) };
  save(`${JSON.stringify(file, null, 1)}\n`, "circuit.json", "application/json");
}

function shortcuts(event) {
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (event.key === "Escape") clearPins();
  else if (!typing && event.key === "z" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    undo();
  }
}

function start() {
  const [title, ...lines] = data.caption;
  const caption = lines.length
    ? [make("details", {}, make("summary", {}, lines[0]),
      ...lines.slice(1).map((line) => make("p", {}, line)))] : [];
  sizes.append(chart, slider, sizeLine, faithLine);
  document.body.append(make("header", {}, make("h1", {}, title), ...caption), reading,
    make("main", {}, make("div", { id: "stage" }, controls(), svg,
      make("div", { id: "foot" }, message, summary)), panel));
  recall();
  read();
  d3.select(svg).call(zoomer).on("dblclick.zoom", null);
  svg.addEventListener("keydown", (event) => { if (event.target === svg) steer(event); });
  document.addEventListener("keydown", shortcuts);
  update();
  addEventListener("resize", fit);
  addEventListener("hashchange", () => { recall(); read(); update(); });
}

start();
