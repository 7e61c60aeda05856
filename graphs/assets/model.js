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

const isNodes = info.level === "node";
const unit = isNodes ? "node" : "edge";
const isScored = (item) => typeof item.score === "number";
const items = isNodes ? nodes.filter(isScored) : edges;
const byName = new Map(nodes.map((node) => [node.id, node]));
const largest = Math.max(...items.map((item) => Math.abs(item.score)), 0) || 1;

const ranked = [...items].sort((a, b) => Math.abs(b.score) - Math.abs(a.score));
ranked.forEach((item, index) => { item.rank = index; });

const share = (item) => Math.abs(item.score) / largest;
const tone = (item) => (item.score < 0 ? data.colours.negative : data.colours.positive);
const number = (value) => Number(value.toPrecision(3)).toString().replace("-", "\u2212");
const edgeName = ({ source, target, key }) => `${source}->${target}${key ? `<${key}>` : ""}`;
const itemName = (item) => (isNodes ? item.id : edgeName(item));

/* The position a node is tied to, or null. */
function placeOf(node) {
  const mark = node.id.indexOf("@");
  return mark < 0 ? null : node.id.slice(mark + 1);
}

const state = {
  count: data.opening,
  query: "",
  pinned: null,
  hovered: null,
  place: null,
  prompt: 0,
  off: new Set(),
};

function isOn(item) {
  const sign = item.score < 0 ? "negative" : "positive";
  if (item.rank >= state.count || state.off.has(sign)) return false;
  if (isNodes) return !state.off.has(item.kind) && isHere(item);
  const ends = [byName.get(item.source), byName.get(item.target)];
  if (state.off.has(`port ${item.key}`)) return false;
  return !ends.some((end) => state.off.has(end.kind)) && ends.some(isHere);
}

function isHere(node) {
  return state.place === null || placeOf(node) === state.place;
}

/* Names of the nodes to draw: those shown edges touch, and the two ends of the model. */
function nodesOn(shown) {
  if (isNodes) {
    return new Set(nodes.filter((node) => !isScored(node) || shown.has(node)).map((n) => n.id));
  }
  const names = nodes.filter((node) => ["input", "logits"].includes(node.kind)).map((n) => n.id);
  for (const edge of shown) names.push(edge.source, edge.target);
  return new Set(names);
}

function update() {
  arrange();
  const shown = new Set(items.filter(isOn));
  const present = nodesOn(shown);
  const focus = state.pinned || state.hovered;
  const near = new Set([focus]);
  for (const edge of isNodes ? [] : shown) {
    if (edge.source === focus) near.add(edge.target);
    if (edge.target === focus) near.add(edge.source);
  }
  const found = (name) => name.toLowerCase().includes(state.query);
  for (const node of nodes.filter((each) => each.shape)) {
    show(node.shape, present.has(node.id), (!focus || near.has(node.id)) && found(node.id));
    node.frame.setAttribute("stroke-width", node.id === state.pinned ? 3 : 1);
  }
  for (const edge of edges.filter((each) => each.shape)) {
    const touches = !focus || edge.source === focus || edge.target === focus;
    const isLit = touches && (found(edge.source) || found(edge.target));
    show(edge.shape, shown.has(edge), isLit, 0.35 + 0.65 * Math.sqrt(share(edge)));
  }
  describe(shown, present, focus);
}

function show(shape, isPresent, isLit, strength = 1) {
  shape.setAttribute("display", isPresent ? "inline" : "none");
  shape.setAttribute("opacity", isLit ? strength : 0.08);
}
