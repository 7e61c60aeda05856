"use strict";

/* The picture: nodes, edges, layers; pan and zoom. */

const svg = draw("svg", { id: "picture", role: "img", "font-family": "Helvetica, Arial, sans-serif" });

function drawNode(node) {
  const [x, y, width] = data.spots[node.id];
  const isEnd = node.kind === "input" || node.kind === "logits";
  const slots = ["q", "k", "v"].filter((port) => (portsOf.get(node.id) || new Set()).has(port));
  let fillTone = isEnd ? "#3b4754" : node.kind === "head" ? "#ffffff" : "#d9dee3";
  if (isNodes && typeof node.score === "number") fillTone = tone(node);
  const round = node.kind === "mlp" ? HALF : node.kind === "neuron" ? 4 : 0;
  node.frame = draw("rect", {
    x: x - width / 2, y: y - HALF, width, height: 2 * HALF, rx: round,
    fill: fillTone, stroke: "#1f2933", "fill-opacity": isNodes && node.score ? 0.15 + 0.5 * share(node) : 1,
  });
  const label = draw("text", {
    x, y: y + 3.5, "text-anchor": "middle", "font-size": 10,
    fill: isEnd && !(isNodes && node.score) ? "#ffffff" : "#1f2933",
  }, node.id);
  const parts = [draw("title", {}, about(node)), node.frame, label];
  slots.forEach((port, index) => parts.push(...drawSlot(node, port, index, slots.length)));
  return draw("g", {
    class: "node", tabindex: 0, "aria-label": about(node),
    onclick: () => pin(node.id), onkeydown: (event) => { if (event.key === "Enter") pin(node.id); },
    onmouseenter: () => hover(node.id), onmouseleave: () => hover(null),
  }, ...parts);
}

function drawSlot(node, port, index, total) {
  const [x, y, width] = data.spots[node.id];
  const left = x - width / 2 + (width * index) / total;
  const top = y - HALF - SLOT;
  const middle = left + width / total / 2;
  (node.slots = node.slots || {})[port] = middle;
  return [
    draw("rect", { x: left, y: top, width: width / total, height: SLOT, fill: "#f2f4f6", stroke: "#1f2933", "stroke-width": 0.7 }),
    draw("text", { x: middle, y: top + 8.5, "text-anchor": "middle", "font-size": 8, fill: "#1f2933" }, port),
  ];
}

function drawEdge(edge) {
  const [x1, y1] = data.spots[edge.source];
  const target = byName.get(edge.target);
  const [x2, y2] = data.spots[edge.target];
  const endX = edge.key ? target.slots[edge.key] : x2;
  const start = y1 + HALF, end = y2 - HALF - (edge.key ? SLOT : 0);
  // A lane is upright beside the nodes it passes.
  const lanes = (routes.get(`${edge.source}\n${edge.target}`) || [])
    .flatMap(([x, y]) => [[x, y - HALF], [x, y + HALF / 2]]);
  const [thin, thick] = data.widths;
  return draw("path", {
    d: curve([[x1, start], ...lanes, [endX, end]]),
    fill: "none", stroke: tone(edge), "stroke-width": (thin + (thick - thin) * share(edge)).toFixed(2),
    "stroke-dasharray": edge.score < 0 ? "5,3" : "none",
    onmouseenter: () => describeEdge(edge), onmouseleave: update,
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
  for (const node of nodes) {
    const y = data.spots[node.id][1];
    const [low, high] = reach.get(node.layer) || [y, y];
    reach.set(node.layer, [Math.min(low, y), Math.max(high, y)]);
  }
  const inner = [...reach].filter(([layer]) => layer >= 0 && layer < info.anatomy.n_layers).sort((a, b) => a[0] - b[0]);
  return inner.flatMap(([layer, [low, high]], index) => [
    draw("rect", {
      x: -70, y: low - 28, width: bounds.width + 90, height: high - low + 46,
      fill: index % 2 ? "#f2f4f6" : "#ffffff",
    }),
    draw("text", { x: -64, y: (low + high) / 2 + 3, "font-size": 9, fill: "#66717d" }, `layer ${layer}`),
  ]);
}

const spots = Object.values(data.spots);
const bounds = {
  width: Math.max(
    ...spots.map(([x, , width]) => x + width / 2), ...[...routes.values()].flat().map(([x]) => x), 200),
  height: Math.max(...spots.map(([, y]) => y), 100),
};
const whole = { x: -80, y: -40, width: bounds.width + 110, height: bounds.height + 70 };
let view = { ...whole };

function look(next) {
  view = next;
  svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
}

function zoom(factor, event) {
  const box = svg.getBoundingClientRect();
  const fx = event ? (event.clientX - box.left) / box.width : 0.5;
  const fy = event ? (event.clientY - box.top) / box.height : 0.5;
  const width = Math.min(Math.max(view.width * factor, 60), whole.width * 4);
  const height = (view.height * width) / view.width;
  look({ x: view.x + (view.width - width) * fx, y: view.y + (view.height - height) * fy, width, height });
}

function dragging() {
  let last = null;
  svg.addEventListener("pointerdown", (event) => { last = event; });
  svg.addEventListener("pointermove", (event) => {
    if (!last || !event.buttons) { last = null; svg.classList.remove("dragged"); return; }
    const scale = Math.max(view.width / svg.clientWidth, view.height / svg.clientHeight);
    svg.classList.add("dragged");
    look({ ...view, x: view.x - (event.clientX - last.clientX) * scale, y: view.y - (event.clientY - last.clientY) * scale });
    last = event;
  });
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(event.deltaY * 0.0015), event);
  }, { passive: false });
}
