"use strict";

/* What the page holds, and which of it is shown. */

const data = JSON.parse(document.getElementById("data").textContent);
const { nodes, edges, graph: info } = data.circuit;
const SLOT = 11, HALF = 10;

/* Text only ever enters the page through textContent and attributes. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

const template = document.createElement("template");
template.innerHTML = "<svg></svg>";
const namespace = template.content.firstChild.namespaceURI;

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(namespace, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const number = (value) => Number(value.toPrecision(3)).toString().replace("-", "\u2212");
const isNodes = info.level === "node";
const items = isNodes ? nodes.filter((node) => typeof node.score === "number") : edges;
const unit = isNodes ? "node" : "edge";
const largest = Math.max(...items.map((item) => Math.abs(item.score)), 0) || 1;
const share = (item) => Math.abs(item.score) / largest;
const tone = (item) => (item.score < 0 ? data.colours.negative : data.colours.positive);
const edgeName = (edge) => `${edge.source}->${edge.target}${edge.key ? `<${edge.key}>` : ""}`;
const place = (node) => (node.id.includes("@") ? node.id.slice(node.id.indexOf("@") + 1) : null);
const byName = new Map(nodes.map((node) => [node.id, node]));

const ranked = [...items].sort((a, b) => Math.abs(b.score) - Math.abs(a.score));
ranked.forEach((item, index) => { item.rank = index; });
const routes = new Map(data.routes.map(([source, target, points]) => [`${source}\n${target}`, points]));
const portsOf = new Map();
for (const edge of edges) {
  if (edge.key) portsOf.set(edge.target, (portsOf.get(edge.target) || new Set()).add(edge.key));
}

const state = {
  count: items.length, query: "", pinned: null, hovered: null, place: null, prompt: 0,
  off: new Set(),
};

function isOn(item) {
  if (item.rank >= state.count || state.off.has(item.score < 0 ? "negative" : "positive")) return false;
  if (isNodes) return !state.off.has(item.kind) && isHere(item);
  const ends = [byName.get(item.source), byName.get(item.target)];
  if (state.off.has(`port ${item.key}`) || ends.some((end) => state.off.has(end.kind))) return false;
  return ends.some(isHere);
}

function isHere(node) {
  return state.place === null || place(node) === state.place;
}

function nodesOn(shown) {
  if (isNodes) return new Set(nodes.filter((n) => n.rank === undefined || shown.has(n)).map((n) => n.id));
  const touched = new Set([...shown].flatMap((edge) => [edge.source, edge.target]));
  const alone = (node) => ["input", "logits"].includes(node.kind) && !state.off.has(node.kind);
  return new Set(nodes.filter((n) => touched.has(n.id) || alone(n)).map((n) => n.id));
}

function update() {
  const shown = new Set(items.filter(isOn));
  const present = nodesOn(shown);
  const focus = state.pinned || state.hovered;
  const found = (name) => name.toLowerCase().includes(state.query);
  for (const node of nodes) {
    const near = !focus || node.id === focus || [...shown].some((e) => touches(e, focus) && touches(e, node.id));
    show(node.shape, present.has(node.id), near && (!state.query || found(node.id)));
    node.frame.setAttribute("stroke-width", node.id === state.pinned ? 3 : 1);
  }
  for (const edge of edges) {
    const lit = (!focus || touches(edge, focus)) && (!state.query || found(edge.source) || found(edge.target));
    show(edge.shape, shown.has(edge), lit, 0.35 + 0.65 * Math.sqrt(share(edge)));
  }
  describe(shown, present, focus);
}

function touches(item, name) {
  return item.source === name || item.target === name;
}

function show(shape, present, lit, strength = 1) {
  shape.setAttribute("display", present ? "inline" : "none");
  shape.setAttribute("opacity", lit ? strength : 0.08);
}
