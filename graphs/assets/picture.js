"use strict";

/* The picture: the circuit at one step, panned and zoomed by d3-zoom. */

const FONT = 10, LEAST = 9, TOUCH = 24, EDGE = 16, HEAD = 26;
const world = draw("g", { id: "world" });
const svg = draw("svg", { id: "picture", role: "group", tabindex: 0,
  "aria-label": "the circuit; arrow keys move it, plus and minus zoom" }, world);

let placed = null;
const zoomer = d3.zoom().scaleExtent([0.05, 20]).on("zoom", (event) => {
  world.setAttribute("transform", event.transform.toString());
  state.scale = event.transform.k;
});

/* Draws the step's layout, when it is another one than before. */
function arrange() {
  if (placed === step()) return;
  placed = step();
  for (const node of nodes) node.shape = null;
  for (const edge of edges) edge.shape = null;
  const paths = isNodes ? [] : placed.items.map((at, order) => [edges[at], placed.paths[order]]);
  // Weak edges come first, so that the strong ones lie on top.
  paths.sort((a, b) => b[0].rank - a[0].rank);
  for (const [edge, path] of paths) edge.shape = drawEdge(edge, path);
  const boxes = nodes.filter((node) => node.id in placed.spots);
  for (const node of boxes) node.shape = drawNode(node);
  world.replaceChildren(...drawBands(), ...paths.map(([edge]) => edge.shape),
    ...boxes.map((node) => node.shape));
  fit();
}

/* The curve's points, in the page's form: a start, then three points for every piece. */
function curve(path) {
  const pairs = [];
  for (let i = 0; i < path.length; i += 2) pairs.push(`${path[i]},${path[i + 1]}`);
  const pieces = [];
  for (let i = 1; i < pairs.length; i += 3) pieces.push(`C${pairs.slice(i, i + 3).join(" ")}`);
  return `M${pairs[0]}${pieces.join("")}`;
}

function drawEdge(edge, path) {
  const [thin, thick] = data.widths;
  const scale = placed.short ? 0.7 : 1;
  return draw("path", {
    class: `edge ${tone(edge)}`,
    d: curve(path),
    "stroke-width": (scale * (thin + (thick - thin) * share(edge))).toFixed(2),
    onmouseenter: () => { state.edge = edge; showEdge(edge); },
    onmouseleave: () => { state.edge = null; update(); },
    onclick: () => { state.chosen = edgeName(edge); update(); },
  }, draw("title", {}, `${edgeName(edge)}  ${number(edge.score)}`));
}

const KINDS = {
  head: "head", mlp: "MLP", neuron: "neuron", latent: "latent", error: "error term",
  input: "input", logit: "logit", logits: "logits",
};

function drawNode(node) {
  const [x, y, width, height] = placed.spots[node.id];
  const isEnd = ["input", "logit", "logits"].includes(node.kind);
  const ports = placed.slots && node.kind === "head" ? placed.ports[node.id] || "" : "";
  const room = ports ? 11 : 0;
  const tinted = isNodes && isScored(node);
  node.frame = draw("rect", {
    x: x - width / 2, y: y - height / 2, width, height,
    rx: { mlp: height / 2, neuron: height / 4, latent: height / 3 }[node.kind] || 2,
    class: tinted ? `frame ${tone(node)}` : `frame ${node.kind}`,
    "fill-opacity": tinted ? 0.12 + 0.4 * share(node) : null,
  });
  const looks = { class: isEnd && !tinted ? "label end" : "label", "text-anchor": "middle",
    "aria-hidden": "true" };
  const label = draw("text", { x: x + room / 2, y: y + 3.5, "font-size": FONT, ...looks },
    placed.labels[node.id]);
  const slots = [...ports].flatMap((port, order) => {
    const tall = (height - 2) / ports.length;
    const top = y - height / 2 + 1 + tall * order;
    return [
      draw("rect", { class: "slot", x: x - width / 2, y: top, width: room, height: tall }),
      draw("text", { class: "label port", x: x - width / 2 + room / 2, y: top + tall / 2 + 3,
        "font-size": 9, "text-anchor": "middle", "aria-hidden": "true" }, port),
    ];
  });
  node.tag = draw("text", { class: "tag", x: x + width / 2 - 2, y: y - height / 2 - 2,
    "font-size": 9, "text-anchor": "end", "aria-hidden": "true" });
  return draw("g", {
    class: "node",
    tabindex: 0,
    role: "button",
    "data-name": node.id,
    onclick: () => press(node.id),
    onkeydown: (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      press(node.id);
    },
    onmouseenter: () => { state.hovered = node.id; update(); },
    onmouseleave: () => { state.hovered = null; update(); },
  }, draw("title", {}, about(node)), node.frame, ...slots, label, node.tag);
}

/* Bands of layers (or of positions across, layers up), each second one grey. */
function drawBands() {
  const [left, top, right, bottom] = placed.box;
  const bands = placed.columns.map(([, low, high], order) => draw("rect", {
    class: order % 2 ? "band" : "band plain", x: low - 4, y: top - HEAD, width: high - low + 8,
    height: bottom - top + HEAD + 8 }));
  const labels = placed.columns.map(([told, low, high]) => {
    const wide = !placed.short && !placed.rows.length;
    return draw("text", { class: "pale", x: (low + high) / 2, y: top - HEAD + 14,
      "font-size": FONT, "text-anchor": "middle" }, wide ? `layer ${told}` : told);
  });
  // Bands may overlap, so all of them lie behind all labels.
  const across = [...bands, ...labels];
  const up = placed.rows.map(([told, low, high]) => draw("text", { class: "pale", x: left - 12,
    y: (low + high) / 2 + 3, "font-size": FONT, "text-anchor": "end" }, told));
  if (!placed.columns.length || placed.rows.length || !placed.short) return [...across, ...up];
  const named = draw("text", { class: "pale", x: placed.columns[0][1] - 4, y: top - HEAD,
    "font-size": FONT, "text-anchor": "start" }, "layer");
  return [...across, named];
}

function paint(shown, present) {
  const focus = focused();
  const near = new Set(focus);
  for (const edge of isNodes ? [] : shown) {
    if (focus.has(edge.source)) near.add(edge.target);
    if (focus.has(edge.target)) near.add(edge.source);
  }
  const found = (name) => name.toLowerCase().includes(state.query);
  for (const node of nodes.filter((each) => each.shape)) {
    show(node.shape, present.has(node.id), (!focus.size || near.has(node.id)) && found(node.id));
    mark(node);
  }
  for (const edge of edges.filter((each) => each.shape)) {
    const touches = !focus.size || focus.has(edge.source) || focus.has(edge.target)
      || focus.has(edgeName(edge));
    const isLit = touches && (found(edge.source) || found(edge.target));
    show(edge.shape, shown.has(edge), isLit, 0.35 + 0.65 * Math.sqrt(share(edge)));
  }
}

function show(shape, isPresent, isLit, strength = 1) {
  shape.setAttribute("display", isPresent ? "inline" : "none");
  shape.setAttribute("opacity", isLit ? strength : 0.2);
}

/* The whole of the picture where its labels can then be read and its nodes be touched; else as
   much of it, from the left (of a circuit with positions: from below), as has room. */
function fit() {
  const { width, height } = svg.getBoundingClientRect();
  if (!width || !height || !placed) return;
  const [left, top, right, bottom] = placed.box;
  const beside = placed.rows.length ? 60 : 0;
  const wide = right - left + 2 * EDGE + beside, tall = bottom - top + HEAD + 2 * EDGE + 8;
  const narrow = matchMedia("(max-width: 700px), (pointer: coarse)").matches;
  const lowest = Math.min(...Object.values(placed.spots).map((spot) => spot[3]), 24);
  const least = narrow ? TOUCH / lowest : LEAST / FONT;
  const whole = Math.min(width / wide, height / tall, 1.6);
  const k = Math.max(whole, least);
  const spare = (room, size) => Math.max((room - size * k) / 2, 0);
  const x = spare(width, wide) - (left - EDGE - beside) * k;
  const start = spare(height, tall) - (top - HEAD - EDGE) * k;
  const y = placed.rows.length && tall * k > height ? height - (bottom + EDGE) * k : start;
  look(d3.zoomIdentity.translate(x, y).scale(k));
}

const look = (transform) => d3.select(svg).call(zoomer.transform, transform);
const zoomBy = (factor) => d3.select(svg).call(zoomer.scaleBy, factor);

/* Brings a node to the middle, large enough to be read. */
function goTo(name) {
  const spot = placed.spots[name];
  if (!spot) return;
  const { width, height } = svg.getBoundingClientRect();
  const k = Math.max(d3.zoomTransform(svg).k, 1.2);
  look(d3.zoomIdentity.translate(width / 2 - spot[0] * k, height / 2 - spot[1] * k).scale(k));
}

/* A node that the details have covered, as they may on a telephone, comes back into sight. */
function bringIntoView(name) {
  const spot = placed.spots[name];
  if (!spot) return;
  const { width, height } = svg.getBoundingClientRect();
  const [x, y] = d3.zoomTransform(svg).apply(spot);
  if (x < 0 || y < 0 || x > width || y > height) goTo(name);
}

function steer(event) {
  const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
  const { k } = d3.zoomTransform(svg);
  if (event.key in moves) {
    const [dx, dy] = moves[event.key];
    d3.select(svg).call(zoomer.translateBy, dx / k, dy / k);
  } else if (event.key === "+") zoomBy(1.25);
  else if (event.key === "-") zoomBy(0.8);
  else return;
  event.preventDefault();
}
