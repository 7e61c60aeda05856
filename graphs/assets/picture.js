"use strict";

/* The picture: nodes, edges, layers; pan and zoom. */

const INK = "#1f2933", PALE = "#66717d", BAND = "#f2f4f6", DARK = "#3b4754", GREY = "#d9dee3";
const FONT = "Helvetica, Arial, sans-serif";
const svg = draw("svg", { id: "picture", role: "img", "font-family": FONT });

/* Places for few parts and for all; the one in use, the way of its edges, the ports they enter,
   and its extent. */
let placed = null, routes = null, entered = null, bounds = null, whole = null, view = null;

const between = (source, target) => `${source}\n${target}`;

/* Takes the smallest layout that has room for what is asked for, and draws everything there. */
function arrange() {
  const fitting = data.layouts.find((layout) => state.count <= layout.size) || data.layouts.at(-1);
  if (fitting === placed) return;
  placed = fitting;
  routes = new Map(placed.routes.map(([from, to, points]) => [between(from, to), points]));
  measure();
  const isIn = (item) => item.rank === undefined || item.rank < placed.size;
  entered = new Set(edges.filter(isIn).map((edge) => between(edge.target, edge.key)));
  for (const node of nodes) node.shape = node.id in placed.spots ? drawNode(node) : null;
  for (const edge of edges) edge.shape = isIn(edge) ? drawEdge(edge) : null;
  // Weak edges come first, so that the strong ones lie on top.
  const paths = isNodes ? [] : ranked.filter(isIn).reverse().map((edge) => edge.shape);
  const boxes = nodes.map((node) => node.shape).filter(Boolean);
  svg.replaceChildren(...drawLayers(), ...paths, ...boxes);
  look(whole);
}

function measure() {
  const spots = Object.values(placed.spots);
  const rights = spots.map(([x, , width]) => x + width / 2);
  const lanes = [...routes.values()].flat().map(([x]) => x);
  bounds = {
    width: Math.max(...rights, ...lanes, 200),
    height: Math.max(...spots.map(([, y]) => y), 100),
  };
  whole = { x: -80, y: -40, width: bounds.width + 110, height: bounds.height + 70 };
}

function drawNode(node) {
  const [x, y, width] = placed.spots[node.id];
  const isEnd = node.kind === "input" || node.kind === "logits";
  const isTinted = isNodes && isScored(node);
  const plain = isEnd ? DARK : node.kind === "head" ? "#ffffff" : GREY;
  node.frame = draw("rect", {
    x: x - width / 2,
    y: y - HALF,
    width,
    height: 2 * HALF,
    rx: { mlp: HALF, neuron: HALF / 2 }[node.kind] || 0,
    fill: isTinted ? tone(node) : plain,
    "fill-opacity": isTinted ? 0.15 + 0.5 * share(node) : 1,
    stroke: INK,
  });
  const label = text(node.id, x, y + 3.5, 10, "middle", isEnd && !isTinted ? "#ffffff" : INK);
  const ports = ["q", "k", "v"].filter((port) => entered.has(between(node.id, port)));
  const slots = ports.flatMap((port, index) => drawSlot(node, port, index, ports.length));
  return draw("g", {
    class: "node",
    tabindex: 0,
    "aria-label": about(node),
    onclick: () => pin(node.id),
    onkeydown: (event) => { if (event.key === "Enter") pin(node.id); },
    onmouseenter: () => hover(node.id),
    onmouseleave: () => hover(null),
  }, draw("title", {}, about(node)), node.frame, label, ...slots);
}

/* A head's input: edges into the port end in the middle of its slot. */
function drawSlot(node, port, index, total) {
  const [x, y, room] = placed.spots[node.id];
  const width = room / total;
  const left = x - room / 2 + width * index;
  const top = y - HALF - SLOT;
  node.slots = { ...node.slots, [port]: left + width / 2 };
  const looks = { fill: BAND, stroke: INK, "stroke-width": 0.7 };
  const frame = draw("rect", { x: left, y: top, width, height: SLOT, ...looks });
  return [frame, text(port, left + width / 2, top + 8.5, 8, "middle", INK)];
}

function drawEdge(edge) {
  const [startX, startY] = placed.spots[edge.source];
  const [x, y] = placed.spots[edge.target];
  const end = edge.key
    ? [byName.get(edge.target).slots[edge.key], y - HALF - SLOT]
    : [x, y - HALF];
  // A lane is upright beside the nodes it passes.
  const lanes = (routes.get(between(edge.source, edge.target)) || [])
    .flatMap(([laneX, laneY]) => [[laneX, laneY - HALF], [laneX, laneY + HALF / 2]]);
  const [thin, thick] = data.widths;
  return draw("path", {
    d: curve([[startX, startY + HALF], ...lanes, end]),
    fill: "none",
    stroke: tone(edge),
    "stroke-width": (thin + (thick - thin) * share(edge)).toFixed(2),
    "stroke-dasharray": edge.score < 0 ? "5,3" : "none",
    onmouseenter: () => describeEdge(edge),
    onmouseleave: update,
  }, draw("title", {}, `${edgeName(edge)}  ${number(edge.score)}`));
}

/* Down through every point, upright in each. */
function curve(points) {
  const steps = points.slice(1).map(([x, y], index) => {
    const [fromX, fromY] = points[index];
    const bend = Math.max((y - fromY) * 0.45, 12);
    return `C${fromX},${fromY + bend} ${x},${y - bend} ${x},${y}`;
  });
  return `M${points[0].join()}${steps.join("")}`;
}

function drawLayers() {
  const reach = new Map();
  for (const node of nodes.filter((each) => each.shape)) {
    const y = placed.spots[node.id][1];
    const [low, high] = reach.get(node.layer) || [y, y];
    reach.set(node.layer, [Math.min(low, y), Math.max(high, y)]);
  }
  const isInner = ([layer]) => layer >= 0 && layer < info.anatomy.n_layers;
  const inner = [...reach].filter(isInner).sort((a, b) => a[0] - b[0]);
  return inner.flatMap(([layer, [low, high]], index) => {
    const size = { width: bounds.width + 90, height: high - low + 46 };
    const band = { x: -70, y: low - 28, ...size, fill: index % 2 ? BAND : "#ffffff" };
    const label = text(`layer ${layer}`, -64, (low + high) / 2 + 3, 9, "start", PALE);
    return [draw("rect", band), label];
  });
}

function text(told, x, y, size, anchor, colour) {
  const looks = { x, y, "font-size": size, "text-anchor": anchor, fill: colour };
  return draw("text", looks, told);
}

function look(next) {
  view = next;
  svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
}

/* Where on the picture the pointer is. */
function under(event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
}

function zoom(factor, still = { x: view.x + view.width / 2, y: view.y + view.height / 2 }) {
  const width = Math.min(Math.max(view.width * factor, 60), whole.width * 4);
  const grown = width / view.width;
  look({
    x: still.x - (still.x - view.x) * grown,
    y: still.y - (still.y - view.y) * grown,
    width,
    height: view.height * grown,
  });
}

function followPointer() {
  let held = null;
  svg.addEventListener("pointerdown", (event) => { held = under(event); });
  svg.addEventListener("pointermove", (event) => {
    if (!event.buttons) held = null;
    svg.classList.toggle("dragged", held !== null);
    if (!held) return;
    const now = under(event);
    look({ ...view, x: view.x + held.x - now.x, y: view.y + held.y - now.y });
  });
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(event.deltaY * 0.0015), under(event));
  }, { passive: false });
}
